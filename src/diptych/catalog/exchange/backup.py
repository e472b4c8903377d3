"""A catalogue copied while it is in use, and put back: the copy is a catalogue itself."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.catalog.database.database import Sqlite
from diptych.catalog.database.file_space import folder_of
from diptych.catalog.store.store import FILE, Store
from diptych.errors import CatalogError
from diptych.files.disk import saving
from diptych.progress import Stage, silent
from diptych.vectors.segments import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNDO = "undo"  # the folder of the lists that put files back from the trash
_CHUNK = 2**24


def back_up(store: Store, to: str | Path, *, stage: Stage = silent) -> Path:
    """Copy a catalogue: its database at one moment, its vectors, its undo lists.

    Others may search, index and tag meanwhile. Indexes for fast search are left out; the next indexing of the
    copy builds them anew.

    Parameters
    ----------
    to : path
        A folder that is not there yet. It appears whole or not at all.
    stage : callable, optional
        As for `index`, in bytes.

    Returns
    -------
    Path
        The folder, a catalogue that every command takes as --catalog.

    Raises
    ------
    CatalogError
        The folder is there, the catalogue lies in PostgreSQL, or its vectors were replaced meanwhile.
    SaveError
        The device is full or may not be written to.
    """
    target = Path(to).expanduser().absolute()
    if store.folder is None or not isinstance(store.database, Sqlite):
        raise CatalogError(f"{store.name} lies in PostgreSQL: back it up with pg_dump")
    with _appearing(target) as part:
        store.database.copy_to(part / FILE)  # of one moment, whoever writes
        copy = Sqlite(part / FILE)
        try:
            with copy.writing():
                copy.run("DELETE FROM runs")  # none is at work on the copy
            spaces = copy.all("SELECT id FROM spaces")
        finally:
            copy.close()
        # Rows are only ever added to these files: what the copied database counts is in them, and what was
        # added since does not matter.
        sources = [path for (number,) in spaces for path in _segments(store.folder, number)]
        sources += sorted((store.folder / _UNDO).glob("*.jsonl"))
        _copy_files(store.folder, part, sources, stage)
        _check(part)
    return target


def restore(
    source: str | Path, to: str | Path, *, replace: bool = False, stage: Stage = silent
) -> Path | None:
    """Put a backup in a catalogue's place.

    Parameters
    ----------
    source : path
        A folder of `back_up`.
    to : path
        The catalogue's folder.
    replace : bool
        A catalogue that is there is kept beside it, under a name with the date; else it is an error.

    Returns
    -------
    Path or None
        Where the catalogue is that was there before.

    Raises
    ------
    CatalogError
        The backup is none, or there is a catalogue and `replace` was not asked for.
    SaveError
        The device is full or may not be written to.
    """
    home, target = Path(source).expanduser().absolute(), Path(to).expanduser().absolute()
    Store.open(home).close()
    aside: Path | None = None
    if target.exists() and any(target.iterdir()):
        if not replace:
            raise CatalogError(
                f"{target} is there already: --replace keeps it beside, under a name with the date"
            )
        _check_unused(target)
        aside = target.with_name(f"{target.name}.before-{datetime.now():%Y%m%d-%H%M%S}")
    with _appearing(target, aside=aside) as part:
        # Not its file alone: where the backup is in use as a catalogue, a part of it is in SQLite's log.
        _copy_database(home, part)
        wanted = [path for path in sorted(home.rglob("*")) if path.is_file() and not _is_database(path)]
        _copy_files(home, part, wanted, stage)
        _check(part)
    return aside


def _check_unused(folder: Path) -> None:
    """Refuse to put a catalogue aside that another process has open: it would go on writing into the new one.

    SQLite leaves its log only for the last connection to a database.
    """
    if not (folder / FILE).is_file():
        return
    connection = sqlite3.connect(folder / FILE, timeout=0, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise CatalogError(
                f"another process uses {folder} (index --watch, or a server): stop it, then run this again"
            ) from error
    finally:
        connection.close()


def _copy_database(home: Path, part: Path) -> None:
    database = Sqlite(home / FILE)
    try:
        database.copy_to(part / FILE)
    finally:
        database.close()


@contextlib.contextmanager
def _appearing(target: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """A folder to write into, which takes the target's place at the end; the target is put aside, if told."""
    if aside is None and target.exists() and any(target.iterdir()):
        raise CatalogError(f"{target} is there already: choose a new folder")
    part = target.with_name(f".{target.name}.part")
    with saving(target):
        shutil.rmtree(part, ignore_errors=True)  # of a copy that was killed
        part.mkdir(parents=True)
        try:
            yield part
            if aside is not None:
                _check_unused(target)  # again: copying takes time
                target.rename(aside)
            elif target.exists():
                target.rmdir()  # empty
            try:
                part.rename(target)
            except OSError:
                if aside is not None:
                    aside.rename(target)
                raise
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _segments(catalog: Path, space: int) -> list[Path]:
    return sorted(folder_of(catalog, space).glob(f"*{SUFFIX}"))


def _is_database(path: Path) -> bool:
    return path.name in (FILE, f"{FILE}-wal", f"{FILE}-shm")


def _copy_files(home: Path, part: Path, sources: list[Path], stage: Stage) -> None:
    with stage("copying", sum(path.stat().st_size for path in sources)) as advance:
        for path in sources:
            target = part / path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("rb") as old, target.open("wb") as new:
                    while data := old.read(_CHUNK):
                        new.write(data)
                        advance(len(data))
            except FileNotFoundError as error:
                raise CatalogError(
                    f"{path} is gone: another process has replaced the vectors. Run it again"
                ) from error


def _check(folder: Path) -> None:
    """Opening a catalogue refuses one whose rows are missing or too few."""
    Store.open(folder).close()
    for name in (f"{FILE}-wal", f"{FILE}-shm"):
        (folder / name).unlink(missing_ok=True)
