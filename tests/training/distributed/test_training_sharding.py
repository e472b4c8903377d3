"""FSDP2 on two processes: seeded initial shards, no full copy of the weights, gathered on one process."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing import assert_close

from diptych.model.config import RobertaConfig, TimmConfig, ViTConfig
from diptych.model.sharding import full_tensor, is_sharded
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.sharding import outside_parameters, sharded_groups, sharding_blocks
from diptych.training.distributed.world import DistributedWorld, World
from diptych.training.loop.trainable_model import TrainableModel
from diptych.training.objectives.build import build_objective
from diptych.training.objectives.objective import Objective
from tests.importable_timm import import_timm
from tests.training import processes
from tests.training.make_runs import TINY, TINY_VIT, config_of

CPU = torch.device("cpu")
CAPTIONS = ("a", "b", "c")
TRUNK = TimmConfig(image_size=32, model_name="test_convnext")  # 9 blocks
ROBERTA = RobertaConfig(context_length=16, vocab_size=40, width=32, heads=2, layers=2, positions=20, pad_id=1)


def shards(folder: str) -> None:
    """Compare sharded models with full ones."""
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
            trainable = TrainableModel(config, Accelerator(CPU), world)
            check(plain, trainable, world)
    assert len(sharded_groups(trainable.objective)[1]) == 9 + ROBERTA.layers  # of the last one, built by timm
    check_trunk_gradients(world)
    world.close()
    del library


def check_trunk_gradients(world: DistributedWorld) -> None:
    """A timm tower has the gradients of one process; its blocks are gathered when they are called."""
    processes.TOWERS["trunk"] = dataclasses.replace(processes.VIT, vision=TRUNK)
    expected = processes.gradients_of(World(), "trunk", "infonce")
    gradients = processes.gradients_of(world, "trunk", "infonce", "fsdp")
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert_close(gradient, expected[name], rtol=1e-8, atol=1e-13, msg=name)


def check(plain: Objective, trainable: TrainableModel, world: DistributedWorld) -> None:
    """Equal initial weights; only unshardable parameters are whole; the first process gathers the model."""
    expected = plain.state_dict()
    own = trainable.objective.state_dict()
    assert own.keys() == expected.keys()
    outside = {id(p) for p in outside_parameters(trainable.objective, "fsdp")}
    for name, parameter in trainable.objective.named_parameters():
        assert is_sharded(parameter) != (id(parameter) in outside), name
    for name, tensor in own.items():
        assert torch.equal(full_tensor(tensor), expected[name]), name
    root, blocks = sharded_groups(trainable.objective)
    whole = sum(p.numel() for p in trainable.objective.parameters() if id(p) in outside)
    assert root + sum(blocks) + whole == sum(p.numel() for p in plain.parameters())
    assert blocks
    weights = trainable.weights()
    assert (weights is None) == (world.rank > 0)
    if weights is not None:
        for name, tensor in weights.items():
            assert torch.equal(tensor, expected[f"model.{name}"]), name
    check_evaluation(plain, trainable, world)


def check_evaluation(plain: Objective, trainable: TrainableModel, world: DistributedWorld) -> None:
    """An evaluator gets the outputs of the full model, while at most one block is gathered."""
    called: list[int] = []

    def work(objective: Objective) -> float:
        assert world.first
        model, whole = objective.model, plain.model.eval()
        image_size = whole.config.vision.image_size
        images, tokens = torch.rand(2, 3, image_size, image_size), torch.full((2, 12), 2)

        def send(block: int) -> None:
            # Before a block is gathered, all are absent: each weight is a single number in memory.
            state = [t for module in sharding_blocks(objective) for t in module.state_dict().values()]
            assert {t.untyped_storage().nbytes() // t.element_size() for t in state} == {1}
            called.append(block)
            DistributedWorld.send_from_first(world, block)

        with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(world, "send_from_first", send)
            # Full towers use the memory format channels last, which changes the order of summation.
            assert_close(model.encode_image(images), whole.encode_image(images))
            assert_close(model.encode_text(tokens), whole.encode_text(tokens))
            if isinstance(whole.config.vision, ViTConfig):
                assert_close(model.visual.patch_embeddings(images), whole.visual.patch_embeddings(images))  # type: ignore[operator]
        assert [tensor.shape for tensor in model.parameters()] == [t.shape for t in whole.parameters()]
        assert {tensor.device for tensor in model.parameters()} == {CPU}
        return 0.5

    assert trainable.evaluate(work) == 0.5
    if world.first and trainable.config.objective == "contrastive":
        assert set(called) == set(range(len(sharding_blocks(plain))))


def test_shards_are_those_of_the_whole_model(tmp_path: Path) -> None:
    processes.run(2, "tests.training.distributed.test_training_sharding:shards", tmp_path)
    assert not dist.is_initialized()
