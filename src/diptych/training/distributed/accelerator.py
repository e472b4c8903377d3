"""The device that one process computes on: the seam behind which everything stands that only CUDA has.

The loop and the step ask this object to place the process, copy, wait, say how much memory there is. One
class serves processors and Apple's MPS; `CudaAccelerator` adds what CUDA needs. It takes `torch.cuda` as a
parameter, so that a test can hand in a fake and see what would be called on a machine with GPUs.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diptych.errors import TrainingError
from diptych.model.batch_norm import batch_norms
from diptych.model.devices import pick_device
from diptych.model.timm_trunk import TimmTrunk
from diptych.training.data.pictures import free_memory

Tower = TypeVar("Tower", bound=nn.Module)
USABLE = 0.8  # of the free memory that is used at most


class Accelerator:
    """A processor, or Apple's MPS.

    Parameters
    ----------
    device : torch.device

    Attributes
    ----------
    backend : str
        Of torch.distributed, for tensors on this device.
    copies_async : bool
        Whether a copy to the device can run while the host goes on: then batches are pinned ahead.
    """

    backend = "gloo"
    copies_async = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def place(self) -> None:
        """Make the device this process's own; before processes meet."""

    @property
    def init_options(self) -> dict[str, Any]:
        """Further arguments of `torch.distributed.init_process_group`."""
        return {}

    @property
    def identity(self) -> str:
        """Name the physical device, unlike all others; "" where processes may share it."""
        return ""

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        """The context of a pass through the towers."""
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    @contextmanager
    def fast_products(self, dtype: torch.dtype) -> Iterator[None]:
        """TF32 for products of float32, where the towers compute in less than that anyway."""
        yield

    def sync_batch_norms(self, tower: Tower) -> Tower:
        """A tower whose batch norms normalise over the pictures of all processes.

        Raises
        ------
        TrainingError
            It has batch norms, and torch synchronises none on this device.
        """
        if batch_norms(tower):
            raise TrainingError(
                f"use_bn_sync needs GPUs: torch has no synchronised batch norms on {self.device.type}. Leave "
                "it out: each process normalises its own pictures, and the running statistics are their mean"
            )
        return tower

    def pin(self, tensor: Tensor) -> Tensor:
        """The tensor in memory that the device can copy from by itself."""
        return tensor

    def send(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; from pinned memory the host does not wait for the copy."""
        return tensor.to(self.device, non_blocking=self.copies_async)

    def read_later(self, tensor: Tensor) -> Callable[[], list[float]]:
        """Start to copy a few numbers to the host; the function returned waits for them alone."""
        return tensor.tolist

    def peak_bytes(self) -> float:
        """The most memory used so far; 0 where the system does not say."""
        try:
            import resource
        except ImportError:  # Windows
            return 0.0
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(most * (1 if sys.platform == "darwin" else 1024))

    def synchronize(self) -> None:
        """Wait for everything that was launched."""

    def free_bytes(self) -> float:
        """Memory that this process may still take.

        Raises
        ------
        TrainingError
            The system does not say.
        """
        # The processes of one machine share its memory.
        free = free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if not free:
            raise TrainingError(
                "this system does not say how much memory is free: choose a chunk, --chunk 256"
            )
        return USABLE * free


class CudaAccelerator(Accelerator):
    """One GPU.

    Parameters
    ----------
    device : torch.device
        With its index.
    cuda : module
        `torch.cuda`, or a test's fake.
    """

    backend = "cpu:gloo,cuda:nccl"  # decisions go over gloo: they wait for no kernel
    copies_async = True

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        super().__init__(device)
        self.cuda = cuda

    def place(self) -> None:
        """Make this GPU the current one: NCCL and kernels without a device go there."""
        self.cuda.set_device(self.device)

    @property
    def init_options(self) -> dict[str, Any]:
        """NCCL binds to the GPU at once; a wrong placement fails here and not at the first collective."""
        return {"device_id": self.device}

    @property
    def identity(self) -> str:
        """Machine and the GPU's UUID: indices do not tell, where each process sees one GPU as cuda:0."""
        return f"{socket.gethostname()}/{self.cuda.get_device_properties(self.device).uuid}"

    @contextmanager
    def fast_products(self, dtype: torch.dtype) -> Iterator[None]:
        """TF32 keeps 10 bits of mantissa: all that rows of bfloat16 (7) and float16 (10) have.

        The losses multiply rows in float32. On tensor cores that is eight times as fast (A100: 156 against
        19.5 TFLOP/s). A run in float32 is exact: there convolutions are kept from TF32, too, which torch
        otherwise gives them.
        """
        half = dtype != torch.float32
        products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if half else "highest")
        torch.backends.cudnn.allow_tf32 = half
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(products)
            torch.backends.cudnn.allow_tf32 = convolutions

    def sync_batch_norms(self, tower: Tower) -> Tower:
        """By torch's SyncBatchNorm; the parameters, the statistics and their names are the same."""
        if isinstance(tower, TimmTrunk):
            # Some batch norms of timm apply their activation, too, which torch's conversion would drop.
            from timm.layers.norm_act import convert_sync_batchnorm

            return convert_sync_batchnorm(tower)  # type: ignore[no-any-return,no-untyped-call]
        return nn.SyncBatchNorm.convert_sync_batchnorm(tower)  # type: ignore[no-any-return,no-untyped-call]

    def pin(self, tensor: Tensor) -> Tensor:
        """A copy in page-locked memory."""
        return tensor.pin_memory()

    def read_later(self, tensor: Tensor) -> Callable[[], list[float]]:
        """Into page-locked memory, behind what was launched so far; an event says when it is there."""
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        arrived = self.cuda.Event()
        arrived.record()

        def read() -> list[float]:
            arrived.synchronize()
            return host.tolist()

        return read

    def peak_bytes(self) -> float:
        """As torch's allocator counts."""
        return float(self.cuda.max_memory_allocated(self.device))

    def synchronize(self) -> None:
        """Wait for all streams of this GPU."""
        self.cuda.synchronize(self.device)

    def free_bytes(self) -> float:
        """Free memory of the GPU, and what torch's allocator holds without using it."""
        free, _ = self.cuda.mem_get_info(self.device)
        idle = self.cuda.memory_reserved(self.device) - self.cuda.memory_allocated(self.device)
        return USABLE * float(free + idle)


def pick_accelerator(
    name: str, environ: Mapping[str, str] = os.environ, cuda: Any = torch.cuda
) -> Accelerator:
    """The device of this process, among those of its machine.

    Parameters
    ----------
    name : str
        "auto", "cpu", "mps", "cuda" (the GPU of this process's number on its machine), or "cuda:1".
    environ : mapping
        LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun sets them.
    cuda : module
        `torch.cuda`, or a test's fake.

    Raises
    ------
    TrainingError
        More processes on this machine than GPUs, or several processes on one named GPU.

    Examples
    --------
    >>> pick_accelerator("cpu").device
    device(type='cpu')
    """
    device = pick_device(name, cuda)
    if device.type != "cuda":
        return Accelerator(device)
    count, here = int(cuda.device_count()), int(environ.get("LOCAL_WORLD_SIZE", "1"))
    local_rank = int(environ.get("LOCAL_RANK", "0"))
    if ":" not in str(device):  # no index
        # Slurm and others may show each process one GPU of its own: then it is cuda:0 on all of them, and
        # `join` compares their UUIDs.
        index = local_rank if count > 1 else 0
        if index >= count:
            raise TrainingError(
                f"process {local_rank} of this machine has no GPU of its own: {here} processes were started "
                f"here, and torch sees {count} GPUs. Start one process a GPU: --nproc-per-node {count}"
            )
        return CudaAccelerator(torch.device("cuda", index), cuda)
    if here > 1:
        raise TrainingError(
            f"device={device} names one GPU, and {here} processes run on this machine: say device=cuda, "
            "which gives each process the GPU of its number"
        )
    if device.index >= count:
        known = ", ".join(f"cuda:{n}" for n in range(count))
        raise TrainingError(f"there is no {device} here: torch sees {known}")
    return CudaAccelerator(device, cuda)
