"""Configs of tokenizers and preprocessing: JSON round trip, and invalid values refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from diptych.errors import InputError
from diptych.inputs import PreprocessConfig, TokenizerConfig

CONFIGS = [
    TokenizerConfig(),
    TokenizerConfig(vocab_size=8192, context_length=32, pad_id=3),
    TokenizerConfig(
        kind="file", vocab_size=32000, context_length=64, pad_id=1, file="t.json", clean="canonicalize"
    ),
    PreprocessConfig(),
    PreprocessConfig(
        size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear", resize="squash"
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_json(config: Any) -> None:
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TokenizerConfig, {"vocab": 3}, "unknown key 'vocab' for TokenizerConfig; known: clean,"),
        (TokenizerConfig, {"vocab_size": 513}, "outside 514"),
        (TokenizerConfig, {"vocab_size": 49409}, "to 49408"),
        (TokenizerConfig, {"vocab_size": "many"}, "whole number"),
        (TokenizerConfig, {"context_length": 1}, "at least 2"),
        (TokenizerConfig, {"pad_id": 49408}, "not below"),
        (TokenizerConfig, {"kind": "bert"}, "one of: clip, file"),
        (TokenizerConfig, {"clean": "upper"}, "one of: lower, canonicalize"),
        (TokenizerConfig, {"file": "t.json"}, "use kind='file'"),
        (PreprocessConfig, {"colour": 1}, "unknown key 'colour'"),
        (PreprocessConfig, {"size": 0}, "at least 1"),
        (PreprocessConfig, {"size": True}, "whole number"),
        (PreprocessConfig, {"interpolation": "nearest"}, "one of: bicubic, bilinear"),
        (PreprocessConfig, {"resize": "pad"}, "one of: shortest, squash, longest"),
        (PreprocessConfig, {"fill_color": 256}, "at most 255"),
        (PreprocessConfig, {"mean": [0.5]}, "three numbers"),
        (PreprocessConfig, {"mean": "abc"}, "three numbers"),
        (PreprocessConfig, {"std": [0.5, 0, 0.5]}, "above 0"),
    ],
)
def test_what_does_not_fit_is_named(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind.from_dict(values)


def test_the_room_loads_no_torch_and_no_vocabulary() -> None:
    code = (
        "import sys, diptych.inputs, diptych.media; print({'torch', 'tokenizers', 'ftfy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
