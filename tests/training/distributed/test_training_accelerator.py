"""GPU placement, transfers and process groups, tested without a GPU by a fake torch.cuda."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from diptych.errors import InputError, TrainingError
from diptych.model.batch_norm import batch_norms, running_statistics
from diptych.model.config import TimmConfig
from diptych.model.timm_trunk import TimmTrunk
from diptych.training import Run, train
from diptych.training.distributed import joining, world
from diptych.training.distributed.accelerator import Accelerator, CudaAccelerator, pick_accelerator
from diptych.training.distributed.joining import join
from diptych.training.distributed.sharding import keep_tokens_on_host
from diptych.training.distributed.world import DistributedWorld, World
from diptych.training.loop import trainer
from diptych.training.loop.trainable_model import TrainableModel
from tests.importable_timm import import_timm
from tests.training.make_runs import TINY_VIT, config_of, same, write_pairs
from tests.waiting import HANG


class FakeCuda:
    """A fake machine with some GPUs; records every call."""

    def __init__(self, count: int = 4) -> None:
        self.count, self.calls = count, []

    def is_available(self) -> bool:
        return self.count > 0

    def device_count(self) -> int:
        return self.count

    def set_device(self, device: torch.device) -> None:
        self.calls.append(("set_device", str(device)))

    def synchronize(self, device: torch.device) -> None:
        self.calls.append(("synchronize", str(device)))

    def get_device_properties(self, device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(uuid=f"GPU-{device.index}")

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return 60 * 2**30, 80 * 2**30

    def memory_reserved(self, device: torch.device) -> int:
        return 12 * 2**30

    def memory_allocated(self, device: torch.device) -> int:
        return 2 * 2**30

    def max_memory_allocated(self, device: torch.device) -> int:
        return 5 * 2**30


def ranks(local_rank: int, size: int) -> dict[str, str]:
    return {"LOCAL_RANK": str(local_rank), "LOCAL_WORLD_SIZE": str(size)}


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_takes_the_gpu_of_its_number(name: str) -> None:
    devices = [pick_accelerator(name, ranks(n, 4), FakeCuda(4)).device for n in range(4)]
    assert [str(device) for device in devices] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert str(pick_accelerator(name, {}, FakeCuda(4)).device) == "cuda:0"
    # Slurm may show each of its tasks one GPU, which is cuda:0 for all of them.
    assert str(pick_accelerator(name, ranks(3, 4), FakeCuda(1)).device) == "cuda:0"


def test_what_cannot_be_placed_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"torch sees 2 GPUs.*--nproc-per-node 2"):
        pick_accelerator("cuda", ranks(2, 4), FakeCuda(2))
    with pytest.raises(TrainingError, match="device=cuda:1 names one GPU, but 4 processes"):
        pick_accelerator("cuda:1", ranks(0, 4), FakeCuda(4))
    with pytest.raises(
        TrainingError, match="there is no cuda:4 on this machine: expected one of cuda:0, cuda:1"
    ):
        pick_accelerator("cuda:4", {}, FakeCuda(2))
    with pytest.raises(InputError, match="needs CUDA, which torch does not find"):
        pick_accelerator("cuda", {}, FakeCuda(0))
    assert str(pick_accelerator("cuda:1", ranks(0, 1), FakeCuda(2)).device) == "cuda:1"
    assert pick_accelerator("auto", ranks(1, 2), FakeCuda(0)).device.type in ("cpu", "mps")
    assert str(pick_accelerator("cpu", ranks(1, 2), FakeCuda(4)).device) == "cpu"


def test_the_gpu_is_current_before_the_processes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(4)
    store = torch.distributed.HashStore()
    monkeypatch.setattr(joining, "_runs", itertools.count())
    for run in (0, 1):
        store.add(f"diptych/{run}/placed", 1)  # the other process has arrived already

    def meet(backend: str, **options: object) -> None:
        cuda.calls.append((backend, str(options["device_id"])))

    monkeypatch.setattr(joining.dist, "is_initialized", lambda: False)
    monkeypatch.setattr(joining, "rendezvous", lambda url, **options: iter([(store, 3, 2)]))
    monkeypatch.setattr(joining.dist, "init_process_group", meet)
    monkeypatch.setattr(joining, "DistributedWorld", lambda accelerator, exchange: World())
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    join(pick_accelerator("cuda", ranks(3, 4), cuda), "gathered")
    meeting = [("set_device", "cuda:3"), ("cpu:gloo,cuda:nccl", "cuda:3")]
    assert cuda.calls == meeting
    # torchrun's store still has the entries of the first run: its GPU is not that of another process.
    join(pick_accelerator("cuda", ranks(3, 4), cuda), "gathered")
    assert cuda.calls == meeting * 2


def test_two_processes_on_one_gpu_are_refused_on_both() -> None:
    store, said = torch.distributed.HashStore(), []

    def arrive(index: int) -> None:
        accelerator = CudaAccelerator(torch.device("cuda", index), FakeCuda(4))
        try:
            joining.refuse_shared_gpu(store, accelerator.identity, 3, 60)
        except TrainingError as error:
            said.append(str(error))

    threads = [threading.Thread(target=arrive, args=(index,)) for index in (0, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 3
    assert all("two processes would use one GPU" in text and "GPU-0" in text for text in said)


def test_processes_on_gpus_of_their_own_and_on_processors_meet() -> None:
    for identities in (["a/GPU-0", "a/GPU-1"], ["a/GPU-0", "b/GPU-0"], ["", ""]):
        store = torch.distributed.HashStore()
        threads = [
            threading.Thread(target=joining.refuse_shared_gpu, args=(store, identity, 2, 60))
            for identity in identities
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not store.check(["shared gpu"])


def test_memory_and_waiting_are_those_of_the_gpu() -> None:
    cuda = FakeCuda(2)
    gpu = CudaAccelerator(torch.device("cuda", 1), cuda)
    assert gpu.free_bytes() == 0.8 * 70 * 2**30  # free memory and memory that the allocator holds unused
    assert gpu.peak_bytes() == 5 * 2**30
    gpu.synchronize()
    assert cuda.calls == [("synchronize", "cuda:1")]


def test_tf32_is_for_runs_in_less_than_float32_and_ends_with_them() -> None:
    def now() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    gpu, before = CudaAccelerator(torch.device("cuda", 0), FakeCuda()), now()
    with gpu.fast_products(torch.bfloat16):
        assert now() == ("high", True)
    with gpu.fast_products(torch.float32):
        assert now() == ("highest", False)  # convolutions would use it without a warning
    assert now() == before


class FakeGpu(CudaAccelerator):
    """A fake GPU towards the training loop that computes on the CPU; records every call."""

    def __init__(self) -> None:
        self.fake = FakeCuda(1)
        super().__init__(torch.device("cpu"), self.fake)
        self.calls: list[str] = []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.calls.append(f"pin {threading.current_thread().name.split('_')[0]}")
        return tensor

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        self.calls.append(f"send {tensor.dtype}")
        return tensor

    def read_async(self, tensor: torch.Tensor):  # type: ignore[no-untyped-def]
        self.calls.append("launch read")
        return lambda: self.calls.append("read") or tensor.tolist()


@pytest.mark.parametrize("chunk", [0, 4])
def test_a_step_on_a_gpu_sends_pictures_once_and_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    pairs = write_pairs(tmp_path / "pairs.tar", 64)
    gpu = FakeGpu()
    monkeypatch.setattr(trainer, "pick_accelerator", lambda name: gpu)
    options = {"model": TINY_VIT, "epochs": 1, "chunk": chunk, "checkpoint_every": 1000, "log_every": 1000}
    train(Run(config_of(pairs, tmp_path / "gpu", **options)))
    monkeypatch.undo()
    train(Run(config_of(pairs, tmp_path / "cpu", **options)))
    assert same(tmp_path / "gpu", tmp_path / "cpu")
    assert gpu.fake.calls[0] == ("set_device", "cpu")  # moved to the GPU, even in a single process
    assert gpu.calls.count("send torch.uint8") == 4  # the crops once per step, whatever the chunks
    pins = [call for call in gpu.calls if call.startswith("pin")]
    assert pins == ["pin diptych-pin"] * 8  # crops and groups, in a separate thread
    reads = [call for call in gpu.calls if "read" in call]
    # The report of a step is read after the next step has been launched.
    assert reads == ["launch read", *["launch read", "read"] * 3, "read"]


class Forward(torch.nn.Module):
    """Return its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, images: torch.Tensor | None, tokens: torch.Tensor | None) -> tuple[object, object]:
        return images, tokens


def test_tokens_stay_on_the_host_where_fsdp_sends_its_arguments_to_the_gpu() -> None:
    module, gpu = Forward(), torch.device("meta")

    def as_fsdp(_: torch.nn.Module, args: object, kwargs: object) -> tuple[object, object]:
        return tuple(part[0] for part in torch.distributed.utils._to_kwargs(args, kwargs, gpu, False))

    module.register_forward_pre_hook(as_fsdp, prepend=True, with_kwargs=True)
    tokens = torch.tensor([[5, 1, 7]])
    assert module(torch.ones(1), tokens)[1].device == gpu  # without the hook
    keep_tokens_on_host(module)
    images, kept = module(torch.ones(1), tokens)
    assert (images.device, kept.device) == (gpu, torch.device("cpu"))
    assert torch.equal(kept, tokens)
    assert module(None, None) == (None, None)


def a_world(monkeypatch: pytest.MonkeyPatch, store: object) -> DistributedWorld:
    monkeypatch.setattr(world.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(world.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(world.dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(world, "AllGatherExchange", world.NoExchange)
    return DistributedWorld(CudaAccelerator(torch.device("cuda", 0), FakeCuda(2)), "gathered")


def test_ddp_is_not_told_to_send_its_arguments_to_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, object] = {}
    monkeypatch.setattr(world, "DistributedDataParallel", lambda module, **given: options.update(given))
    monkeypatch.setattr(world, "outside_parameters", lambda objective, parallel: [])
    here = a_world(monkeypatch, torch.distributed.HashStore())
    here.watchdog.stop()
    here.wrap(Forward(), "ddp", torch.float32)  # type: ignore[arg-type]
    assert options
    assert options.get("device_ids") is None


def test_a_failure_is_seen_while_this_process_waits_in_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    here = a_world(monkeypatch, store)
    here.watchdog.stop()  # stops its thread; the test polls instead
    waiting = threading.Thread(target=store.get, args=("communicator",), daemon=True)
    waiting.start()
    other = store.clone()
    other.set("diptych/failure", '[1, "KeyError: 1"]')
    failure = here.watchdog.poll()
    assert waiting.is_alive()  # otherwise the poll would have waited for it
    assert failure is not None
    assert failure.text == "KeyError: 1"
    other.set("communicator", "")
    waiting.join(timeout=HANG)


def test_a_world_on_gpus_decides_over_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.Tensor] = []
    here = a_world(monkeypatch, torch.distributed.HashStore())
    here.watchdog.stop()
    monkeypatch.setattr(world.dist, "all_reduce", lambda tensor, op: sent.append(tensor))
    assert here.any_rank(True, False) == (True, False)
    assert [tensor.device.type for tensor in sent] == ["cpu"]  # NCCL would wait for all earlier kernels
    assert here.accelerator.backend == "cpu:gloo,cuda:nccl"


class Two(World):
    """The first of two processes; records the types of the batch norms when they are wrapped."""

    size = 2

    def wrap(self, objective, parallel, dtype):  # type: ignore[no-untyped-def]
        self.wrapped = [type(module) for module in batch_norms(objective)]
        return objective


def test_batch_norms_are_synchronised_before_the_wrapper_and_keep_their_names() -> None:
    config = config_of(
        Path("x"), Path("y"), use_bn_sync=True, ema=0.5, lock="image", lock_image_unlocked_groups=2
    )
    world = Two()
    trainable = TrainableModel(config, FakeGpu(), world)
    plain = TrainableModel(dataclasses.replace(config, use_bn_sync=False), FakeGpu(), World())
    count = len(batch_norms(plain.model))
    assert world.wrapped == [torch.nn.SyncBatchNorm] * count
    assert trainable.model.state_dict().keys() == plain.model.state_dict().keys()
    for (name, tensor), (other, expected) in zip(
        trainable.objective.named_parameters(), plain.objective.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(tensor, expected)
        assert tensor.requires_grad == expected.requires_grad
    # Averaged statistics and frozen modules refer to the converted batch norms.
    assert [id(b) for b in trainable.statistics] == [id(b) for b in running_statistics(trainable.model)]
    still = {id(module) for module in trainable.frozen}
    assert sum(id(norm) in still for norm in batch_norms(trainable.model)) == count - 4
    plain.restore(trainable.tensors())


def test_batch_norms_are_synchronised_only_among_several_processes_and_on_gpus() -> None:
    config = config_of(Path("x"), Path("y"), use_bn_sync=True)
    alone = TrainableModel(config, FakeGpu(), World())
    assert not any(isinstance(norm, torch.nn.SyncBatchNorm) for norm in batch_norms(alone.model))
    with pytest.raises(TrainingError, match=r"use_bn_sync needs GPUs: .* on cpu\. Without it"):
        TrainableModel(config, Accelerator(torch.device("cpu")), Two())
    without = dataclasses.replace(config, model=TINY_VIT)  # it has no batch norms
    TrainableModel(without, Accelerator(torch.device("cpu")), Two())


def test_batch_norms_of_timm_keep_their_activation() -> None:
    library = import_timm()
    tower = TimmTrunk(TimmConfig(image_size=32, model_name="test_efficientnet"), 16)
    acts = [type(norm.act) for norm in batch_norms(tower) if hasattr(norm, "act")]
    images = torch.randn(2, 3, 32, 32)
    expected, keys = tower.eval()(images), list(tower.state_dict())
    synced = FakeGpu().sync_batch_norms(tower)
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in batch_norms(synced))
    assert [type(norm.act) for norm in batch_norms(synced) if hasattr(norm, "act")] == acts
    assert torch.nn.Identity in acts
    assert len(set(acts)) > 1
    assert list(synced.state_dict()) == keys
    assert torch.equal(synced(images), expected)
    del library
