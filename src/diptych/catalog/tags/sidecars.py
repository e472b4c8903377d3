"""Tags of the catalogue as keywords in XMP sidecars beside the images, where other programs read them.

The keywords written here are the tags that an image has now, from all lists of labels; keywords that a person
added to a sidecar stay. Image files are never written to. The format is handled by `media.metadata.xmp`.
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
from diptych.catalog.database.database import select_in
from diptych.catalog.store.filters import Filter, allowed_rows, file_conditions
from diptych.catalog.store.store import Store
from diptych.errors import ImageError, InputError, SaveError
from diptych.files.disk import saving, write_temporary
from diptych.media.metadata.xmp import LARGEST, merge_keywords

Style = Literal["darktable", "adobe"]
STYLES = ("darktable", "adobe")
SUFFIX = ".xmp"
_CHUNK = 256  # files whose new sidecar times are stored in one transaction


@dataclass
class SidecarReport:
    """The result of `write_sidecars`, in numbers of sidecars unless stated otherwise.

    Attributes
    ----------
    written, unchanged, removed : int
        A sidecar is removed if it was created here and holds nothing else.
    inside, missing : int
        Images inside archives, and images that are not on disk now; they get no sidecar.
    failures : list of (path, reason)
    """

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    inside: int = 0
    missing: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def sidecar_of(picture: Path, style: Style) -> Path:
    """Return the path at which a program looks for the sidecar of an image.

    Parameters
    ----------
    style : {"darktable", "adobe"}
        darktable, digiKam and others append a suffix to the whole name; Adobe's programs replace the suffix,
        so a RAW file and its JPEG share a sidecar.

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
    filters: Filter | None = None,
    undo: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SidecarReport:
    """Write the tags of the catalogue to sidecars.

    Parameters
    ----------
    style : {"darktable", "adobe"}
        How sidecars are named, see `sidecar_of`.
    filters : Filter, optional
        Only sidecars of these images; one that several images share gets the tags of all of them.
    undo : bool
        Remove every keyword that was written here.
    progress : callable, optional
        Called with the number of further images that are done.

    Notes
    -----
    Some programs read the keywords of a sidecar instead of those in the image, so the image's own keywords
    are written to the sidecar as well.
    """
    outcome = SidecarReport()
    shifts: dict[bytes, int] = {}
    for sidecar, pictures in _sidecars(store, style, filters, outcome).items():
        contents = [content for _, content in pictures]
        keywords = [] if undo else _keywords(store, contents)
        if not any(os.path.lexists(path) for path, _ in pictures):
            outcome.missing += len(pictures)
        else:
            before = _modified(sidecar)
            try:
                _update(sidecar, keywords, outcome)
            except (ImageError, SaveError) as error:
                outcome.failures.append((sidecar, str(error)))
            if shift := _modified(sidecar) - before:
                shifts.update((os.fsencode(path), shift) for path, _ in pictures)
        if len(shifts) >= _CHUNK:
            _store_shifts(store, shifts)
        if progress:
            progress(len(pictures))
    _store_shifts(store, shifts)
    return outcome


def _store_shifts(store: Store, shifts: dict[bytes, int]) -> None:
    """Add the changes of modification times to the sums that the catalogue stores, and clear `shifts`.

    Otherwise the next indexing would read every image again whose sidecar was written here.
    """
    # `files.sidecar` is the sum of the times of all files beside an image (`ListedFile.sidecar`). Only the
    # difference is added, so a change by another program since the last indexing is still noticed. E.g.
    # stored 100 + 200; another program sets the caption file to 250, and the sidecar goes from 100 to 300
    # here: 300 + 200 is stored, while the next listing finds 300 + 250 and reads the image again. A kill
    # before this commit is harmless: images are read once more than needed.
    with store.database.writing():
        for path, shift in shifts.items():
            for (times,) in store.database.all(
                "SELECT sidecar FROM files WHERE path = ? AND member = ''", (path,)
            ):
                store.database.run(
                    "UPDATE files SET sidecar = ? WHERE path = ? AND member = ''",
                    ((times + shift) & (2**63 - 1), path),  # 63 bits, as `listing` stores the sum
                )
    shifts.clear()


def _modified(sidecar: Path) -> int:
    try:
        return sidecar.stat().st_mtime_ns
    except OSError:
        return 0


def _sidecars(
    store: Store, style: Style, filters: Filter | None, outcome: SidecarReport
) -> dict[Path, list[tuple[Path, int]]]:
    """Map each sidecar of an image that passes the filter to all its images, as (path, content)."""
    pictures_of: dict[Path, list[tuple[Path, int]]] = {}
    selected: set[Path] = set()
    for path, member, content, passes in _files(store, filters or Filter()):
        if member:
            outcome.inside += passes
            continue
        picture = Path(os.fsdecode(path))
        sidecar = sidecar_of(picture, style)
        # Images that do not pass are listed too: a shared sidecar must keep their keywords. E.g. a filter on
        # *.jpg with the style "adobe": b.xmp of b.jpg is also that of b.nef, whose tags stay in it.
        pictures_of.setdefault(sidecar, []).append((picture, content))
        if passes:
            selected.add(sidecar)
    return {sidecar: pictures for sidecar, pictures in pictures_of.items() if sidecar in selected}


def _files(store: Store, filters: Filter) -> Iterator[tuple[bytes, str, int, bool]]:
    """Yield (path, member, content, whether it passes the filter) of every file."""
    contents: set[int] | None = None
    if filters and store.active is not None:
        rows = allowed_rows(store.active, filters).tolist()
        contents = set(store.active.contents_of(rows).values())
    # An image passes if some file of it does; of its files, only those that pass themselves count here.
    condition, values = file_conditions(filters, store.database)
    for path, member, content, passes in store.database.all(
        f"SELECT f.path, f.member, f.content, CASE WHEN {condition or '1 = 1'} THEN 1 ELSE 0 END "
        "FROM files f WHERE f.content IS NOT NULL ORDER BY f.path, f.member",
        values,
    ):
        yield bytes(path), member, content, bool(passes) and (contents is None or content in contents)


def _keywords(store: Store, contents: Sequence[int]) -> list[str]:
    """Return the tags given here, then the images' own keywords; empty if no tag was given here."""
    assigned = [tag for tags in assigned_tags(store.database, contents).values() for tag in tags]
    if not assigned:
        return []  # a sidecar with nothing but the image's own keywords would be of no use
    sql = "SELECT tag FROM tags WHERE origin = ? AND content IN ({}) ORDER BY tag"
    own_keywords = [row[0] for row in select_in(store.database, sql, contents, FILE)]
    return list(dict.fromkeys([*assigned, *own_keywords]))


def _update(sidecar: Path, keywords: Sequence[str], outcome: SidecarReport) -> None:
    sidecar = Path(os.path.realpath(sidecar))  # write through a link instead of replacing it by a file
    old_data = _read(sidecar)
    if old_data is None and not keywords:
        return
    new_data = merge_keywords(old_data, keywords)
    if new_data == old_data:
        outcome.unchanged += 1
    elif new_data is None:
        with saving(sidecar):
            sidecar.unlink()
        outcome.removed += 1
    else:
        _write(sidecar, new_data, replaces=old_data is not None)
        outcome.written += 1


def _write(sidecar: Path, data: bytes, *, replaces: bool) -> None:
    """Write a sidecar by renaming a temporary file over it, with the permissions of the old one."""
    with saving(sidecar):
        mode = stat.S_IMODE(sidecar.stat().st_mode) if replaces else None
        temporary = write_temporary(sidecar, lambda path: path.write_bytes(data))
        try:
            # Before the rename: afterwards, others could read a private sidecar for a moment.
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(sidecar)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _read(sidecar: Path) -> bytes | None:
    try:
        with sidecar.open("rb") as file:
            return file.read(LARGEST + 1)  # one byte more, so that `merge_keywords` notices a file too large
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
