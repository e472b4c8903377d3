"""Embed on a Ray cluster: Ray Data distributes the units of work, its workers write the parts.

A worker receives a unit's number and description and returns its record, so the driver's memory and network
use do not grow with the embeddings. If a worker dies, Ray restarts it with its unit; a part that it had
already written is not made again. Usage reports and the dashboard are switched off.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from diptych.embedding.folder import PartRecord
from diptych.embedding.run import Job, Runner, Work
from diptych.encoder import Encoder
from diptych.errors import DiptychError, InputError
from diptych.extras import require
from diptych.progress import Progress

LOCAL = "local"
_STORE_BYTES = 128 * 2**20  # Ray's object store on a local cluster; records are small
_THREADS = 2  # decoding threads of a worker by default; there is one worker per processor


def ray_runner(
    open_encoder: Callable[[], Encoder], *, address: str = LOCAL, workers: int | None = None
) -> Runner:
    """Make a runner for `embed_to_folder` whose workers are processes of a Ray cluster.

    Parameters
    ----------
    open_encoder : callable
        Opens the encoder in a worker; must be picklable.
    address : str
        "local" starts a cluster on this machine and stops it afterwards; "auto" or an address joins a running
        cluster, whose machines need this package and the same paths to sources, model and folder.
    workers : int, optional
        By default one per GPU of the cluster, or one per processor if there is no GPU.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}: expected 1 or more")
    # Must be set before Ray is imported: no usage reports, no log lines of Ray between ours.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    require("ray.data", extra="ray", purpose="embed on a Ray cluster")

    def run(job: Job, work: Sequence[Work], progress: Progress) -> Iterator[PartRecord]:
        if not work:
            return
        job = replace(
            job,
            folder=job.folder.absolute(),
            settings=replace(job.settings, threads=job.settings.threads or _THREADS),
        )
        ray = require("ray", extra="ray", purpose="embed on a Ray cluster")
        started = not ray.is_initialized()
        if started:
            _start(ray, address, workers)
        try:
            yield from _run(ray, open_encoder, job, work, progress, workers)
        finally:
            if started:
                ray.shutdown()

    return run


def _start(ray: Any, address: str, workers: int | None) -> None:
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DiptychError(
            f"no Ray cluster at {address!r}: {error}. Start one with  ray start --head"
        ) from error


def _run(
    ray: Any,
    open_encoder: Callable[[], Encoder],
    job: Job,
    work: Sequence[Work],
    progress: Progress,
    workers: int | None,
) -> Iterator[PartRecord]:
    data = require("ray.data", extra="ray", purpose="embed on a Ray cluster")
    resources = ray.cluster_resources()
    on_gpu = resources.get("GPU", 0) >= 1
    pool_size = workers or int(resources.get("GPU" if on_gpu else "CPU", 1))
    data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [
        {"number": number, "work": base64.b64encode(pickle.dumps((number, unit))).decode()}
        for number, unit in work
    ]
    records = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Worker,
        fn_constructor_args=(open_encoder, job),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=min(pool_size, len(rows))),
        **({"num_gpus": 1} if on_gpu else {"num_cpus": 1}),
    )
    sizes = {number: unit.rows for number, unit in work}
    try:
        for batch in records.iter_batches(batch_size=1, prefetch_batches=0):
            reply = json.loads(str(batch["reply"][0]))
            if "error" in reply:
                raise DiptychError(
                    f"a worker stopped at {reply['location']}: {reply['error']}. Finished parts are kept: "
                    "fix the cause and run the same command again"
                )
            record = PartRecord(**reply)
            progress(sizes[record.part] or record.rows + len(record.failures))
            yield record
    except ray.exceptions.RayError as error:
        raise DiptychError(
            f"the Ray cluster failed: {error}. Finished parts are kept: run the same command again"
        ) from error


class _Worker:
    """A process of the cluster, with its encoder."""

    def __init__(self, open_encoder: Callable[[], Encoder], job: Job) -> None:
        self.encoder, self.job = open_encoder(), job

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        work: Work = pickle.loads(base64.b64decode(str(batch["work"][0])))
        try:
            reply = dataclasses.asdict(self.job.run(self.encoder, work))
        except DiptychError as error:  # as text: not every error can be pickled
            reply = {"error": str(error), "location": work[1].location}
        return {"reply": [json.dumps(reply)]}
