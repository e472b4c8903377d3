"""The tags of a catalogue's pictures as keywords in XMP sidecars beside them, where other programs look.

A sidecar says what the store says: whatever tags a picture has here now, from all lists of labels, are its
keywords beside the person's own. Pictures are never written to. What is inside a sidecar is
`media.metadata.xmp`'s business.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diptych.catalog.annotations.annotations import FILE
from diptych.catalog.annotations.tags import assigned_tags
from diptych.catalog.store.filters import Filter, allowed_rows, file_conditions
from diptych.catalog.store.store import Store
from diptych.errors import ImageError, InputError, SaveError
from diptych.files.disk import saving, write_temporary
from diptych.media.metadata.xmp import LARGEST, merge_keywords

Style = Literal["darktable", "adobe"]
STYLES = ("darktable", "adobe")
SUFFIX = ".xmp"
_CHUNK = 256  # files that are noted in one transaction


@dataclass
class SidecarReport:
    """What came of writing sidecars, in sidecars.

    Attributes
    ----------
    written, unchanged, removed : int
        Removed ones were made here and held nothing else.
    inside, missing : int
        Pictures inside archives, and ones that are not there now: these get none.
    failures : list of (path, reason)
    """

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    inside: int = 0
    missing: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def sidecar_of(picture: Path, style: Style) -> Path:
    """Where a program looks for the sidecar of a picture.

    Parameters
    ----------
    style : {"darktable", "adobe"}
        darktable, digiKam and others write the whole name and one suffix more; Adobe's programs put theirs
        in the suffix's place, so that a RAW file and its JPEG share one.

    Examples
    --------
    >>> sidecar_of(Path("a/photo.jpg"), "darktable").name, sidecar_of(Path("a/photo.jpg"), "adobe").name
    ('photo.jpg.xmp', 'photo.xmp')
    """
    if style not in STYLES:
        raise InputError(f"sidecars are named {style!r}: expected {' or '.join(STYLES)}")
    if style == "adobe":
        return picture.with_suffix(SUFFIX)
    return picture.with_name(picture.name + SUFFIX)


def write_sidecars(
    store: Store,
    style: Style = "darktable",
    *,
    where: Filter | None = None,
    undo: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SidecarReport:
    """Bring the sidecars of a catalogue's pictures to what the catalogue says.

    Parameters
    ----------
    style : {"darktable", "adobe"}
        How sidecars are named, see `sidecar_of`.
    where : Filter, optional
        Only of these pictures' files; one that several share says what all of them have.
    undo : bool
        Take every keyword out again that was written here, whatever the catalogue says.
    progress : callable, optional
        Told how many pictures are done.

    Notes
    -----
    Some programs read a sidecar's keywords in place of the picture's own, so those are written there too.
    """
    outcome = SidecarReport()
    shifts: dict[bytes, int] = {}
    for sidecar, pictures in _sidecars(store, style, where, outcome).items():
        contents = [content for _, content in pictures]
        keywords = [] if undo else _keywords(store, contents)
        if not any(os.path.lexists(path) for path, _ in pictures):
            outcome.missing += len(pictures)
        else:
            before = _changed(sidecar)
            try:
                _bring(sidecar, keywords, outcome)
            except (ImageError, SaveError) as error:
                outcome.failures.append((sidecar, str(error)))
            if shift := _changed(sidecar) - before:
                shifts.update((os.fsencode(path), shift) for path, _ in pictures)
        if len(shifts) >= _CHUNK:
            _take_note(store, shifts)
        if progress:
            progress(len(pictures))
    _take_note(store, shifts)
    return outcome


def _take_note(store: Store, shifts: dict[bytes, int]) -> None:
    """Let the catalogue know when sidecars were written here: that is no change to read pictures again for.

    Where another program has changed one since the last index, the sum is wrong, and that is seen.
    """
    with store.database.writing():
        for path, shift in shifts.items():
            for (times,) in store.database.all(
                "SELECT sidecar FROM files WHERE path = ? AND member = ''", (path,)
            ):
                store.database.run(
                    "UPDATE files SET sidecar = ? WHERE path = ? AND member = ''",
                    ((times + shift) & (2**63 - 1), path),
                )
    shifts.clear()


def _changed(sidecar: Path) -> int:
    try:
        return sidecar.stat().st_mtime_ns
    except OSError:
        return 0


def _sidecars(
    store: Store, style: Style, where: Filter | None, outcome: SidecarReport
) -> dict[Path, list[tuple[Path, int]]]:
    """Sidecar -> all the pictures it belongs to, as (path, content), of those that an asked one has."""
    found: dict[Path, list[tuple[Path, int]]] = {}
    wanted: set[Path] = set()
    for path, member, content, asked in _files(store, where or Filter()):
        if member:
            outcome.inside += asked
            continue
        picture = Path(os.fsdecode(path))
        sidecar = sidecar_of(picture, style)
        found.setdefault(sidecar, []).append((picture, content))
        if asked:
            wanted.add(sidecar)
    return {sidecar: pictures for sidecar, pictures in found.items() if sidecar in wanted}


def _files(store: Store, where: Filter) -> Iterator[tuple[bytes, str, int, bool]]:
    """(path, member, content, whether it is asked for) of every file."""
    among: set[int] | None = None
    if where and store.active is not None:
        rows = allowed_rows(store.active, where).tolist()
        among = set(store.active.contents_of(rows).values())
    of_file, values = file_conditions(where, store.database)
    for path, member, content, fits in store.database.all(
        f"SELECT f.path, f.member, f.content, CASE WHEN {of_file or '1 = 1'} THEN 1 ELSE 0 END FROM files f "
        "WHERE f.content IS NOT NULL ORDER BY f.path, f.member",
        values,
    ):
        yield bytes(path), member, content, bool(fits) and (among is None or content in among)


def _keywords(store: Store, contents: Sequence[int]) -> list[str]:
    """What was given here, then the picture's own; nothing where nothing was given."""
    given = [tag for tags in assigned_tags(store.database, contents).values() for tag in tags]
    if not given:
        return []
    marks = ", ".join("?" * len(contents))
    own = store.database.all(
        f"SELECT tag FROM tags WHERE origin = ? AND content IN ({marks}) ORDER BY tag", (FILE, *contents)
    )
    return list(dict.fromkeys([*given, *(row[0] for row in own)]))


def _bring(sidecar: Path, keywords: Sequence[str], outcome: SidecarReport) -> None:
    """One sidecar to what it should say."""
    sidecar = Path(os.path.realpath(sidecar))  # a link stays one, whatever it leads to
    old = _read(sidecar)
    if old is None and not keywords:
        return
    new = merge_keywords(old, keywords)
    if new == old:
        outcome.unchanged += 1
    elif new is None:
        with saving(sidecar):
            sidecar.unlink()
        outcome.removed += 1
    else:
        _write(sidecar, new, old is not None)
        outcome.written += 1


def _write(sidecar: Path, data: bytes, replaces: bool) -> None:
    """Whole or not at all; who may read the old one may read the new one, and nobody else."""
    with saving(sidecar):
        mode = stat.S_IMODE(sidecar.stat().st_mode) if replaces else None
        temporary = write_temporary(sidecar, lambda part: part.write_bytes(data))
        try:
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(sidecar)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _read(sidecar: Path) -> bytes | None:
    try:
        with sidecar.open("rb") as file:
            return file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
