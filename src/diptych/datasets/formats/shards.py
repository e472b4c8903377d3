"""CLIP_benchmark's folders: `test/nshards.txt`, `test/0.tar` ..., class names and prompts beside them.

Single shards and folders with KEY.cls files are read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from diptych.datasets.formats.archives import ImageEntry, Unread
from diptych.datasets.formats.containers import read_text, scan
from diptych.datasets.formats.labelled import Labelled, numbered
from diptych.datasets.parts import OUTSIDE, choose, select_part
from diptych.errors import DataError, counted
from diptych.files.text_files import decode_text
from diptych.media import IMAGE_SUFFIXES
from diptych.media.folders.keys import Companions

_COUNT = "nshards.txt"
_MOST = 1_000_000  # shards: more than any data set has


def find_shards(path: Path, part: str) -> list[Path] | None:
    """Find the shards of a part, in order; None for other folders.

    Raises
    ------
    DataError
        A missing part, an invalid number of shards, or a missing shard.
    """
    parts = shard_parts(path)
    if not parts:
        return None
    count = parts[""] if "" in parts else choose(parts, part, path)
    text = read_text(count).strip()
    if not re.fullmatch("[0-9]{1,7}", text) or not 0 < int(text) <= _MOST:
        raise DataError(f"{count} says {text!r:.40}: expected the number of shards")
    shards = [count.with_name(f"{number}.tar") for number in range(int(text))]
    missing = next((shard for shard in shards if not shard.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is not there, though {count} tells of {counted(len(shards), 'shard')}")
    return shards


def shard_parts(path: Path) -> dict[str, Path]:
    """Part -> the file with its number of shards; "" if the folder itself is a part."""
    if not path.is_dir():
        return {}
    if (path / _COUNT).is_file():
        return {"": path / _COUNT}
    return {file.parent.name: file for file in sorted(path.glob(f"*/{_COUNT}"))}


def kind_of(path: Path) -> str:
    """The content of dataset_type.txt: "retrieval", "multilabel" or, by default, "classification"."""
    return (beside(path, "dataset_type.txt") or ["classification"])[0].lower()


def beside(path: Path, name: str) -> list[str]:
    """Lines of a file of the data set, in the folder itself or, for the folder of a part, in its parent."""
    for folder in (path, path.parent):
        if (folder / name).is_file():
            lines = (line.strip() for line in read_text(folder / name).split("\n"))
            return [line for line in lines if line]
    return []


def read_webdataset(path: Path, part: str) -> Labelled | None:
    """Read the labelled images of a folder of shards; None for other folders.

    Raises
    ------
    DataError
        A folder for another task, missing shards, or labels that do not match the class names.
    """
    shards = find_shards(path, part)
    if shards is None:
        return None
    if kind_of(path) != "classification":
        raise DataError(f"{path} is for {kind_of(path)} by its dataset_type.txt: its pictures have no class")
    return read_classes(
        path,
        shards,
        names=tuple(beside(path, "classnames.txt")) or None,
        templates=tuple(
            line.replace("{c}", "{}") for line in beside(path, "zeroshot_classification_templates.txt")
        ),
    )


def read_classes(
    source: Path,
    paths: Iterable[Path],
    *,
    part: str | None = None,
    names: tuple[str, ...] | None = None,
    templates: tuple[str, ...] = (),
) -> Labelled:
    """Read the labelled images of shards or folders, with the number of the class of KEY.jpg in KEY.cls.

    Parameters
    ----------
    source : Path
        For messages.
    part : str, optional
        For a folder or archive whose folders are named after parts; by default all images.
    names, templates
        As for `Labelled`.

    Raises
    ------
    DataError
        No image with a class, or a class without a name.
    """
    entries: list[ImageEntry] = []
    labels: list[int] = []
    skipped: list[tuple[str, str]] = []
    for entry, data in (item for path in paths for item in with_file(path, ".cls", part)):
        try:
            text = decode_text(data, f"the .cls of {entry.name}").strip().strip("\0")
        except DataError as error:
            skipped.append((str(entry.name), str(error)))
            continue
        if re.fullmatch(r"-?[0-9]{1,9}", text):
            entries.append(entry)
            labels.append(int(text))
        else:
            why = getattr(data, "reason", f"its .cls says {text!r:.40}: expected a number")
            skipped.append((str(entry.name), why))
    if not entries and skipped:
        raise DataError(f"{source}: no picture has a class; the first: {skipped[0][0]}: {skipped[0][1]}")
    labelled = numbered(source, tuple(entries), np.array(labels, dtype=np.int64), names, words=True)
    return replace(labelled, skipped=tuple(skipped), templates=templates)


def with_file(path: Path, suffix: str, part: str | None = None) -> list[tuple[ImageEntry, bytes]]:
    """Every image with the bytes of the file KEY + suffix beside it; `Unread` if there is none."""
    pictures: list[ImageEntry] = []
    files: dict[str, bytes] = {}
    for member, data in scan(path, lambda name: name.suffix.lower() == suffix):
        if isinstance(data, bytes):
            files[str(member.name)] = data
        elif member.name.suffix.lower() in IMAGE_SUFFIXES:
            pictures.append(ImageEntry(path, member.name, member.size))
    none = Unread.because(f"no KEY{suffix} beside it")
    beside = Companions([*files, *(str(entry.name) for entry in pictures)], (suffix,))
    names = (beside.of(str(entry.name)).get(suffix) for entry in pictures)
    pairs = [
        (entry, none if name is None else files[name]) for entry, name in zip(pictures, names, strict=True)
    ]
    if part is None:
        return pairs
    chosen, outside = select_part([entry.name.parts[:-1] for entry in pictures], part, path)
    left_out = Unread.because(OUTSIDE)
    return [
        *(pairs[position] for position in chosen),
        *((pictures[position], left_out) for position in outside),
    ]
