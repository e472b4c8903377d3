"""The device of one process: all code that is specific to CUDA is behind this interface.

The loop uses this object to select the device, copy, synchronise and query memory. One class serves
processors and Apple's MPS; `CudaAccelerator` adds what CUDA needs. It takes `torch.cuda` as a parameter, so
that tests can pass a fake and check the calls for a machine with GPUs.
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

from diptych.errors import TrainingError, counted
from diptych.model.batch_norm import batch_norms
from diptych.model.devices import pick_device
from diptych.model.timm_trunk import TimmTrunk
from diptych.training.data.image_cache import free_memory

Tower = TypeVar("Tower", bound=nn.Module)
USABLE = 0.8  # share of the free memory that a run may use


class Accelerator:
    """A processor, or Apple's MPS.

    Attributes
    ----------
    backend : str
        Backend of torch.distributed for tensors on this device.
    copies_async : bool
        Whether copies to the device run asynchronously: then batches are pinned in advance.
    """

    backend = "gloo"
    copies_async = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def make_current(self) -> None:
        """Make the device the current one of this process; before processes join."""

    @property
    def init_options(self) -> dict[str, Any]:
        """Further arguments of `torch.distributed.init_process_group`."""
        return {}

    @property
    def identity(self) -> str:
        """A name of the physical device that no other device has; "" if processes may share it."""
        return ""

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        """The context of a pass through the towers."""
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    @contextmanager
    def fast_products(self, dtype: torch.dtype) -> Iterator[None]:
        """TF32 for float32 products, if the towers compute in half precision."""
        yield

    def sync_batch_norms(self, tower: Tower) -> Tower:
        """A tower whose batch norms normalise over the images of all processes.

        Raises
        ------
        TrainingError
            It has batch norms, which torch cannot synchronise on this device.
        """
        if batch_norms(tower):
            raise TrainingError(
                f"use_bn_sync needs GPUs: torch has no synchronised batch norms on {self.device.type}. "
                "Without it each process normalises its own pictures, and the running statistics are averaged"
            )
        return tower

    def pin(self, tensor: Tensor) -> Tensor:
        """The tensor in page-locked memory, from which copies run asynchronously."""
        return tensor

    def send(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; from pinned memory without waiting for the copy."""
        return tensor.to(self.device, non_blocking=self.copies_async)

    def read_async(self, tensor: Tensor) -> Callable[[], list[float]]:
        """Start to copy a few numbers to the host; the function returned waits for this copy only."""
        return tensor.tolist

    def peak_bytes(self) -> float:
        """Peak memory so far; 0 if the system does not report it."""
        try:
            import resource
        except ImportError:  # Windows
            return 0.0
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
        return float(largest * (1 if sys.platform == "darwin" else 1024))

    def synchronize(self) -> None:
        """Wait for all launched work."""

    def free_bytes(self) -> float:
        """Bytes that this process may still use.

        Raises
        ------
        TrainingError
            The system does not report it.
        """
        # The processes of a machine share its memory.
        free = free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if not free:
            raise TrainingError(
                "this system does not report how much memory is free: choose a chunk size, --chunk 256"
            )
        return USABLE * free


class CudaAccelerator(Accelerator):
    """A CUDA GPU.

    Parameters
    ----------
    device : torch.device
        With its index.
    cuda : module
        `torch.cuda`, or a test's fake.
    """

    backend = "cpu:gloo,cuda:nccl"  # small CPU tensors use gloo, which does not wait for kernels
    copies_async = True

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        super().__init__(device)
        self.cuda = cuda

    def make_current(self) -> None:
        """Make this GPU the current one, which NCCL and kernels without a device use."""
        self.cuda.set_device(self.device)

    @property
    def init_options(self) -> dict[str, Any]:
        """Bind NCCL to the GPU, so that a wrong device fails at once and not at the first collective."""
        return {"device_id": self.device}

    @property
    def identity(self) -> str:
        """Host name and UUID of the GPU: its index may be 0 on every process (CUDA_VISIBLE_DEVICES)."""
        return f"{socket.gethostname()}/{self.cuda.get_device_properties(self.device).uuid}"

    @contextmanager
    def fast_products(self, dtype: torch.dtype) -> Iterator[None]:
        """TF32 has 10 bits of mantissa: as many as features of float16 have, and more than bfloat16 (7).

        The losses multiply features in float32; tensor cores do that eight times as fast in TF32 (A100: 156
        against 19.5 TFLOP/s). A run in float32 is exact: it also turns off TF32 in convolutions, which torch
        uses by default.
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
        """Convert to torch's SyncBatchNorm; parameters, statistics and names stay the same."""
        if isinstance(tower, TimmTrunk):
            # Some batch norms of timm include an activation, which torch's conversion would drop.
            from timm.layers.norm_act import convert_sync_batchnorm

            return convert_sync_batchnorm(tower)  # type: ignore[no-any-return,no-untyped-call]
        return nn.SyncBatchNorm.convert_sync_batchnorm(tower)  # type: ignore[no-any-return,no-untyped-call]

    def pin(self, tensor: Tensor) -> Tensor:
        """A copy in page-locked memory."""
        return tensor.pin_memory()

    def read_async(self, tensor: Tensor) -> Callable[[], list[float]]:
        """Copy into page-locked memory after the work launched so far; an event marks the end."""
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        copied = self.cuda.Event()
        copied.record()

        def read() -> list[float]:
            copied.synchronize()
            return host.tolist()

        return read

    def peak_bytes(self) -> float:
        """Peak of torch's allocator."""
        return float(self.cuda.max_memory_allocated(self.device))

    def synchronize(self) -> None:
        """Wait for all streams of this GPU."""
        self.cuda.synchronize(self.device)

    def free_bytes(self) -> float:
        """Free memory of the GPU, and memory that torch's allocator has reserved but does not use."""
        # `mem_get_info` counts cached blocks of torch's allocator as used.
        free, _ = self.cuda.mem_get_info(self.device)
        idle = self.cuda.memory_reserved(self.device) - self.cuda.memory_allocated(self.device)
        return USABLE * float(free + idle)


def pick_accelerator(
    name: str, environ: Mapping[str, str] = os.environ, cuda: Any = torch.cuda
) -> Accelerator:
    """The device of this process.

    Parameters
    ----------
    name : str
        "auto", "cpu", "mps", "cuda" (the GPU of the local rank), or "cuda:1".
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
    count, local_size = int(cuda.device_count()), int(environ.get("LOCAL_WORLD_SIZE", "1"))
    local_rank = int(environ.get("LOCAL_RANK", "0"))
    if ":" not in str(device):  # no index
        # Slurm and others may let each process see one GPU of its own: then it is cuda:0 on all of them, and
        # `join` compares their UUIDs.
        index = local_rank if count > 1 else 0
        if index >= count:
            raise TrainingError(
                f"process {local_rank} of this machine has no GPU of its own: {local_size} processes were "
                f"started here, and torch sees {counted(count, 'GPU')}. Start one process per GPU: "
                f"--nproc-per-node {count}"
            )
        return CudaAccelerator(torch.device("cuda", index), cuda)
    if local_size > 1:
        raise TrainingError(
            f"device={device} names one GPU, but {local_size} processes run on this machine: use "
            "device=cuda, which gives each process the GPU of its local rank"
        )
    if device.index >= count:
        available = ", ".join(f"cuda:{n}" for n in range(count))
        raise TrainingError(f"there is no {device} on this machine: expected one of {available}")
    return CudaAccelerator(device, cuda)
