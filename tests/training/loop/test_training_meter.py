"""Training metrics and diagnosis: costs, throughput, and one warning per problem with its likely cause."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from diptych.errors import TrainingError
from diptych.model.cost import cost, peak_rate
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.training import Run, StepReport, train
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.loop.meter import Diagnosis, Meter, first_bad_layer
from diptych.training.objectives.predicting import BUCKETS, cost_of
from tests.training.make_runs import TINY, TINY_VIT, config_of, write_pairs


def report(step: int = 500, **changes: float) -> StepReport:
    plain = StepReport(step, 1000, 1, 2.0, 20.0, 1e-3, 1.0, 100.0, 0.02, 60.0)
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wait_share": 0.6}, "waits for data 60% of the time"),
        ({"scale": 99.9}, "the scale is at its limit, 100"),
        ({"loss": 5.53}, "at the level of chance (5.545)"),
    ],
)
def test_what_is_wrong_is_said_once_and_not_at_once(changes: dict[str, float], said: str) -> None:
    diagnosis = Diagnosis(256, True, 100.0, 10)
    result = [list(diagnosis.of(report(**changes))) for _ in range(6)]
    assert [len(texts) for texts in result] == [0, 0, 1, 0, 0, 0]
    assert said in result[2][0]


def test_a_healthy_run_and_a_young_one_hear_nothing() -> None:
    diagnosis = Diagnosis(256, True, 100.0, 10)
    assert not [text for _ in range(5) for text in diagnosis.of(report())]
    assert not [text for _ in range(5) for text in diagnosis.of(report(step=5, loss=5.54, scale=100.0))]
    # An occasional wait is no warning.
    result = [text for n in range(9) for text in diagnosis.of(report(wait_share=0.9 * (n % 3 > 0)))]
    assert not result


def test_costs_are_the_architectures() -> None:
    small, large = cost(preset("ViT-B-32"), 77), cost(preset("ViT-B-16"), 77)
    patches = 12 * (2 * 12 * 768**2 * 50 + 4 * 50**2 * 768) + 2 * 49 * 3072 * 768 + 2 * 768 * 512
    assert small.picture == pytest.approx(patches, rel=1e-3)
    assert 3.5 < large.picture / small.picture < 4.2
    assert cost(preset("ViT-B-32"), 11).text < small.text / 6
    assert small.pair == 3 * (small.picture + small.text)
    assert cost(TINY, 8, 64).picture > 3 * cost(TINY, 8, 32).picture
    assert peak_rate(torch.device("cpu"), torch.float32) > 1e9


def test_what_predicts_costs_its_decoder_or_its_head() -> None:
    config, text, width = config_of(Path("pairs"), Path("run")), TINY.text, TINY.vision.feature_width  # type: ignore[union-attr]
    tower = cost(TINY, 9)
    projection = 2 * width * TINY.embed_dim
    for objective, entries in (("words", text.vocab_size), ("ngrams", BUCKETS), ("classes", 4)):
        changes = {"objective": objective, "classes": tuple("abcd")}
        result = cost_of(dataclasses.replace(config, **changes), 9)  # type: ignore[arg-type]
        assert (result.picture, result.text) == (tower.picture - projection, 2 * width * entries)
    result = cost_of(dataclasses.replace(config, objective="captions"), 9)
    cells, query = 4, 8  # the patches of 32 pixels, and all tokens but the first
    length = cells + query
    blocks = text.layers * (2 * 12 * text.width**2 * length + 4 * length**2 * text.width)
    ends = 2 * cells * width * text.width + 2 * query * text.width * text.vocab_size
    assert result.picture == tower.picture - projection
    assert result.text == blocks + ends
    assert cost_of(config, 9) == tower


def test_a_log_says_how_well_the_machine_is_used(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.tar", 64)
    train(Run(config_of(pairs, tmp_path / "run", epochs=1)))
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert all(0 < line["utilisation"] < 1.5 and line["memory"] > 0.05 for line in steps)


def test_utilisation_counts_what_the_model_needs_and_no_padding() -> None:
    config = config_of(Path("pairs"), Path("run"), workers=3)
    meter = Meter(config, Accelerator(torch.device("cpu")), torch.float32, 2)

    class Two:
        tokens = torch.tensor([[1022, 5, 1023, 0, 0, 0], [1022, 5, 6, 7, 1023, 0]])
        crops = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        wait_seconds, work_seconds = 0.0, 0.5

        def __len__(self) -> int:
            return 2

    meter.add((torch.tensor(2.0), torch.tensor(1.0)), Two())  # type: ignore[arg-type]
    meter.began -= 10
    result = meter.report(step=1, steps=2, epoch=0, scale=1.0, lr=0.1, seconds=10.0)
    needed = 2 * cost(TINY, 4).pair
    assert result.utilisation == pytest.approx(needed / 10 / meter.peak_flops, abs=6e-5)
    assert result.pairs_per_second == pytest.approx(0.4, abs=0.05)
    assert result.decoded_per_second == 24  # 2 pairs in half a second, by 3 workers in each of 2 processes


@pytest.mark.parametrize("shape", [TINY, TINY_VIT])
def test_the_first_bad_layer_is_named(shape) -> None:  # type: ignore[no-untyped-def]
    model = build(shape, seed=0)
    images, tokens = torch.randn(2, 3, 32, 32), torch.tensor([[1022, 5, 1023], [1022, 6, 1023]])
    assert first_bad_layer(model, images, tokens) == ""
    assert first_bad_layer(model, images * float("nan"), tokens) == "the output of visual.conv1"
    with torch.no_grad():
        model.transformer.blocks[0].mlp.c_fc.weight[3] = float("inf")
    assert first_bad_layer(model, images, tokens) == "the weights of transformer.resblocks.0.mlp.c_fc.weight"


def test_a_run_that_goes_astray_says_where(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.tar", 64)
    config = config_of(pairs, tmp_path / "run", lr=1e30, warmup=0, clip=0.0)
    with pytest.raises(TrainingError, match=r"diverged, first in the (weights|output) of "):
        train(Run(config))
