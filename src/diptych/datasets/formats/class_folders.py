"""Class folders: the folder of an image is its class, below folders of parts and of domains.

    <class>/<file>   <part>/<class>/<file>   <class>/<part>/<file>   <domain>/<class>/<file>

Further folders may be above these, and parts and domains may be combined.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diptych.datasets.formats.archives import ImageEntry
from diptych.datasets.formats.containers import scan
from diptych.datasets.formats.labelled import Labelled, named
from diptych.datasets.formats.shards import read_classes
from diptych.datasets.parts import OUTSIDE, is_part_folder, select_part
from diptych.errors import DataError, listed
from diptych.files.unicode_text import composed
from diptych.media import IMAGE_SUFFIXES


def read_folders(path: Path, part: str, domain: str | None) -> Labelled:
    """Read the labelled images of class folders, or with the class of KEY.jpg in KEY.cls.

    Parameters
    ----------
    path : Path
        A folder or an archive.
    part : str
        As for `choose`.
    domain : str or None
        Only images below a folder of this name.

    Raises
    ------
    DataError
        No class folder, a missing part or domain, or folders that are not classes.
    """
    images, labels_beside = _images(path)
    if labels_beside and domain is None:
        return read_classes(path, [path], part=part)
    entries = [entry for entry in images if len(entry.name.parts) > 1]
    if not entries:
        raise DataError(
            f"{path} holds no picture in a class folder: expected <class>/<file>.jpg, one folder per class"
            + (f"; its {len(images)} pictures lie in no folder" if images else "")
        )
    inner = 2 if _classes_above_parts(entries) else 1
    folders = [entry.name.parts[:-1] if inner == 2 else entry.name.parts[:-2] for entry in entries]
    chosen, outside = select_part(folders, part, path)
    no_part = tuple((str(entries[position].name), OUTSIDE) for position in outside)
    entries = [entries[position] for position in chosen]
    if domain is not None:
        entries = _in_domain(entries, domain, inner)
    classes = [entry.name.parts[-1 - inner] for entry in entries]
    _refuse_other_layouts(path, classes)
    loose = tuple(
        (str(entry.name), "lies in no class folder") for entry in images if len(entry.name.parts) == 1
    )
    return replace(named(tuple(entries), classes), skipped=loose + no_part)


def domains(path: str | Path) -> tuple[str, ...]:
    """Names of the folders directly above the class folders, sorted: ("art_painting", ...) for PACS.

    Folders of parts, and the class folders of <class>/<part>/<file>, are not domains.
    """
    entries = [entry for entry in _images(Path(path))[0] if len(entry.name.parts) > 1]
    inner = 2 if _classes_above_parts(entries) else 1
    above = (
        [name for name in entry.name.parts[: -1 - inner] if not is_part_folder(name)] for entry in entries
    )
    return tuple(sorted({names[-1] for names in above if names}))


def _images(path: Path) -> tuple[list[ImageEntry], bool]:
    """All images, and whether there is a file KEY.cls."""
    images, labels_beside = [], False
    for member, _ in scan(path, lambda _: False):
        if member.name.suffix.lower() in IMAGE_SUFFIXES:
            images.append(ImageEntry(path, member.name, member.size))
        labels_beside = labels_beside or member.name.suffix.lower() == ".cls"
    return images, labels_beside


def _classes_above_parts(entries: Sequence[ImageEntry]) -> bool:
    """Whether the layout is <class>/<part>/<file>: the parent folders of all images are named after parts."""
    parents = {entry.name.parent for entry in entries}
    classes = {folder.parent.name for folder in parents if is_part_folder(folder.name)}
    return all(is_part_folder(folder.name) for folder in parents) and len(classes - {""}) > 1


def _refuse_other_layouts(path: Path, classes: Sequence[str]) -> None:
    """Refuse folders of other tasks that look like class folders: VOC's JPEGImages, COCO's train2017."""
    names = sorted(set(classes))
    if "JPEGImages" in names:
        raise DataError(
            f"{path} is a folder of VOC, whose pictures have several classes each: expected VOCdevkit or "
            "VOCdevkit/VOC2007, read as multi-label (load_multi_label; `zero-shot` does so automatically)"
        )
    if all(is_part_folder(re.sub(r"[\W_]*\d+$", "", name)) for name in names):
        raise DataError(
            f"{path}: its pictures are in {listed(names)}, which are parts and not classes: expected "
            "<part>/<class>/<file>"
        )


def _in_domain(entries: list[ImageEntry], domain: str, inner: int) -> list[ImageEntry]:
    """Images below the folder of a domain, which is above `inner` folders of classes and parts."""
    of_domain = [
        entry for entry in entries if composed(domain) in map(composed, entry.name.parts[: -1 - inner])
    ]
    if not of_domain:
        names_above = sorted({name for entry in entries for name in entry.name.parts[: -1 - inner]})
        raise DataError(
            f"no picture is below a folder {domain!r}; folders above the classes: {listed(names_above)}"
        )
    return of_domain
