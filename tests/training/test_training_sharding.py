"""FSDP2 on two processes: shards are set from the seed, nothing is held whole, one process gathers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import processes
import torch
import torch.distributed as dist
from make_runs import TINY, TINY_VIT, config_of

from diptych.model.config import RobertaConfig, TimmConfig
from diptych.model.sharding import full_tensor, is_sharded
from diptych.training.accelerator import Accelerator
from diptych.training.build import build_objective
from diptych.training.learner import Learner
from diptych.training.world import DistributedWorld, World, outside_parameters, sharded_groups
from importable_timm import import_timm

CPU = torch.device("cpu")
CAPTIONS = ("a", "b", "c")
TRUNK = TimmConfig(image_size=32, model_name="test_convnext")  # 9 blocks
ROBERTA = RobertaConfig(context_length=16, vocab_size=40, width=32, heads=2, layers=2, positions=20, pad_id=1)


def shards(folder: str) -> None:
    """What a learner of shards holds, against one that holds everything."""
    world = DistributedWorld(Accelerator(CPU), "gathered")
    library = import_timm()
    everything = ("contrastive", "captions", "words", "classes")
    for model, objectives in (
        (TINY_VIT, everything),
        (TINY, everything),
        (dataclasses.replace(TINY, vision=TRUNK, text=ROBERTA), ("contrastive",)),
    ):
        for objective in objectives:
            config = config_of(
                Path("x"), Path(folder), model=model, objective=objective, precision="bfloat16"
            )
            config = dataclasses.replace(config, parallel="fsdp", classes=CAPTIONS)
            plain = build_objective(config, CPU)
            learner = Learner(config, Accelerator(CPU), world)
            check(plain, learner, world)
    assert len(sharded_groups(learner.objective)[1]) == 9 + ROBERTA.layers  # of the last, which timm builds
    check_trunk_gradients(world)
    world.close()
    del library


def check_trunk_gradients(world: DistributedWorld) -> None:
    """A tower that timm builds has the gradients of one process, its blocks gathered as they are called."""
    processes.TOWERS["trunk"] = dataclasses.replace(processes.VIT, vision=TRUNK)
    expected = processes.gradients_of(World(), "trunk", "infonce")
    gradients = processes.gradients_of(world, "trunk", "infonce", "fsdp")
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-13, msg=name)


def check(plain: torch.nn.Module, learner: Learner, world: DistributedWorld) -> None:
    """Equal starts; whole only what may not be sharded; the gathered model on the first process alone."""
    expected = plain.state_dict()
    own = learner.objective.state_dict()
    assert own.keys() == expected.keys()
    outside = {id(p) for p in outside_parameters(learner.objective, "fsdp")}
    for name, parameter in learner.objective.named_parameters():
        assert is_sharded(parameter) != (id(parameter) in outside), name
    for name, tensor in own.items():
        assert torch.equal(full_tensor(tensor), expected[name]), name
    root, blocks = sharded_groups(learner.objective)
    whole = sum(p.numel() for p in learner.objective.parameters() if id(p) in outside)
    assert root + sum(blocks) + whole == sum(p.numel() for p in plain.parameters())
    assert blocks
    gathered = learner.evaluated()
    assert (gathered is None) == (world.rank > 0)
    if gathered is not None:
        for name, tensor in gathered.state_dict().items():
            assert torch.equal(tensor, expected[name]), name


def test_shards_are_those_of_the_whole_model(tmp_path: Path) -> None:
    processes.run(2, "test_training_sharding:shards", tmp_path)
    assert not dist.is_initialized()
