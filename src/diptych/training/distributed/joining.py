"""How the processes of a run meet: WORLD_SIZE and RANK, as torchrun and Slurm scripts set them."""

from __future__ import annotations

import itertools
import os
import time
from datetime import timedelta
from typing import Any, Literal

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from diptych.errors import TrainingError
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.world import DistributedWorld, World

# torchrun's store outlives a run, keys and all: a second run of the same processes gets keys of its own.
_runs = itertools.count()


def join(accelerator: Accelerator, exchange: Literal["gathered", "ring"], minutes: float = 10.0) -> World:
    """The world that the environment describes.

    Parameters
    ----------
    accelerator : Accelerator
        What this process computes on. It is placed first: NCCL takes the GPU that is current.
    exchange : {"gathered", "ring"}
        How features meet.
    minutes : float
        How long to wait for another process before giving up.

    Raises
    ------
    TrainingError
        The processes do not find each other, or two of them would share a GPU.
    """
    accelerator.place()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    if not dist.is_initialized():
        timeout = timedelta(minutes=minutes)
        try:
            store, rank, size = next(rendezvous("env://", timeout=timeout))
            store.set_timeout(timeout)
            store = PrefixStore(f"diptych/{next(_runs)}", store)
            refuse_shared_gpu(store, accelerator.identity, size, minutes * 60)
            dist.init_process_group(
                accelerator.backend,
                store=store,
                rank=rank,
                world_size=size,
                timeout=timeout,
                **accelerator.init_options,
            )
        except (ValueError, RuntimeError, dist.DistError) as error:
            raise TrainingError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the other processes cannot be reached: "
                f"{error}. Start them together: torchrun --nproc-per-node 2 -m diptych train ..."
            ) from error
    return DistributedWorld(accelerator, exchange)


def refuse_shared_gpu(store: Any, identity: str, size: int, seconds: float) -> None:
    """Raise TrainingError, on all processes, where two of them compute on one GPU.

    NCCL refuses that too, with a message that names neither the reason nor the way out, and in some versions
    by standing still.

    Parameters
    ----------
    store : torch.distributed.Store
    identity : str
        Of this process's GPU; "" for a device that may be shared.
    size : int
        Processes in all.
    seconds : float
        How long to wait for the others.
    """
    if identity and store.add(f"gpu/{identity}", 1) > 1:
        store.set("shared gpu", identity)
    store.add("placed", 1)
    deadline = time.monotonic() + seconds
    while store.add("placed", 0) < size:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{size - store.add('placed', 0)} processes did not come in {seconds:.0f} s")
        time.sleep(0.05)
    if store.check(["shared gpu"]):
        gpu = store.get("shared gpu").decode()
        raise TrainingError(
            f"two processes would compute on one GPU, {gpu}: start one process a GPU (--nproc-per-node), "
            "and with device=cuda each takes the GPU of its number"
        )
