"""Locked towers with unlocked last groups: which parameters learn, and that nothing else changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.errors import InputError
from diptych.model.config import CLIPConfig, EfficientNetConfig, RobertaConfig, TimmConfig
from diptych.model.initialise import build
from diptych.training import Run, train
from diptych.training.checkpoints.checkpoint import read
from diptych.training.loop.optim import optimizer
from diptych.training.objectives.objective import Contrastive
from diptych.training.objectives.tuning import frozen_modules, locked_parameters
from tests.importable_timm import import_timm
from tests.training import processes
from tests.training.make_runs import TINY, TINY_VIT, config_of, logged, moved, same, weights, write_pairs

VIT = dataclasses.replace(
    TINY_VIT,
    vision=dataclasses.replace(TINY_VIT.vision, layers=2),
    text=dataclasses.replace(TINY_VIT.text, layers=2),
)
ROBERTA = dataclasses.replace(
    TINY,
    text=RobertaConfig(context_length=16, vocab_size=40, width=32, heads=2, layers=2, positions=20, pad_id=1),
)


def learning(shape: CLIPConfig, **options: Any) -> set[str]:
    """Names of the parameters that are not locked."""
    model = build(shape, device="meta")
    locked = set(map(id, locked_parameters(model, **options)))
    assert locked, options
    return {name for name, parameter in model.named_parameters() if id(parameter) not in locked}


def names(found: set[str], tower: str) -> set[str]:
    """Prefixes of the names of one tower, up to the first number."""
    visual = {name for name in found if name.startswith("visual.")}
    chosen = visual if tower == "image" else found - visual - {"logit_scale"}
    short = set()
    for name in chosen:
        words = name.removeprefix("visual.").split(".")
        end = next((n for n, word in enumerate(words) if word.isdigit()), 0)
        short.add(".".join(words[: end + 1]))
    return short


VIT_GROUPS = [
    {"proj", "ln_post"},
    {"transformer.resblocks.1"},
    {"transformer.resblocks.0"},
    {"conv1", "class_embedding", "positional_embedding", "ln_pre"},
]
TEXT_GROUPS = [
    {"text_projection", "ln_final"},
    {"transformer.resblocks.1"},
    {"transformer.resblocks.0"},
    {"token_embedding", "positional_embedding"},
]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_last_groups_of_transformers_are_those_of_open_clip(count: int) -> None:
    images = learning(VIT, lock="image", groups=count)
    texts = learning(VIT, lock="text", layers=count)
    assert names(images, "image") == set().union(*VIT_GROUPS[:count])
    assert names(images, "text") == set().union(*TEXT_GROUPS)
    assert names(texts, "text") == set().union(*TEXT_GROUPS[:count])
    assert names(texts, "image") == set().union(*VIT_GROUPS)
    both = learning(VIT, lock="both", groups=count, layers=1)
    assert both == {name for name in images if name.startswith("visual.")} | learning(
        VIT, lock="both", layers=1
    )
    assert "logit_scale" in both


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_groups_of_a_resnet_are_its_stages(count: int) -> None:
    result = learning(TINY, lock="image", groups=count)
    stages = {name[7:13] for name in result if name.startswith("visual.layer")}
    assert stages == {f"layer{n}" for n in range(6 - max(1, count), 5)}
    assert not any(name.startswith(("visual.conv", "visual.bn")) for name in result)
    assert ("visual.meanpool.c_proj.weight" in result) == (count > 0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_the_groups_of_an_efficientnet_are_its_last_convolution_and_its_stages(count: int) -> None:
    shape = dataclasses.replace(TINY, vision=EfficientNetConfig(image_size=32, width=0.25, hidden=8))
    result = {name for name in learning(shape, lock="image", groups=count) if name.startswith("visual.")}
    stages = {int(name.split(".")[2]) for name in result if name.startswith("visual.blocks.")}
    assert stages == set(range(9 - max(2, count), 7))
    assert ("visual.conv_head.weight" in result) == (count > 1)
    assert ("visual.head.fc1.weight" in result) == (count > 0)
    assert "visual.conv_stem.weight" not in result


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_groups_of_a_transformers_text_tower_are_its_layers(count: int) -> None:
    result = {name for name in learning(ROBERTA, lock="text", layers=count) if name.startswith("text.")}
    layers = {name.split(".")[4] for name in result if "encoder.layer" in name}
    assert layers == {str(n) for n in range(3 - count, 2)}
    assert not any("embeddings" in name for name in result)
    assert any(name.startswith("text.proj") for name in result)


@pytest.mark.parametrize(("name", "part"), [("test_convnext", "stages"), ("test_vit", "blocks")])
def test_the_groups_of_timm_are_its_stages_or_blocks(name: str, part: str) -> None:
    library = import_timm()
    side = 160 if name == "test_vit" else 32
    shape = dataclasses.replace(TINY, vision=TimmConfig(image_size=side, model_name=name))
    trunk = build(shape, device="meta").visual.trunk
    numbers = len(getattr(trunk, part))
    for count in (1, 2, 3):
        result = {n for n in learning(shape, lock="image", groups=count) if n.startswith("visual.")}
        inside = {int(n.split(".")[3]) for n in result if n.startswith(f"visual.trunk.{part}.")}
        assert inside == set(range(numbers - count + 1, numbers))
        assert any(n.startswith("visual.head.") for n in result)
        assert not any("stem" in n or "patch_embed" in n for n in result)
    del library


@pytest.mark.parametrize(("shape", "groups"), [(TINY, 6), (VIT, 4)])
def test_more_groups_than_can_be_unlocked_are_refused(shape: CLIPConfig, groups: int) -> None:
    with pytest.raises(InputError, match=f"the image tower has {groups} groups, and {groups} are to be"):
        learning(shape, lock="image", groups=groups)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lock_image_unlocked_groups": 1}, "it is not locked: set lock=image"),
        ({"lock": "image", "lock_text_unlocked_layers": 1}, "it is not locked: set lock=text"),
        ({"lock": "both"}, "leaves nothing to train"),
        ({"lock": "image", "lock_image_unlocked_groups": -1}, "expected 0 or more"),
    ],
)
def test_locks_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_of(Path("x"), Path("y"), **changes)


def test_what_is_locked_leaves_training_mode_and_nothing_else_does() -> None:
    model = build(TINY, seed=0)
    visual = model.visual
    visual.layer1.append(torch.nn.Dropout(0.5))
    visual.layer4.append(torch.nn.Dropout(0.5))
    for parameter in locked_parameters(model, "image", groups=2):
        parameter.requires_grad_(False)
    model.train()
    for module in frozen_modules(model):
        module.training = False
    training = {name for name, module in visual.named_modules() if module.training}
    assert {"layer4", "layer4.0.bn1", "layer4.1", "layer4.0"} <= training
    assert not any(name.startswith(("layer1", "layer2", "layer3", "bn", "conv")) for name in training)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


@pytest.fixture(scope="module")
def start(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("start") / "run"
    train(Run(config_of(pairs, out, lr=3e-3)))
    return str(out)


UNLOCKED = {"lock": "image", "lock_image_unlocked_groups": 2, "layer_decay": 0.5, "lr": 0.01, "epochs": 2}


@pytest.mark.parametrize("chunk", [0, 4])
def test_only_the_last_groups_move_and_a_run_in_legs_is_the_same(
    pairs: Path, tmp_path: Path, start: str, chunk: int
) -> None:
    options = {**UNLOCKED, "start": start, "chunk": chunk}
    train(Run(config_of(pairs, tmp_path / "whole", **options)))
    result = {name for name in moved(Path(start), tmp_path / "whole") if name.startswith("visual.")}
    assert {name.split(".")[1] for name in result} == {"layer4", "meanpool"}
    assert any("running_mean" in name for name in result)  # the batch norms that learn follow the data
    config = config_of(pairs, tmp_path / "legs", **options)
    train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    remembered = read(tmp_path / "legs")[0].tensors["optimizer"]
    pictures = {name for name in remembered if name.startswith("model.visual.")}
    assert pictures
    assert not any(name.startswith(("model.visual.layer1", "model.visual.conv")) for name in pictures)
    train(Run(config), resume=True)
    assert logged(tmp_path / "legs") == logged(tmp_path / "whole")
    assert same(tmp_path / "legs", tmp_path / "whole")


def test_layer_wise_rates_count_from_the_end_of_what_learns() -> None:
    model = build(TINY, seed=0)
    for parameter in locked_parameters(model, "image", groups=3):
        parameter.requires_grad_(False)
    config = config_of(Path("x"), Path("y"), layer_decay=0.5)
    groups = optimizer(Contrastive(model), config).param_groups
    share = {id(p): group["share"] for group in groups for p in group["params"]}
    shares = {name: share.get(id(p)) for name, p in model.named_parameters()}
    assert [shares[f"visual.layer{n}.0.conv1.weight"] for n in (1, 2, 3, 4)] == [None, None, 0.25, 0.5]


def test_low_rank_changes_are_in_the_unlocked_groups_alone(pairs: Path, tmp_path: Path, start: str) -> None:
    options = {**UNLOCKED, "start": start, "lora": 2, "layer_decay": 1.0}
    train(Run(config_of(pairs, tmp_path / "run", **options)))
    result = moved(Path(start), tmp_path / "run")
    pictures = {name for name in result if name.startswith("visual.")}
    assert pictures
    assert all(name.startswith(("visual.layer4.", "visual.meanpool.")) for name in pictures)
    assert "transformer.resblocks.0.attn.in_proj_weight" in result


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_the_last_groups_and_go_on_exactly(
    pairs: Path, tmp_path: Path, parallel: str
) -> None:
    changes = {"parallel": parallel, "lock": "both", "epochs": 2, "ema": 0.0}
    changes |= {"lock_image_unlocked_groups": 2, "lock_text_unlocked_layers": 1}
    whole, legs = tmp_path / "whole", tmp_path / "legs"
    processes.run(2, "tests.training.processes:training", tmp_path, pairs, whole, json.dumps(changes))
    short = json.dumps({**changes, "max_minutes": 1e-9})
    processes.run(2, "tests.training.processes:training", tmp_path, pairs, legs, short)
    processes.run(2, "tests.training.processes:training", tmp_path, pairs, legs, json.dumps(changes))
    assert same(whole, legs)
    begun = build(TINY_VIT, seed=0).state_dict()
    result = {name for name, tensor in weights(whole).items() if not torch.equal(tensor, begun[name])}
    assert {"visual.proj", "visual.transformer.resblocks.0.mlp.c_fc.weight", "text_projection"} <= result
    still = ("visual.conv1", "visual.class_embedding", "token_embedding", "transformer.")
    assert not any(name.startswith(still) for name in result)
