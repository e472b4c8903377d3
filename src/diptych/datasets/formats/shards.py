"""CLIP_benchmark's folders: `test/nshards.txt`, `test/0.tar` ..., class names and prompts beside them.

Says which shards make a part and what lies beside each picture; a single shard, or a folder with KEY.cls
files, is read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from diptych.datasets.formats.archives import Entry, Unread
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
    """The shards of a part, in order; None where the folder is none of CLIP_benchmark's.

    Raises
    ------
    DataError
        No such part, a count that is no number, or a shard that is missing.
    """
    parts = shard_parts(path)
    if not parts:
        return None
    count = parts[""] if "" in parts else choose(parts, part, path)
    told = read_text(count).strip()
    if not re.fullmatch("[0-9]{1,7}", told) or not 0 < int(told) <= _MOST:
        raise DataError(f"{count} says {told!r:.40}: expected the number of shards")
    shards = [count.with_name(f"{number}.tar") for number in range(int(told))]
    missing = next((shard for shard in shards if not shard.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is not there, though {count} tells of {counted(len(shards), 'shard')}")
    return shards


def shard_parts(path: Path) -> dict[str, Path]:
    """Part -> the file with its number of shards; "" for a folder that is itself a part's."""
    if not path.is_dir():
        return {}
    if (path / _COUNT).is_file():
        return {"": path / _COUNT}
    return {one.parent.name: one for one in sorted(path.glob(f"*/{_COUNT}"))}


def kind_of(path: Path) -> str:
    """What dataset_type.txt says: "classification" where there is none, "retrieval", "multilabel"."""
    return (beside(path, "dataset_type.txt") or ["classification"])[0].lower()


def beside(path: Path, name: str) -> list[str]:
    """Lines of a file that comes with a data set, in its folder or, of a part's folder, in the one above."""
    for folder in (path, path.parent):
        if (folder / name).is_file():
            lines = (line.strip() for line in read_text(folder / name).split("\n"))
            return [line for line in lines if line]
    return []


def read_webdataset(path: Path, part: str) -> Labelled | None:
    """Labelled pictures of a folder of shards; None where it is none.

    Raises
    ------
    DataError
        A folder for another task, missing shards, or labels that do not match the class names.
    """
    shards = find_shards(path, part)
    if shards is None:
        return None
    if kind_of(path) != "classification":
        raise DataError(
            f"{path} is for {kind_of(path)}, as its dataset_type.txt says: its pictures have no class"
        )
    return read_classes(
        path,
        shards,
        names=tuple(beside(path, "classnames.txt")) or None,
        templates=tuple(
            line.replace("{c}", "{}") for line in beside(path, "zeroshot_classification_templates.txt")
        ),
    )


def read_classes(
    where: Path,
    paths: Iterable[Path],
    *,
    part: str | None = None,
    names: tuple[str, ...] | None = None,
    templates: tuple[str, ...] = (),
) -> Labelled:
    """Labelled pictures of shards or folders with KEY.cls beside KEY.jpg, the number of its class.

    Parameters
    ----------
    where : Path
        For messages.
    paths : iterable of Path
    part : str, optional
        Of a folder or archive whose folders are called after parts; by default all that is there.
    names, templates
        As for `Labelled`.

    Raises
    ------
    DataError
        No picture with a class, or a class that has no name.
    """
    entries: list[Entry] = []
    labels: list[int] = []
    skipped: list[tuple[str, str]] = []
    for entry, data in (one for path in paths for one in with_file(path, ".cls", part)):
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
        raise DataError(f"{where}: no picture has a class; the first: {skipped[0][0]}: {skipped[0][1]}")
    found = numbered(where, tuple(entries), np.array(labels, dtype=np.int64), names, words=True)
    return Labelled(found.entries, found.labels, found.classes, found.kind, tuple(skipped), templates)


def with_file(path: Path, suffix: str, part: str | None = None) -> list[tuple[Entry, bytes]]:
    """Every picture with the bytes of the file KEY + suffix beside it; `Unread` where there is none."""
    pictures: list[Entry] = []
    files: dict[str, bytes] = {}
    for member, data in scan(path, lambda name: name.suffix.lower() == suffix):
        if isinstance(data, bytes):
            files[str(member.name)] = data
        elif member.name.suffix.lower() in IMAGE_SUFFIXES:
            pictures.append(Entry(path, member.name, member.size))
    none = Unread.because(f"no KEY{suffix} beside it")
    beside = Companions([*files, *(str(entry.name) for entry in pictures)], (suffix,))
    names = (beside.of(str(entry.name)).get(suffix) for entry in pictures)
    found = [
        (entry, none if name is None else files[name]) for entry, name in zip(pictures, names, strict=True)
    ]
    if part is None:
        return found
    chosen, outside = select_part([entry.name.parts[:-1] for entry in pictures], part, path)
    left_out = Unread.because(OUTSIDE)
    return [*(found[position] for position in chosen), *((pictures[one], left_out) for one in outside)]
