"""`start_image`: training starts from the tower of a pretrained image classifier."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from diptych.errors import WeightsError
from diptych.model.config import EfficientNetConfig
from diptych.model.efficientnet import FEATURES, EfficientNet
from diptych.training import train
from diptych.weights import load_checkpoint
from tests.training.make_runs import TINY, config_of, write_pairs

LITE0 = dataclasses.replace(TINY, vision=EfficientNetConfig(image_size=32))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A file of random weights in the shape of EfficientNet-Lite0, with a last layer of 10 classes."""
    torch.manual_seed(0)
    tower = EfficientNet(LITE0.vision, 1)
    state = {name: value for name, value in tower.state_dict().items() if not name.startswith("head.")}
    state |= {"classifier.weight": torch.zeros(10, FEATURES), "classifier.bias": torch.zeros(10)}
    path = tmp_path_factory.mktemp("classifier") / "lite0.pth"
    torch.save(state, path)
    return path, state


def test_the_tower_is_the_classifiers(tmp_path, classifier):
    path, state = classifier
    pairs = write_pairs(tmp_path / "p.tar", 16)
    out = tmp_path / "run"
    options = {"lock": "image", "lock_image_unlocked_groups": 1, "epochs": 1, "ema": 0.9}
    train(config_of(pairs, out, model=LITE0, start_image=str(path), **options))
    checkpoint = load_checkpoint(out)
    saved = checkpoint.state
    for name, tensor in state.items():
        if not name.startswith("classifier."):
            assert torch.equal(saved[f"visual.{name}"], tensor), name
    assert checkpoint.spec.training["start"].startswith("lite0.pth (sha256:")


def test_another_architecture_is_refused(tmp_path, classifier):
    path, _ = classifier
    pairs = write_pairs(tmp_path / "p.tar", 16)
    with pytest.raises(WeightsError, match=r"does not fit the image tower.*width=1, depth=1"):
        train(config_of(pairs, tmp_path / "run", start_image=str(path)))


def test_a_missing_file_is_named(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 16)
    with pytest.raises(WeightsError, match=r"none\.pth"):
        train(config_of(pairs, tmp_path / "run", model=LITE0, start_image=str(tmp_path / "none.pth")))
