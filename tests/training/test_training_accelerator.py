"""Placement, copies and meeting on GPUs, on a machine without one: a fake stands where torch.cuda would."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from make_runs import TINY_VIT, config_of, same, write_pairs

from diptych.errors import InputError, TrainingError
from diptych.training import Run, joining, train, trainer
from diptych.training.accelerator import Accelerator, CudaAccelerator, pick_accelerator
from diptych.training.joining import join
from diptych.training.world import DistributedWorld, World


class FakeCuda:
    """A machine with some GPUs, of which every call is noted."""

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
    with pytest.raises(TrainingError, match="device=cuda:1 names one GPU, and 4 processes"):
        pick_accelerator("cuda:1", ranks(0, 4), FakeCuda(4))
    with pytest.raises(TrainingError, match="there is no cuda:4 here: torch sees cuda:0, cuda:1"):
        pick_accelerator("cuda:4", {}, FakeCuda(2))
    with pytest.raises(InputError, match="torch finds no CUDA"):
        pick_accelerator("cuda", {}, FakeCuda(0))
    assert str(pick_accelerator("cuda:1", ranks(0, 1), FakeCuda(2)).device) == "cuda:1"
    assert pick_accelerator("auto", ranks(1, 2), FakeCuda(0)).device.type in ("cpu", "mps")
    assert str(pick_accelerator("cpu", ranks(1, 2), FakeCuda(4)).device) == "cpu"


def test_the_gpu_is_current_before_the_processes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(4)
    store = torch.distributed.HashStore()
    store.add("placed", 1)  # the other process is there already

    def meet(backend: str, **options: object) -> None:
        cuda.calls.append((backend, str(options["device_id"])))

    monkeypatch.setattr(joining.dist, "is_initialized", lambda: False)
    monkeypatch.setattr(joining, "rendezvous", lambda url, **options: iter([(store, 3, 2)]))
    monkeypatch.setattr(joining.dist, "init_process_group", meet)
    monkeypatch.setattr(joining, "DistributedWorld", lambda accelerator, exchange: World())
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    join(pick_accelerator("cuda", ranks(3, 4), cuda), "gathered")
    assert cuda.calls == [("set_device", "cuda:3"), ("cpu:gloo,cuda:nccl", "cuda:3")]


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
    assert all("two processes would compute on one GPU" in text and "GPU-0" in text for text in said)


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
    assert gpu.free_bytes() == 0.8 * 70 * 2**30  # what is free, and what the allocator holds idle
    assert gpu.peak_bytes() == 5 * 2**30
    gpu.synchronize()
    assert cuda.calls == [("synchronize", "cuda:1")]
    assert gpu.ddp_device_ids == [1]
    assert Accelerator(torch.device("cpu")).ddp_device_ids is None


def test_tf32_is_for_runs_in_less_than_float32_and_ends_with_them() -> None:
    gpu = CudaAccelerator(torch.device("cuda", 0), FakeCuda())
    before = torch.get_float32_matmul_precision()
    with gpu.fast_products(torch.bfloat16):
        assert torch.get_float32_matmul_precision() == "high"
    with gpu.fast_products(torch.float32):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before


class FakeGpu(CudaAccelerator):
    """Behaves as a GPU does towards the loop, and computes on the processor; every call is noted."""

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

    def read_later(self, tensor: torch.Tensor):  # type: ignore[no-untyped-def]
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
    assert gpu.fake.calls[0] == ("set_device", "cpu")  # placed, though alone
    assert gpu.calls.count("send torch.uint8") == 4  # steps: crops go once each, whatever the chunks
    pins = [call for call in gpu.calls if call.startswith("pin")]
    assert pins == ["pin diptych-pin"] * 8  # crops and groups, in a thread of their own
    reads = [call for call in gpu.calls if "read" in call]
    # What a step was like is read once the next one is launched.
    assert reads == ["launch read", *["launch read", "read"] * 3, "read"]


def test_a_world_on_gpus_decides_over_gloo() -> None:
    assert CudaAccelerator(torch.device("cuda", 0), FakeCuda()).backend == "cpu:gloo,cuda:nccl"
    assert DistributedWorld.any_rank.__doc__ is not None
