"""A whole run: what is left to do is done, by this process or by others, and the same command goes on.

What counts is in the folder alone: a part whose record is there and belongs to its unit is done. So a run may
be killed at any instant, and several may share the work. Reading, encoding and the layout are `items`,
`encoding` and `folder`; how work reaches many machines is `cluster`'s.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from diptych.embedding.encoding import EmbeddingSettings, Failure, embed_unit
from diptych.embedding.folder import (
    FAILURES,
    Manifest,
    PartRecord,
    is_embeddings,
    mark,
    read_manifest,
    read_record,
    read_records,
    sweep,
    write_manifest,
)
from diptych.embedding.units import UNIT_ROWS, Columns, Modality, Unit, plan_units
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError, ModelError
from diptych.files.disk import write_bytes
from diptych.inputs import counted_long_texts
from diptych.progress import Progress

Work: TypeAlias = "tuple[int, Unit]"
Stage: TypeAlias = "Callable[[str, int | None], contextlib.AbstractContextManager[Progress]]"


@dataclass(frozen=True)
class Job:
    """What a worker has to know, wherever it is.

    Attributes
    ----------
    folder : Path
        Where parts go; every worker sees it under this name.
    manifest : Manifest
    settings : EmbeddingSettings
    """

    folder: Path
    manifest: Manifest
    settings: EmbeddingSettings

    def do(self, encoder: Encoder, work: Work, progress: Progress | None = None) -> PartRecord:
        """Embed one unit, unless somebody has done so meanwhile."""
        number, unit = work
        if encoder.identity != self.manifest.identity:
            raise ModelError(
                f"this worker's encoder is {encoder.identity[:19]}..., the folder's "
                f"{self.manifest.identity[:19]}...: install the same version and model everywhere"
            )
        done = read_record(self.folder, number)
        if done is not None and done.unit == unit.fingerprint and not done.failures:
            return done
        return embed_unit(encoder, unit, number, self.folder, self.manifest, self.settings, progress=progress)


class Runner(Protocol):
    """Whoever sees to it that units are embedded."""

    def __call__(self, job: Job, work: Sequence[Work], progress: Progress) -> Iterator[PartRecord]:
        """Do all of it; records in any order. `progress` counts items."""
        ...


@dataclass(frozen=True)
class EmbeddingSummary:
    """What came of a run.

    Attributes
    ----------
    rows, parts : int
        In the folder now.
    embedded : int
        Rows of this run.
    before : int
        Parts that were done already.
    left : int
        Units of this run's share without a part: nothing in them could be embedded.
    failures : tuple of (key, reason)
        Of every part in the folder, and of the units that are left.
    """

    rows: int
    parts: int
    embedded: int
    before: int
    left: int
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
    share: tuple[int, int] = (0, 1),
    retry: bool = False,
    runner: Runner | None = None,
    stage: Stage | None = None,
) -> EmbeddingSummary:
    r"""Embed pictures or texts into a folder of vectors, or go on with it.

    Parameters
    ----------
    encoder : Encoder
    sources, modality, columns, unit_rows
        As for `plan_units`.
    folder : path
        Made if it is not there; see `folder` for what it holds.
    model : str
        The name that opens this encoder again, kept beside its identity.
    settings : EmbeddingSettings
    share : (number, of)
        Do every `of`-th unit only, the `number`-th among them: for as many processes side by side.
    retry : bool
        Do units again of which something failed.
    runner : Runner, optional
        Who does it; by default this process, one unit after another.
    stage : callable, optional
        `stage(what, total)` gives a context with a progress function; `what` is "pictures", "texts" or
        "archives" being embedded, or "sources" being looked through.

    Returns
    -------
    EmbeddingSummary

    Raises
    ------
    InputError
        There is nothing to embed, or nothing of it could be.
    DataError
        The folder was begun with other sources or settings, or belongs to another program.
    ModelError
        The folder was begun with another encoder.
    SaveError
        The device is full or may not be written to. Finished parts stay.

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
    ...     sorted(one.name for one in Path(home, "words").iterdir()), done.rows
    (['manifest.json', 'metadata', 'parts', 'text_emb'], 2)
    """
    folder, stage = Path(folder), stage or _silent
    number, of = share
    if not 0 <= number < of:
        raise InputError(f"share is {number} of {of}: expected a number from 0 to {of - 1}")
    with stage("sources", None):
        kind, units = plan_units(sources, modality=modality, columns=columns, unit_rows=unit_rows)
    job, units = begin(folder, encoder, units, kind, model, settings)
    work = [one for one in enumerate(units) if one[0] % of == number]
    todo = [one for one in work if not _done(folder, one, retry=retry)]
    results: list[PartRecord] = []
    counted = all(unit.rows for _, unit in todo)  # else progress is told in archives
    total = sum(unit.rows for _, unit in todo) if counted else len(todo)
    with stage(kind if counted else "archives", total) as advance, counted_long_texts() as long:
        for record in (runner or _here(encoder))(job, todo, advance if counted else lambda count: None):
            results.append(record)
            if not counted:
                advance(1)
    long.warn(stacklevel=2)
    return _finish(folder, units, work, len(work) - len(todo), results, alone=of == 1)


def begin(
    folder: Path,
    encoder: Encoder,
    units: Sequence[Unit],
    kind: Modality,
    model: str,
    settings: EmbeddingSettings,
) -> tuple[Job, list[Unit]]:
    """Begin a folder, or see that it is the same run that goes on; the units in the order of its parts."""
    known = read_manifest(folder)
    if known is None and is_embeddings(folder):
        raise DataError(f"{folder} holds vectors that another program made: choose a new folder")
    rows = ("pictures", "texts") if kind == "pictures" and settings.captions else (kind,)
    wanted = Manifest(
        identity=encoder.identity,
        model=model,
        dim=encoder.dim,
        dtype=settings.dtype,
        rows=rows,
        exact=settings.exact,
        digits=len(str(len(units))),
        units=tuple(unit.fingerprint for unit in units),
    )
    if known is None:
        write_manifest(folder, wanted)
        return Job(folder, wanted, settings), list(units)
    _refuse_others(folder, known, wanted)
    ordered = _in_order(folder, known, units)
    if len(ordered) > len(known.units):  # new shards beside the old ones
        known = replace(known, units=tuple(unit.fingerprint for unit in ordered))
        write_manifest(folder, known)
    return Job(folder, known, settings), ordered


def _refuse_others(folder: Path, known: Manifest, wanted: Manifest) -> None:
    if known.identity != wanted.identity:
        raise ModelError(
            f"{folder} was begun with the model {known.model!r} ({known.identity[:19]}...), this is "
            f"{wanted.identity[:19]}...: vectors of two models cannot be compared. Go on with "
            f"--model {known.model!r}, or choose another folder"
        )
    for what, option in (("dtype", "--dtype"), ("rows", "--texts and --captions"), ("exact", "--exact")):
        before, now = getattr(known, what), getattr(wanted, what)
        if before != now:
            raise DataError(
                f"{folder} was begun with {what} {before!r}, and now it is {now!r}: give {option} as "
                "before, or choose another folder"
            )


def _in_order(folder: Path, known: Manifest, units: Sequence[Unit]) -> list[Unit]:
    """Units by the number they had, new ones behind."""
    found = {unit.fingerprint: unit for unit in units}
    gone = [number for number, fingerprint in enumerate(known.units) if fingerprint not in found]
    if gone:
        raise DataError(
            f"{folder} was begun with other sources: {len(gone):,} of its {len(known.units):,} units of work "
            f"(the first is part {gone[0]}) have changed or are gone. Give the same sources and --unit-rows "
            "to go on; to embed what there is now choose another folder, or keep a collection that changes "
            "with  diptych index"
        )
    before = set(known.units)
    return [found[one] for one in known.units] + [one for one in units if one.fingerprint not in before]


def _done(folder: Path, work: Work, *, retry: bool) -> bool:
    number, unit = work
    record = read_record(folder, number)
    if record is None or record.unit != unit.fingerprint:
        return False
    return not (retry and record.failures)


def _here(encoder: Encoder) -> Runner:
    def run(job: Job, work: Sequence[Work], progress: Progress) -> Iterator[PartRecord]:
        for one in work:
            yield job.do(encoder, one, progress)

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
    records = [one for one in read_records(folder) if fingerprints[one.part : one.part + 1] == [one.unit]]
    there = {record.part for record in records}
    left = [number for number, _ in work if number not in there]
    failures = [one for record in records for one in record.failures]
    failures += [one for result in results if result.part not in there for one in result.failures]
    if failures or (folder / FAILURES).exists():
        write_bytes(folder / FAILURES, _table(failures), mark=mark())
    if alone and len(there) == len(units):
        sweep(folder)
    outcome = EmbeddingSummary(
        rows=sum(record.rows for record in records),
        parts=len(records),
        embedded=sum(result.rows for result in results),
        before=before,
        left=len(left),
        failures=tuple(failures),
    )
    if alone and not outcome.rows:
        first = f" The first: {failures[0][0]}: {failures[0][1]}" if failures else ""
        raise InputError(f"nothing was embedded: {len(failures):,} items failed.{first}")
    return outcome


def _table(failures: Sequence[Failure]) -> bytes:
    text = io.StringIO()
    writer: Any = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "reason"))
    writer.writerows(failures)
    return text.getvalue().encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _silent(what: str, total: int | None) -> Iterator[Progress]:
    yield lambda count: None
