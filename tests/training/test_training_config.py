"""The config of a run: parsed by field types, validated, and serialised identically in every process."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.errors import InputError, UnknownModelError, WeightsError
from diptych.model.config import RobertaConfig
from tests.training.make_runs import TINY, config_of


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", "did you mean: epochs"),
        ("zzzz=3", "no field 'zzzz' to set; the fields are data, model"),
        ("epochs=many", r"epochs takes a value such as \d+ \(int\), not 'many'"),
        ("epochs=2.5", r"\(int\), not '2.5'"),
        ("epochs=0", "expected 1 or more"),
        ("precision=int8", "one of auto"),
        ("share_text=perhaps", "true or false"),
        ("augment.flop=1", "did you mean: flip"),
        ("augment=1", "set its fields"),
        ("seed.x=1", "has no fields"),
        ("epochs", "expected key=value"),
        ("patience=3", "needs monitor"),
        ("ema=1", "decay below 1"),
        ("model=ViT-Z", "unknown model 'ViT-Z'. Did you mean ViT"),
        ("model=default", "names weights .* start='default'"),
        ("model=hf-hub:org/repo", "names weights"),
        ("model=coca_ViT-B-32", "not loaded here: CoCa"),
        ("clip=-1", "0 or more"),
        ("augment.scale=(0.5,)", "cannot be set"),
        ("image_sizes=((1.0, 16),)", "32 pixels or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(assignment: str, message: str) -> None:
    with pytest.raises((InputError, UnknownModelError), match=message):
        config_of(Path("x"), Path("y")).override([assignment])


def test_a_tokenizer_that_is_a_file_must_be_named() -> None:
    config = config_of(Path("x"), Path("y"), model=dataclasses.replace(TINY, text=RobertaConfig()))
    with pytest.raises(WeightsError, match="tokenizer is a file: name it"):
        config.load_tokenizer()


def test_settings_that_need_each_other_come_in_any_order() -> None:
    changed = config_of(Path("x"), Path("y")).override(["patience=3", "monitor=val/recall"])
    assert (changed.patience, changed.monitor) == (3, "val/recall")


@pytest.mark.parametrize(
    ("field", "value"), [("loss", "info_nce"), ("same_caption", "ignored"), ("precision", "int8")]
)
def test_a_recipe_cannot_hold_a_word_that_is_none(field: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{field} is '{value}'"):
        config_of(Path("x"), Path("y"), **{field: value})


def test_a_config_is_the_same_text_in_every_process() -> None:
    code = (
        "from diptych.training.data import *; from diptych.training import *;"
        "from diptych.training.checkpoints.checkpoint import fingerprint;"
        "part = LabelledTar('x.tar', exclude=frozenset('abcdefgh'), rename={'b': 'c', 'a': 'd'});"
        "print(fingerprint(TrainConfig(data=Mixture(((part, 1.0),)))))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_settings_are_read_by_the_type_of_their_field() -> None:
    config = config_of(Path("x"), Path("y")).override(
        [
            "epochs=7",
            "lr=1e-4",
            "name=mine",
            "share_text=no",
            "augment.scale=(0.2, 0.8)",
            "model=RN50",
            "clip=0",
        ]
    )
    assert (config.epochs, config.lr, config.name, config.share_text) == (7, 1e-4, "mine", False)
    assert config.augment.scale == (0.2, 0.8)
    assert config.architecture.embed_dim == 1024
    assert isinstance(config.clip, float)


def test_the_shape_of_a_preset_can_be_changed(tmp_path: Path) -> None:
    config = config_of(tmp_path / "x.tar", tmp_path / "run", model="ViT-B-32")
    changed = config.override(["model.init_logit_bias=-10", "model.vision.patch_dropout=0.5", "epochs=2"])
    assert changed.architecture.init_logit_bias == -10.0
    assert changed.architecture.vision.patch_dropout == 0.5
    assert changed.epochs == 2
    assert config.override(["model=diptych-tiny"]).model == "diptych-tiny"
    ended = config.override(["model.text.end_id=7"]).architecture.text.end_id
    assert ended == 7
    assert isinstance(ended, int)  # an optional number that is given as an integer
    with pytest.raises(InputError, match=r"model\.vision\.patch_drop'"):
        config.override(["model.vision.patch_drop=0.5"])
    with pytest.raises(InputError, match="takes a"):
        config.override(["model.init_logit_bias=much"])
