"""The tags of a catalogue's pictures as keywords in XMP sidecars beside them, where other programs look.

A sidecar says what the store says: whatever tags a picture has here now, from all lists of labels, are its
keywords beside the person's own. Pictures are never written to. What is inside a sidecar is `media.xmp`'s
business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diptych.catalog.filters import Filter, allowed_rows
from diptych.catalog.store import Store
from diptych.catalog.tags import FILE, given_tags
from diptych.disk import saving, write_bytes
from diptych.errors import ImageError, InputError, SaveError
from diptych.media.xmp import LARGEST, merge_keywords

Style = Literal["darktable", "adobe"]
STYLES = ("darktable", "adobe")
SUFFIX = ".xmp"


@dataclass
class Written:
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
    picture : path
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
) -> Written:
    """Bring the sidecars of a catalogue's pictures to what the catalogue says.

    Parameters
    ----------
    store : Store
    style : {"darktable", "adobe"}
        How sidecars are named, see `sidecar_of`.
    where : Filter, optional
        Only of these pictures.
    undo : bool
        Take every keyword out again that was written here, whatever the catalogue says.
    progress : callable, optional
        Told how many pictures are done.

    Returns
    -------
    Written

    Notes
    -----
    Some programs read a sidecar's keywords in place of the picture's own, so those are written there too.
    """
    outcome = Written()
    for sidecar, pictures in _sidecars(store, style, where, outcome).items():
        contents = [content for _, content in pictures]
        keywords = [] if undo else _keywords(store, contents)
        if not any(os.path.lexists(path) for path, _ in pictures):
            outcome.missing += len(pictures)
        else:
            try:
                _bring(sidecar, keywords, outcome)
            except (ImageError, SaveError) as error:
                outcome.failures.append((sidecar, str(error)))
        if progress:
            progress(len(pictures))
    return outcome


def _sidecars(
    store: Store, style: Style, where: Filter | None, outcome: Written
) -> dict[Path, list[tuple[Path, int]]]:
    """Sidecar -> the pictures it belongs to, as (path, content)."""
    among: set[int] | None = None
    if where and store.active is not None:
        rows = allowed_rows(store.active, where).tolist()
        among = set(store.active.contents_of(rows).values())
    found: dict[Path, list[tuple[Path, int]]] = {}
    for path, member, content in store.database.all(
        "SELECT path, member, content FROM files WHERE content IS NOT NULL ORDER BY path, member"
    ):
        if among is not None and content not in among:
            continue
        if member:
            outcome.inside += 1
            continue
        picture = Path(os.fsdecode(bytes(path)))
        found.setdefault(sidecar_of(picture, style), []).append((picture, content))
    return found


def _keywords(store: Store, contents: Sequence[int]) -> list[str]:
    """What was given here, then the picture's own; nothing where nothing was given."""
    given = [tag for tags in given_tags(store.database, contents).values() for tag in tags]
    if not given:
        return []
    marks = ", ".join("?" * len(contents))
    own = store.database.all(
        f"SELECT tag FROM tags WHERE origin = ? AND content IN ({marks}) ORDER BY tag", (FILE, *contents)
    )
    return list(dict.fromkeys([*given, *(row[0] for row in own)]))


def _bring(sidecar: Path, keywords: Sequence[str], outcome: Written) -> None:
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
        write_bytes(sidecar, new)
        outcome.written += 1


def _read(sidecar: Path) -> bytes | None:
    try:
        with sidecar.open("rb") as file:
            return file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
