"""The same run on many machines: Ray Data hands out numbers of units, its workers write the parts.

Nothing but a number and a unit's description goes to a worker and nothing but its record comes back, so the
driver's memory and network do not grow with the vectors. A worker that dies is started again and its unit
with it; a part that it had written already is found and not made again. Nothing is reported to anybody, and
no dashboard is opened.
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
_STORE_BYTES = 128 * 2**20  # of Ray's own memory on a local cluster: records are small
_THREADS = 2  # that decode for one worker, where nobody says otherwise: there is a worker for each processor


def ray_runner(
    open_encoder: Callable[[], Encoder], *, address: str = LOCAL, workers: int | None = None
) -> Runner:
    """A runner for `embed_to_folder` whose workers are processes of a Ray cluster.

    Parameters
    ----------
    open_encoder : callable
        Opens the encoder in a worker; it is pickled.
    address : str
        "local" starts a cluster on this machine and ends it; "auto" or an address joins a running one, whose
        machines have this package and see sources, model and folder under the same names.
    workers : int, optional
        By default one for each GPU of the cluster, or each processor where there is none.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}: expected 1 or more")
    # Before Ray is imported: nothing is reported, and no lines of its own between ours.
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
    there = ray.cluster_resources()
    on_gpu = there.get("GPU", 0) >= 1
    most = workers or int(there.get("GPU" if on_gpu else "CPU", 1))
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
        compute=data.ActorPoolStrategy(size=min(most, len(rows))),
        **({"num_gpus": 1} if on_gpu else {"num_cpus": 1}),
    )
    sizes = {number: unit.rows for number, unit in work}
    try:
        for batch in records.iter_batches(batch_size=1, prefetch_batches=0):
            told = json.loads(str(batch["told"][0]))
            if "error" in told:
                raise DiptychError(
                    f"a worker stopped at {told['place']}: {told['error']}. Finished parts stay: mend that "
                    "and run the same command again"
                )
            record = PartRecord(**told)
            progress(sizes[record.part] or record.rows + len(record.failures))
            yield record
    except ray.exceptions.RayError as error:
        raise DiptychError(
            f"the Ray cluster gave up: {error}. Finished parts stay: run the same command again"
        ) from error


class _Worker:
    """One process of the cluster, with its encoder."""

    def __init__(self, open_encoder: Callable[[], Encoder], job: Job) -> None:
        self.encoder, self.job = open_encoder(), job

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        work: Work = pickle.loads(base64.b64decode(str(batch["work"][0])))
        try:
            told = dataclasses.asdict(self.job.do(self.encoder, work))
        except DiptychError as error:  # as text: not every error can be pickled
            told = {"error": str(error), "place": work[1].place}
        return {"told": [json.dumps(told)]}
