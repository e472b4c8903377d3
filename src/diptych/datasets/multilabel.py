"""Multi-label data sets: VOC 2007's lists and CLIP_benchmark's shards."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageCollection
from diptych.datasets.formats.archives import ImageEntry, Unread
from diptych.datasets.formats.containers import list_entries, read_text
from diptych.datasets.formats.shards import beside, find_shards, kind_of, shard_parts, with_file
from diptych.datasets.parts import choose
from diptych.errors import DataError
from diptych.media import IMAGE_SUFFIXES

_MOST = 2**20  # bytes of one picture's targets


@dataclass(frozen=True, eq=False)
class MultiLabelDataset(ImageCollection):
    """Images with any number of classes each.

    Attributes
    ----------
    targets : (N, C) int8
        1: the class is present; 0: absent; -1: ignored (VOC's difficult objects).
    skipped : tuple of (key, reason)
        Images that were left out because their classes are missing or unreadable.
    """

    targets: NDArray[np.int8]
    class_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    per_image = ("targets",)

    def answers(self) -> Iterable[object]:
        """The class names and the targets of each image."""
        return ([*self.class_names, row.tolist()] for row in self.targets)


def load_multi_label(path: str | Path, *, part: str = "test", name: str | None = None) -> MultiLabelDataset:
    """Load VOC's folder (ImageSets/Main, JPEGImages) or CLIP_benchmark's shards with KEY.npy.

    VOC's lists per class have 1 (an object of the class), -1 (none) or 0 (only difficult ones). The last are
    ignored, as in VOC's own evaluation; CLIP_benchmark counts them as positives.

    Parameters
    ----------
    path : path
        VOCdevkit, VOCdevkit/VOC2007, or a folder with test/nshards.txt.
    part : str
        "test" or "train" (VOC: trainval if it exists).
    name : str, optional
        Name in results; by default that of the folder.

    Raises
    ------
    DataError
        Another layout, a missing part, or lists that do not match.
    """
    source = Path(path)
    shards = find_shards(source, part)
    if shards is not None:
        return _from_shards(source, shards, name or source.name)
    folder = _voc_folder(source)
    if folder is None:
        raise DataError(
            f"{source} holds no pictures with several classes: expected VOC2007 with JPEGImages and "
            "ImageSets/Main/CLASS_test.txt, or CLIP_benchmark's test/nshards.txt"
        )
    return _from_voc(folder, part, name or source.name)


def multi_label_parts(path: Path) -> set[str]:
    """Parts of a folder; empty for a folder in another layout."""
    if shards := shard_parts(path):
        return set(shards) if kind_of(path) == "multilabel" else set()
    folder = _voc_folder(path)
    return set() if folder is None else {{"trainval": "train"}.get(word, word) for word in _lists(folder)}


def _voc_folder(path: Path) -> Path | None:
    return next(
        (folder for folder in (path, path / "VOC2007", path / "VOCdevkit" / "VOC2007") if _lists(folder)),
        None,
    )


def _lists(folder: Path) -> dict[str, dict[str, Path]]:
    """Part -> class -> path of its list."""
    lists: dict[str, dict[str, Path]] = {}
    for file in sorted((folder / "ImageSets" / "Main").glob("*_*.txt")):
        name, _, word = file.stem.rpartition("_")
        lists.setdefault(word, {})[name] = file
    return lists


def _from_voc(folder: Path, part: str, name: str) -> MultiLabelDataset:
    lists_by_part = _lists(folder)
    names = {"trainval": "train", "train": "train_only"} if "trainval" in lists_by_part else {}
    lists = choose({names.get(word, word): files for word, files in lists_by_part.items()}, part, folder)
    columns = {text: _column(file) for text, file in lists.items()}
    first = next(iter(columns.values()))
    for text, column in columns.items():
        if column.keys() != first.keys():
            raise DataError(f"{lists[text]} lists other pictures than {lists[next(iter(columns))]}")
    pictures = list_entries(
        folder / "JPEGImages", lambda name: name.stem in first and name.suffix.lower() in IMAGE_SUFFIXES
    )
    existing = {entry.name.stem for entry in pictures}
    missing = tuple((f"{stem}.jpg", "listed and not there") for stem in first if stem not in existing)
    if not pictures:
        raise DataError(f"none of the {len(first):,} pictures its lists name is in {folder / 'JPEGImages'}")
    rows = [[column[entry.name.stem] for column in columns.values()] for entry in pictures]
    return MultiLabelDataset(name, tuple(pictures), np.array(rows, dtype=np.int8), tuple(columns), missing)


def _column(path: Path) -> dict[str, int]:
    """Read one of VOC's lists: image -> target."""
    values = {"1": 1, "-1": 0, "0": -1}
    targets = {}
    for line in read_text(path).split("\n"):
        words = line.split()
        if words and (len(words) != 2 or words[1] not in values):
            raise DataError(f"{path} has the line {line!r:.60}: expected a picture and 1, -1 or 0")
        if words:
            targets[words[0]] = values[words[1]]
    return targets


def _from_shards(folder: Path, shards: Sequence[Path], name: str) -> MultiLabelDataset:
    words = tuple(beside(folder, "classnames.txt"))
    if not words:
        raise DataError(f"{folder} has no classnames.txt, which names the classes of its targets")
    entries: list[ImageEntry] = []
    rows: list[NDArray[np.int8]] = []
    skipped: list[tuple[str, str]] = []
    for entry, data in (item for shard in shards for item in with_file(shard, ".npy")):
        row = _targets(data, len(words))
        if isinstance(row, str):
            skipped.append((str(entry.name), row))
        else:
            entries.append(entry)
            rows.append(row)
    if not entries:
        why = f"; the first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise DataError(f"{folder} holds no picture with classes{why}")
    return MultiLabelDataset(name, tuple(entries), np.stack(rows), words, tuple(skipped))


def _targets(data: bytes, classes: int) -> NDArray[np.int8] | str:
    """Read the targets of a .npy file, (C,), or the reason why there are none."""
    if isinstance(data, Unread):
        return data.reason
    try:
        if len(data) > _MOST:
            raise ValueError(f"{len(data):,} bytes")
        row: NDArray[np.generic] = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy and ast raise many kinds for broken headers
        return f"its .npy cannot be read: {error}"
    if row.shape != (classes,) or row.dtype.kind not in "biuf" or not np.isin(row, (-1, 0, 1)).all():
        return f"its .npy has the shape {row.shape}: expected {classes} numbers, each 0 or 1"
    return row.astype(np.int8)
