"""Cached features of a locked image tower: equal training, reuse, resuming, bad records, processes."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.errors import DataError, InputError, TrainingError
from diptych.model.config import EfficientNetConfig
from diptych.training import train
from diptych.training.data.augment import AugmentConfig
from diptych.training.data.feature_cache import FeatureLoader
from diptych.training.data.loader import Mixture, PairLoader
from diptych.training.data.sources.sources import TarPairs
from diptych.training.data.streaming import TarStream
from tests.training import processes
from tests.training.data.make_pairs import caption_members, toy_tokenizer, write_tar
from tests.training.make_runs import TINY, TINY_VIT, config_of, logged, moved, weights, write_pairs

AUGMENT = AugmentConfig(scale=(0.3, 1.0), flip=0.5)
WHOLE = AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0))
LITE = dataclasses.replace(TINY, vision=EfficientNetConfig(image_size=32, width=0.25, depth=0.3, hidden=8))
VIT = dataclasses.replace(TINY_VIT, vision=dataclasses.replace(TINY_VIT.vision, patch_dropout=0.0))


def locked(pairs, out, **changes):
    options = {"lock": "image", "lock_image_unlocked_groups": 1, "features_folder": str(out.parent / "cache")}
    return config_of(pairs, out, **{**options, **changes})


def loader_of(pairs, folder, *, encode, views=3, **options):
    options = {"batch_size": 8, "image_size": 16, "augment": AUGMENT, **options}
    data = Mixture(((TarPairs(str(pairs)), 1.0),))
    return FeatureLoader(
        data, toy_tokenizer, encode=encode, shape=(4,), views=views, folder=folder, weights="w", **options
    )


def mean_colours(images):
    """A toy encoder: mean of each channel, and 1."""
    return torch.cat([images.mean((2, 3)), torch.ones(len(images), 1)], dim=1)


def silent(total):
    return lambda done: None


@pytest.mark.parametrize("shape", [TINY, VIT, LITE], ids=["resnet", "vit", "efficientnet"])
def test_training_equals_that_on_pictures(tmp_path, shape):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    options = {"model": shape, "augment": WHOLE, "epochs": 2, "lr": 1e-2}
    train(locked(pairs, tmp_path / "pictures", **options))
    train(locked(pairs, tmp_path / "features", **options, cache_features=1))
    pictures, features = logged(tmp_path / "pictures"), logged(tmp_path / "features")
    assert len(pictures) == len(features) == 4
    for one, other in zip(pictures, features, strict=True):  # features are rounded to float16
        assert other[:2] == pytest.approx(one[:2], rel=1e-2)
    assert pictures[0][1] != pytest.approx(pictures[-1][1], rel=2e-2)


@pytest.mark.parametrize("groups", [2, 3, 5, 8])
def test_feature_maps_of_a_partly_locked_tower(tmp_path, groups):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    options = {"model": LITE, "augment": WHOLE, "epochs": 2, "lr": 1e-4, "lock_image_unlocked_groups": groups}
    train(locked(pairs, tmp_path / "pictures", **options))
    train(locked(pairs, tmp_path / "features", **options, cache_features=1))
    pictures, features = logged(tmp_path / "pictures"), logged(tmp_path / "features")
    for one, other in zip(pictures, features, strict=True):  # feature maps are rounded to float16
        assert other[:2] == pytest.approx(one[:2], rel=2e-2)
    trained = moved(tmp_path / "pictures", tmp_path / "features")
    assert "visual.conv_head.weight" in trained
    assert "visual.conv_stem.weight" not in trained


def test_groups_of_other_towers_cannot_be_cached(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    with pytest.raises(TrainingError, match="needs an EfficientNet"):
        train(locked(pairs, tmp_path / "r", cache_features=1, lock_image_unlocked_groups=2))


def test_dropped_features(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    for name, rate in (("none", 0.0), ("half", 0.5), ("again", 0.5)):
        train(locked(pairs, tmp_path / name, cache_features=1, feature_dropout=rate, epochs=1))
    assert moved(tmp_path / "none", tmp_path / "half")
    assert not moved(tmp_path / "half", tmp_path / "again")
    for rate in (-0.1, 1.0):
        with pytest.raises(InputError, match="a fraction below 1"):
            locked(pairs, tmp_path / "r", cache_features=1, feature_dropout=rate)
    with pytest.raises(InputError, match="needs cache_features"):
        locked(pairs, tmp_path / "r", feature_dropout=0.5)


def test_features_are_computed_once(tmp_path, monkeypatch):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    train(locked(pairs, tmp_path / "a", cache_features=3, epochs=2))
    (file,) = (tmp_path / "cache").glob("*.f16")
    monkeypatch.setattr(FeatureLoader, "_view_chunk", None)  # decodes the pictures
    train(locked(pairs, tmp_path / "b", cache_features=3, epochs=2))
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)
    monkeypatch.undo()
    # Everything that the features depend on is part of the file's name.
    for changes in ({"seed": 1}, {"cache_features": 2}, {"augment": WHOLE}):
        train(locked(pairs, tmp_path / f"c{changes}", **{"cache_features": 3, "epochs": 1, **changes}))
    assert len(list((tmp_path / "cache").glob("*.f16"))) == 4
    assert file.stat().st_size == 32 * 3 * 256 * 2


def test_an_interrupted_file_is_continued(tmp_path, monkeypatch):
    pairs = write_pairs(tmp_path / "p.tar", 100)
    whole = loader_of(pairs, tmp_path / "whole", encode=mean_colours)
    whole.prepare(silent)
    encoded = []

    def failing(images):
        encoded.append(len(images))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return mean_colours(images)

    broken = loader_of(pairs, tmp_path / "broken", encode=failing)
    monkeypatch.setattr("diptych.training.data.feature_cache.SAVE_EVERY", 1)
    with pytest.raises(KeyboardInterrupt):
        broken.prepare(silent)
    assert json.loads(broken.path.with_suffix(".json").read_text()) == {"rows": 64}
    again = loader_of(pairs, tmp_path / "broken", encode=mean_colours)
    counted = []
    again.prepare(lambda total: counted.append)
    assert counted == [64, 32, 4]
    assert again.path.read_bytes() == whole.path.read_bytes()


def test_a_note_without_its_file_counts_nothing(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 40)
    whole = loader_of(pairs, tmp_path, encode=mean_colours)
    whole.prepare(silent)
    before = whole.path.read_bytes()
    whole.path.unlink()

    def interrupted(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # before the first note
        loader_of(pairs, tmp_path, encode=interrupted).prepare(silent)
    again = loader_of(pairs, tmp_path, encode=mean_colours)
    again.prepare(silent)
    assert again.path.read_bytes() == before


def test_other_pictures_with_the_same_keys_get_another_file(tmp_path):
    for folder, count in (("a", 16), ("b", 16)):
        (tmp_path / folder).mkdir()
        write_pairs(tmp_path / folder / "p.tar", count)
    data = (tmp_path / "b" / "p.tar").read_bytes()
    again = loader_of(tmp_path / "b" / "p.tar", tmp_path, encode=mean_colours)
    assert again.path == loader_of(tmp_path / "a" / "p.tar", tmp_path, encode=mean_colours).path
    other = write_tar(tmp_path / "b" / "p.tar", caption_members(range(16)))
    assert other.read_bytes() != data
    assert loader_of(other, tmp_path, encode=mean_colours).path != again.path


def test_views_and_captions(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 64)
    loader = loader_of(pairs, tmp_path, encode=mean_colours)
    loader.prepare(silent)
    rows = np.fromfile(loader.path, np.float16).reshape(64, 3, 4)
    assert len({row.tobytes() for row in rows[5]}) == 3  # crops differ
    seen = {}
    for epoch in range(6):
        for batch in loader.batches(epoch):
            assert batch.crops.dtype == torch.float16
            assert torch.equal(batch.part(slice(0, 2), torch.device("cpu"))[0], batch.crops[:2].float())
            for key, row in zip(batch.keys, batch.crops.numpy(), strict=True):
                seen.setdefault(key, set()).add(row.tobytes())
    assert max(map(len, seen.values())) == 3
    assert set().union(*seen.values()) <= {row.tobytes() for row in rows.reshape(-1, 4)}
    plain = loader_of(pairs, tmp_path, encode=mean_colours, views=1)
    plain.prepare(silent)
    assert np.array_equal(np.fromfile(plain.path, np.float16).reshape(64, 4), rows[:, 0])


def test_the_captions_are_those_of_the_same_run_on_pictures(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 64)
    augment = AugmentConfig(flip=0.5, drop_words=0.3)
    features = loader_of(pairs, tmp_path, encode=mean_colours, augment=augment)
    features.prepare(silent)
    data = Mixture(((TarPairs(str(pairs)), 1.0),))
    pictures = PairLoader(data, toy_tokenizer, batch_size=8, image_size=16, augment=augment)
    for one, other in zip(features.batches(1), pictures.batches(1), strict=True):
        assert one.captions == other.captions
        assert one.keys == other.keys
        assert torch.equal(one.groups, other.groups)


def test_bad_records_are_left_out(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32, corrupt=8)
    for _ in range(2):  # computed, then read
        loader = loader_of(pairs, tmp_path, encode=mean_colours)
        loader.prepare(silent)
        assert loader.report.skipped == {"picture cannot be decoded": 4}
        batches = list(loader.batches(0))
        assert len(batches) == loader.steps(0) == 4
        assert not any(key.startswith("bad") for batch in batches for key in batch.keys)
        assert all(torch.isfinite(batch.crops).all() for batch in batches)


def test_a_run_resumes(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    train(locked(pairs, tmp_path / "whole", cache_features=2))
    short = locked(pairs, tmp_path / "parts", cache_features=2)
    train(dataclasses.replace(short, max_minutes=1e-9))
    while not train(dataclasses.replace(short, max_minutes=1e-9), resume=True).finished:
        pass
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_share_the_file(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    processes.run(2, "tests.training.data.test_feature_cache:train_here", tmp_path, pairs)
    train(locked(pairs, tmp_path / "alone", cache_features=2, lanes=2))
    one, other = weights(tmp_path / "alone"), weights(tmp_path / "two")
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], atol=1e-5), name
    assert len(list((tmp_path / "cache").glob("*.f16"))) == 1


def train_here(folder, pairs):
    train(locked(Path(pairs), Path(folder) / "two", cache_features=2, lanes=2))


def test_features_that_float16_cannot_hold(tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 8)
    loader = loader_of(pairs, tmp_path, encode=lambda images: torch.full((len(images), 4), math.inf))
    with pytest.raises(DataError, match="float16 cannot hold"):
        loader.prepare(silent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lock": "", "lock_image_unlocked_groups": 0}, "needs a locked image tower"),
        ({"lock": "text", "lock_image_unlocked_groups": 0}, "needs a locked image tower"),
        ({"image_sizes": ((1.0, 32),)}, "image_sizes"),
        ({"teachers": ("default",)}, "teachers"),
        ({"chunk": -1}, "chunk"),
        ({"parallel": "fsdp"}, "fsdp"),
        ({"lora": 4, "start": "default"}, "lora"),
        ({"data": Mixture(((TarStream("a.tar"), 1.0),))}, "TarStream"),
        ({"objective": "words"}, "objective"),
    ],
)
def test_refused_combinations(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        locked(tmp_path / "p.tar", tmp_path / "r", **{"cache_features": 1, **changes})
