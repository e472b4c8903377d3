"""Join the processes of a run, by WORLD_SIZE and RANK as torchrun and Slurm scripts set them."""

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

# torchrun's store and its keys outlive a run: each run of the same processes has a prefix of its own.
_runs = itertools.count()


def join(accelerator: Accelerator, exchange: Literal["gathered", "ring"], minutes: float = 10.0) -> World:
    """Join the processes that the environment describes.

    Parameters
    ----------
    accelerator : Accelerator
        The device of this process, made current first: NCCL uses the current GPU.
    exchange : {"gathered", "ring"}
        How features are exchanged in the loss.
    minutes : float
        How long to wait for the other processes.

    Raises
    ------
    TrainingError
        The processes cannot reach each other, or two of them would share a GPU.
    """
    accelerator.make_current()
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
    """Raise TrainingError, on all processes, if two of them use one GPU.

    NCCL refuses that too, but with a message without reason or way out, and some versions hang.

    Parameters
    ----------
    identity : str
        Of this process's GPU; "" for a device that may be shared.
    size : int
        Number of processes.
    seconds : float
        How long to wait for the others.
    """
    # Every process registers its GPU before it counts itself as placed; so once all are counted, a GPU that
    # is registered twice is known to all.
    if identity and store.add(f"gpu/{identity}", 1) > 1:
        store.set("shared gpu", identity)
    store.add("placed", 1)
    deadline = time.monotonic() + seconds
    while store.add("placed", 0) < size:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{size - store.add('placed', 0)} processes did not join within {seconds:.0f} s"
            )
        time.sleep(0.05)
    if store.check(["shared gpu"]):
        gpu = store.get("shared gpu").decode()
        raise TrainingError(
            f"two processes would use one GPU, {gpu}: start one process per GPU (--nproc-per-node); with "
            "device=cuda each uses the GPU of its local rank"
        )
