"""Embed sources into a folder, resumably and by several processes if wanted.

The state of a run is in the folder alone: a part is done if its record exists and names its unit. So a run
may be killed at any instant and resumed by the same command, and several processes may share the work.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from diptych.embedding.encoding import EmbeddingSettings, Failure, embed_unit
from diptych.embedding.folder import (
    FAILURES,
    Manifest,
    PartRecord,
    is_embeddings,
    process_mark,
    read_manifest,
    read_record,
    read_records,
    remove_temporary_files,
    write_manifest,
)
from diptych.embedding.units import UNIT_ROWS, Columns, Modality, Unit, plan_units
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError, ModelError, counted
from diptych.files.disk import write_bytes
from diptych.inputs import counted_long_texts
from diptych.progress import Progress, Stage, silent

Work: TypeAlias = "tuple[int, Unit]"


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs besides its encoder and its unit.

    Attributes
    ----------
    folder : Path
        Where parts are written; the same path for every worker.
    """

    folder: Path
    manifest: Manifest
    settings: EmbeddingSettings

    def run(self, encoder: Encoder, work: Work, progress: Progress | None = None) -> PartRecord:
        """Embed one unit, unless another process has done so in the meantime."""
        number, unit = work
        if encoder.identity != self.manifest.identity:
            raise ModelError(
                f"this worker's encoder is {encoder.identity[:19]}..., that of the folder is "
                f"{self.manifest.identity[:19]}...: install the same version and model everywhere"
            )
        done = read_record(self.folder, number)
        if done is not None and done.unit == unit.fingerprint and not done.failures:
            return done
        return embed_unit(encoder, unit, number, self.folder, self.manifest, self.settings, progress=progress)


class Runner(Protocol):
    """Executes units of work: in this process, or on a cluster."""

    def __call__(self, job: Job, work: Sequence[Work], progress: Progress) -> Iterator[PartRecord]:
        """Embed all units and yield their records in any order; `progress` counts items."""
        ...


@dataclass(frozen=True)
class EmbeddingSummary:
    """Result of a run.

    Attributes
    ----------
    rows, parts : int
        Total in the folder after the run.
    embedded : int
        Rows embedded by this run.
    parts_before : int
        Parts that were finished before this run.
    units_left : int
        Units of this run without a part, because none of their items could be embedded.
    failures : tuple of (key, reason)
        Of all parts in the folder and of the units without a part.
    """

    rows: int
    parts: int
    embedded: int
    parts_before: int
    units_left: int
    failures: tuple[Failure, ...]


def embed_to_folder(
    encoder: Encoder,
    sources: Sequence[str | Path],
    folder: str | Path,
    *,
    model: str = "default",
    modality: Modality | None = None,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    unit_rows: int = UNIT_ROWS,
    settings: EmbeddingSettings = EmbeddingSettings(),  # noqa: B008 - frozen
    shard: tuple[int, int] = (0, 1),
    retry: bool = False,
    runner: Runner | None = None,
    stage: Stage | None = None,
) -> EmbeddingSummary:
    r"""Embed images or texts into a folder of embeddings, or resume an earlier run.

    Parameters
    ----------
    sources, modality, columns, unit_rows
        As for `plan_units`.
    folder : path
        Created if it does not exist; the layout is described in `diptych.embedding.folder`.
    model : str
        The name that opens this encoder again, stored with its identity.
    shard : (index, count)
        Embed only every `count`-th unit, beginning with unit `index`, to split the work between processes;
        e.g. (1, 4) embeds the units 1, 5, 9, ...
    retry : bool
        Embed units with failures again.
    runner : Runner, optional
        Executes the units; by default this process, one unit after another.
    stage : callable, optional
        Opens a progress display, see `diptych.progress`; the description is "sources" while the sources are
        listed, then "pictures", "texts" or "archives" while they are embedded.

    Raises
    ------
    InputError
        There is nothing to embed, or no item could be embedded.
    DataError
        The folder was begun with other sources or settings, or by another program.
    ModelError
        The folder was begun with another encoder.
    SaveError
        The device is full or not writable. Finished parts are kept.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> class Lengths:
    ...     identity, dim, input_size, logit_scale, logit_bias = "lengths", 2, 8, 1.0, 0.0
    ...     def encode_texts(self, texts):
    ...         return np.array([[np.cos(len(text)), np.sin(len(text))] for text in texts], np.float32)
    >>> with tempfile.TemporaryDirectory() as home:
    ...     path = Path(home, "words.txt")
    ...     written = path.write_text("a cat\ntwo dogs\n")
    ...     done = embed_to_folder(Lengths(), [path], Path(home, "words"))
    ...     sorted(path.name for path in Path(home, "words").iterdir()), done.rows
    (['manifest.json', 'metadata', 'parts', 'text_emb'], 2)
    """
    folder, stage = Path(folder), stage or silent
    index, count = shard
    if not 0 <= index < count:
        raise InputError(f"shard is {index} of {count}: expected an index from 0 to {count - 1}")
    with stage("sources", None):
        kind, units = plan_units(sources, modality=modality, columns=columns, unit_rows=unit_rows)
    job, units = open_or_begin(folder, encoder, units, kind, model, settings)
    work = [(number, unit) for number, unit in enumerate(units) if number % count == index]
    todo = [task for task in work if not _is_done(folder, task, retry=retry)]
    results: list[PartRecord] = []
    all_counted = all(unit.rows for _, unit in todo)  # otherwise progress is shown in archives
    total = sum(unit.rows for _, unit in todo) if all_counted else len(todo)
    with stage(kind if all_counted else "archives", total) as advance, counted_long_texts() as long_texts:
        for record in (runner or _local_runner(encoder))(
            job, todo, advance if all_counted else lambda _: None
        ):
            results.append(record)
            if not all_counted:
                advance(1)
    long_texts.warn(stacklevel=2)
    return _finish(folder, units, work, len(work) - len(todo), results, alone=count == 1)


def open_or_begin(
    folder: Path,
    encoder: Encoder,
    units: Sequence[Unit],
    kind: Modality,
    model: str,
    settings: EmbeddingSettings,
) -> tuple[Job, list[Unit]]:
    """Begin a folder, or check that it belongs to this run; returns the units in the order of the parts."""
    stored = read_manifest(folder)
    if stored is None and is_embeddings(folder):
        raise DataError(f"{folder} holds embeddings of another program: choose a new folder")
    rows = ("pictures", "texts") if kind == "pictures" and settings.captions else (kind,)
    expected = Manifest(
        identity=encoder.identity,
        model=model,
        dim=encoder.dim,
        dtype=settings.dtype,
        rows=rows,
        exact=settings.exact,
        digits=len(str(len(units))),
        units=tuple(unit.fingerprint for unit in units),
    )
    if stored is None:
        write_manifest(folder, expected)
        return Job(folder, expected, settings), list(units)
    _refuse_mismatch(folder, stored, expected)
    ordered = _in_order(folder, stored, units)
    if len(ordered) > len(stored.units):  # new shards beside the old ones
        stored = replace(stored, units=tuple(unit.fingerprint for unit in ordered))
        write_manifest(folder, stored)
    return Job(folder, stored, settings), ordered


def _refuse_mismatch(folder: Path, stored: Manifest, expected: Manifest) -> None:
    if stored.identity != expected.identity:
        raise ModelError(
            f"{folder} was begun with the model {stored.model!r} ({stored.identity[:19]}...), this is "
            f"{expected.identity[:19]}...: embeddings of two models cannot be compared. Continue with "
            f"--model {stored.model!r}, or choose another folder"
        )
    for field, option in (("dtype", "--dtype"), ("rows", "--texts and --captions"), ("exact", "--exact")):
        before, now = getattr(stored, field), getattr(expected, field)
        if before != now:
            raise DataError(
                f"{folder} was begun with {field} {before!r}, and now it is {now!r}: give {option} as "
                "before, or choose another folder"
            )


def _in_order(folder: Path, stored: Manifest, units: Sequence[Unit]) -> list[Unit]:
    """The units in the order of the manifest, followed by new ones.

    E.g. parts 0 and 1 hold units A and B, and the sources now give B, C, A: the result is A, B, C.
    """
    by_fingerprint = {unit.fingerprint: unit for unit in units}
    gone = [number for number, fingerprint in enumerate(stored.units) if fingerprint not in by_fingerprint]
    if gone:
        raise DataError(
            f"{folder} was begun with other sources: {len(gone):,} of its {len(stored.units):,} units of "
            f"work (the first is part {gone[0]}) have changed or are missing. Give the same sources and "
            "--unit-rows to continue; to embed the present sources choose another folder, or use "
            "diptych index for a collection that changes"
        )
    before = set(stored.units)
    ordered = [by_fingerprint[fingerprint] for fingerprint in stored.units]
    return ordered + [unit for unit in units if unit.fingerprint not in before]


def _is_done(folder: Path, work: Work, *, retry: bool) -> bool:
    number, unit = work
    record = read_record(folder, number)
    if record is None or record.unit != unit.fingerprint:
        return False
    return not (retry and record.failures)


def _local_runner(encoder: Encoder) -> Runner:
    def run(job: Job, work: Sequence[Work], progress: Progress) -> Iterator[PartRecord]:
        for task in work:
            yield job.run(encoder, task, progress)

    return run


def _finish(
    folder: Path,
    units: Sequence[Unit],
    work: Sequence[Work],
    before: int,
    results: Sequence[PartRecord],
    *,
    alone: bool,
) -> EmbeddingSummary:
    fingerprints = [unit.fingerprint for unit in units]
    # A slice, so that a record of a part beyond the units compares unequal.
    records = [
        record
        for record in read_records(folder)
        if fingerprints[record.part : record.part + 1] == [record.unit]
    ]
    finished = {record.part for record in records}
    left = [number for number, _ in work if number not in finished]
    failures = [failure for record in records for failure in record.failures]
    failures += [failure for result in results if result.part not in finished for failure in result.failures]
    if failures or (folder / FAILURES).exists():
        write_bytes(folder / FAILURES, _table(failures), mark=process_mark())
    if alone and len(finished) == len(units):
        remove_temporary_files(folder)
    outcome = EmbeddingSummary(
        rows=sum(record.rows for record in records),
        parts=len(records),
        embedded=sum(result.rows for result in results),
        parts_before=before,
        units_left=len(left),
        failures=tuple(failures),
    )
    if alone and not outcome.rows:
        first = f" The first: {failures[0][0]}: {failures[0][1]}" if failures else ""
        raise InputError(f"nothing was embedded: {counted(len(failures), 'item')} failed.{first}")
    return outcome


def _table(failures: Sequence[Failure]) -> bytes:
    text = io.StringIO()
    writer: Any = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "reason"))
    writer.writerows(failures)
    return text.getvalue().encode("utf-8", "backslashreplace")
