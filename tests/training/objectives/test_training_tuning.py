"""Fine-tuning: locked towers, low-rank adapters, layer-wise rates, distillation; frozen weights stay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from diptych.errors import InputError, TrainingError
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.training import Listener, Run, fine_tuning_defaults, train
from diptych.training.loop.optim import optimizer
from diptych.training.objectives.objective import Contrastive
from diptych.training.objectives.tuning import add_low_rank, depth, merge_low_rank, split_low_rank
from tests.training.make_runs import TINY, TINY_VIT, config_of, logged, moved, same, weights, write_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


@pytest.fixture(scope="module")
def start(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("start") / "run"
    train(Run(config_of(pairs, out, lr=3e-3)))
    return str(out)


@pytest.mark.parametrize("lock", ["image", "text"])
def test_a_locked_tower_stays_to_the_last_bit(pairs: Path, tmp_path: Path, start: str, lock: str) -> None:
    train(Run(config_of(pairs, tmp_path / "run", start=start, lock=lock, lr=0.01)))
    result = moved(Path(start), tmp_path / "run")
    pictures = {name for name in result if name.startswith("visual.")}
    texts = result - pictures - {"logit_scale"}
    assert (bool(pictures), bool(texts)) == (lock == "text", lock == "image")  # running statistics too


def test_low_rank_changes_are_kept_as_a_plain_model(pairs: Path, tmp_path: Path, start: str) -> None:
    config = config_of(pairs, tmp_path / "run", start=start, lora=2, lr=0.02, chunk=4)
    train(Run(config))
    result = moved(Path(start), tmp_path / "run")
    assert {"visual.layer1.0.conv1.weight", "transformer.resblocks.0.attn.in_proj_weight"} <= result
    assert not {name for name in result if "bn" in name or "ln_" in name or "embedding" in name}
    before, after = weights(Path(start)), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    change = (
        after["transformer.resblocks.0.mlp.c_fc.weight"] - before["transformer.resblocks.0.mlp.c_fc.weight"]
    )
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2


def test_a_run_with_low_rank_changes_goes_on_exactly(pairs: Path, tmp_path: Path, start: str) -> None:
    options = {"start": start, "lora": 2, "lr": 0.02}
    train(Run(config_of(pairs, tmp_path / "whole", **options)))
    config = config_of(pairs, tmp_path / "legs", **options)
    train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    train(Run(config), resume=True)
    assert same(tmp_path / "whole", tmp_path / "legs")


@pytest.mark.parametrize("shape", [TINY, TINY_VIT])
def test_low_rank_changes_begin_with_nothing_and_can_be_merged(shape) -> None:  # type: ignore[no-untyped-def]
    plain, changed = build(shape, seed=3).eval(), build(shape, seed=3).eval()
    add_low_rank(changed, 2, 16.0)
    images, tokens = torch.randn(2, 3, 32, 32), torch.tensor([[1022, 5, 1023], [1022, 9, 1023]])
    for item, other in zip(plain(images, tokens), changed(images, tokens), strict=True):
        assert torch.equal(item, other)
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if name.endswith(".b"):
                parameter.normal_()
    plain.load_state_dict(merge_low_rank(changed.state_dict(), changed))
    for item, other in zip(plain(images, tokens), changed(images, tokens), strict=True):
        torch.testing.assert_close(item, other)
    learning = sum(p.numel() for p in changed.parameters() if p.requires_grad)
    assert learning < 0.5 * sum(p.numel() for p in plain.parameters())
    back = split_low_rank(plain.state_dict(), changed)
    assert back.keys() == changed.state_dict().keys()


@pytest.mark.parametrize("shape", [TINY, TINY_VIT])
def test_early_layers_learn_slower(shape) -> None:  # type: ignore[no-untyped-def]
    model = build(shape, seed=0)
    config = config_of(Path("x"), Path("y"), model=shape, layer_decay=0.5)
    groups = optimizer(Contrastive(model), config).param_groups
    share = {id(p): group["share"] for group in groups for p in group["params"]}
    shares = {name: share[id(p)] for name, p in model.named_parameters()}
    assert shares["logit_scale"] == shares["text_projection"] == 1.0
    assert shares["transformer.resblocks.0.mlp.c_fc.weight"] == 0.5
    assert shares["token_embedding.weight"] == 0.25
    if shape is TINY:
        assert [shares[f"visual.layer{n}.0.conv1.weight"] for n in (1, 2, 3, 4)] == [0.0625, 0.125, 0.25, 0.5]
        assert depth("visual.conv1.weight", model) == 5
        assert shares["visual.meanpool.c_proj.weight"] == 1.0
    else:
        assert shares["visual.conv1.weight"] == 0.25
    decays = {group["weight_decay"] for group in groups}
    assert decays == {0.0, 0.2}


def test_still_norms_keep_their_statistics_and_learn_their_gains(
    pairs: Path, tmp_path: Path, start: str
) -> None:
    train(Run(config_of(pairs, tmp_path / "run", start=start, still_norms=True, lr=0.01, chunk=4)))
    result = moved(Path(start), tmp_path / "run")
    assert "visual.bn1.weight" in result
    assert not {name for name in result if "running_" in name or "num_batches" in name}


@pytest.mark.parametrize(
    ("shape", "decay"),
    [("diptych-small", 0.35), ("ViT-B-32", 0.67), ("ViT-L-14", 0.81), (TINY, 0.35), ("diptych-lite", 0.56)],
)
def test_the_first_layer_learns_least_however_many_there_are(shape, decay: float) -> None:  # type: ignore[no-untyped-def]
    shape = preset(shape) if isinstance(shape, str) else shape
    fields = fine_tuning_defaults(shape)
    assert fields["layer_decay"] == decay
    model = build(shape, device="meta")
    deepest = max(depth(name, model) for name, _ in model.named_parameters())
    assert 0.003 < decay**deepest < 0.008
    assert fields["lr"] <= 5e-4
    config_of(Path("x"), Path("y"), **{**fields, "model": shape})


def losses(config) -> list[float]:  # type: ignore[no-untyped-def]
    seen: list[float] = []

    class Watch(Listener):
        def step(self, report) -> None:  # type: ignore[no-untyped-def]
            seen.append(report.loss)

    train(Run(config), listener=Watch())
    return seen


def test_a_model_that_is_its_own_teacher_has_nothing_to_learn_from_it(
    pairs: Path, tmp_path: Path, start: str
) -> None:
    still = {"start": start, "lr": 1e-30, "weight_decay": 0.0, "lock": "image", "epochs": 1}
    alone = losses(config_of(pairs, tmp_path / "alone", **still))
    # The teacher uses its running statistics, and so does a locked tower.
    taught = {"teachers": (start, start), "distil_similarity": 5.0}
    for name, more in (("a", taught), ("b", {"teachers": (start,), "distil_features": 5.0})):
        assert losses(config_of(pairs, tmp_path / name, **still, **more)) == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("features", [0.0, 2.0])
def test_a_teacher_is_followed(pairs: Path, tmp_path: Path, start: str, features: float) -> None:
    options = {"teachers": (start,), "distil_similarity": 3.0, "distil_features": features, "lr": 3e-3}
    config = config_of(pairs, tmp_path / "run", seed=9, epochs=10, chunk=8, **options)
    seen = losses(config)
    assert sum(seen[-4:]) < 0.7 * sum(seen[:4])
    leg = config_of(pairs, tmp_path / "legs", seed=9, epochs=10, chunk=8, **options)
    train(Run(dataclasses.replace(leg, max_minutes=1e-9)))
    train(Run(leg), resume=True)
    assert logged(tmp_path / "legs") == logged(tmp_path / "run")  # reports the first step that differs
    assert same(tmp_path / "run", tmp_path / "legs")


def test_a_teacher_with_other_ids_or_widths_is_refused(pairs: Path, tmp_path: Path, start: str) -> None:
    fewer = dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, vocab_size=1000))
    with pytest.raises(TrainingError, match="another tokenizer"):
        train(Run(config_of(pairs, tmp_path / "fewer", model=fewer, teachers=(start,))))
    wider = dataclasses.replace(TINY, embed_dim=24)
    with pytest.raises(TrainingError, match="needs one teacher"):
        train(Run(config_of(pairs, tmp_path / "w", model=wider, teachers=(start,), distil_features=1.0)))
    with pytest.raises(InputError, match="name them, such as start="):
        config_of(pairs, tmp_path / "x", lora=4)
