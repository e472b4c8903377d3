"""Back up a catalogue while it is in use, and restore it. A backup is a catalogue itself."""

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

_UNDO = "undo"  # folder of the undo lists of `diptych duplicates --trash`
_CHUNK = 2**24
_LOGS = (f"{FILE}-wal", f"{FILE}-shm")  # write-ahead log of SQLite, and its index in shared memory


def back_up(store: Store, to: str | Path, *, stage: Stage = silent) -> Path:
    """Copy a catalogue: a snapshot of its database, its embeddings, its undo lists.

    Other processes may search, index and tag meanwhile. Search indexes are left out; the next indexing of the
    copy builds them again.

    Parameters
    ----------
    to : path
        A new folder. It appears complete or not at all.
    stage : callable, optional
        As for `index`, in bytes.

    Raises
    ------
    CatalogError
        The folder exists, the catalogue is in PostgreSQL, or its space was replaced meanwhile.
    SaveError
        The device is full, or may not be written to.
    """
    target = Path(to).expanduser().absolute()
    if store.folder is None or not isinstance(store.database, Sqlite):
        raise CatalogError(f"{store.name} is in PostgreSQL: back it up with pg_dump")
    with _replacing(target) as partial:
        # The database first, then the rows. Rows are only appended, so the segments hold at least the rows
        # that the snapshot counts; rows that were added since lie behind them and the next writer of the copy
        # overwrites them. The other way round, the snapshot could count rows that were copied too early.
        store.database.copy_to(partial / FILE)
        copy = Sqlite(partial / FILE)
        try:
            with copy.writing():
                copy.run("DELETE FROM runs")  # heartbeats: nothing is indexing the copy
            spaces = copy.all("SELECT id FROM spaces")
        finally:
            copy.close()
        sources = [
            path
            for (number,) in spaces
            for path in sorted(folder_of(store.folder, number).glob(f"*{SUFFIX}"))
        ]
        sources += sorted((store.folder / _UNDO).glob("*.jsonl"))
        _copy_files(store.folder, partial, sources, stage)
        _check(partial)
    return target


def restore(
    source: str | Path, to: str | Path, *, replace: bool = False, stage: Stage = silent
) -> Path | None:
    """Restore a backup to the folder of a catalogue.

    Parameters
    ----------
    source : path
        A folder written by `back_up`.
    to : path
        The folder of the catalogue.
    replace : bool
        If there is a catalogue, rename it to a name with the date; otherwise it is an error.

    Returns
    -------
    Path or None
        The new name of the previous catalogue.

    Raises
    ------
    CatalogError
        The source is not a backup, or there is a catalogue and `replace` is False.
    SaveError
        The device is full, or may not be written to.
    """
    home, target = Path(source).expanduser().absolute(), Path(to).expanduser().absolute()
    Store.open(home).close()
    previous: Path | None = None
    if target.exists() and any(target.iterdir()):
        if not replace:
            raise CatalogError(
                f"{target} is there already: --replace keeps it beside, under a name with the date"
            )
        _check_unused(target)
        previous = target.with_name(f"{target.name}.before-{datetime.now():%Y%m%d-%H%M%S}")
    with _replacing(target, previous=previous) as partial:
        # Not a copy of the file: if the backup is in use as a catalogue itself, its last transactions are in
        # the write-ahead log only.
        database = Sqlite(home / FILE)
        try:
            database.copy_to(partial / FILE)
        finally:
            database.close()
        files = [
            path for path in sorted(home.rglob("*")) if path.is_file() and path.name not in (FILE, *_LOGS)
        ]
        _copy_files(home, partial, files, stage)
        _check(partial)
    return previous


def _check_unused(folder: Path) -> None:
    """Raise CatalogError if another process has the catalogue open.

    A process keeps its open files when their folder is renamed, but opens further ones by name: it would
    write the rest of its work into the restored catalogue.
    """
    if not (folder / FILE).is_file():
        return
    # SQLite leaves WAL mode only if this is the single connection to the database, in all processes.
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


@contextlib.contextmanager
def _replacing(target: Path, *, previous: Path | None = None) -> Iterator[Path]:
    """Yield a new folder that takes the target's name at the end; the target is renamed to `previous`."""
    if previous is None and target.exists() and any(target.iterdir()):
        raise CatalogError(f"{target} is there already: choose a new folder")
    partial = target.with_name(f".{target.name}.part")
    with saving(target):
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
        partial.mkdir(parents=True)
        try:
            yield partial
            # A kill between the two renames leaves no folder under the target's name, but the old catalogue
            # under `previous` and the complete new one under `partial`: nothing is lost, and running the same
            # command again finishes.
            if previous is not None:
                _check_unused(target)  # again, as copying takes time
                target.rename(previous)
            elif target.exists():
                target.rmdir()  # empty
            try:
                partial.rename(target)
            except OSError:
                if previous is not None:
                    previous.rename(target)
                raise
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _copy_files(home: Path, partial: Path, sources: list[Path], stage: Stage) -> None:
    with stage("copying", sum(path.stat().st_size for path in sources)) as advance:
        for path in sources:
            target = partial / path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("rb") as old_file, target.open("wb") as new_file:
                    while data := old_file.read(_CHUNK):
                        new_file.write(data)
                        advance(len(data))
            except FileNotFoundError as error:
                raise CatalogError(
                    f"{path} is gone: another process has replaced the vectors. Run it again"
                ) from error


def _check(folder: Path) -> None:
    """Open the copy, which raises CatalogError for missing or truncated rows."""
    Store.open(folder).close()
    for name in _LOGS:  # created by opening; the database is complete without them
        (folder / name).unlink(missing_ok=True)
