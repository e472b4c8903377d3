"""CLEVR and KITTI in their original layout, as images with a count or a distance each.

The classes are those of the visual task adaptation benchmark (Zhai et al. 2019, arXiv 1910.04867), which the
paper measured on: `clevr_count_all`, `clevr_closest_object_distance`, `kitti_closest_vehicle_distance`.
Nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from diptych.datasets import ImageDataset
from diptych.datasets.formats.archives import ImageEntry
from diptych.errors import DataError
from diptych.files.disk import file_inside
from diptych.zeroshot import class_names

# Upper edges in Blender units, and CLIP_benchmark's words for the steps; the fourth word is ours.
CLEVR_EDGES = (8.0, 8.5, 9.0, 9.5, 10.0)
CLEVR_WORDS = ("very nearby", "nearby", "near", "neither near nor far", "distant", "very distant")
KITTI_EDGES = (8.0, 20.0, 999.0)  # upper edges in metres; the last class is "no vehicle"
_VEHICLES = ("Car", "Van", "Truck")


def clevr_counts(folder: str | Path) -> ImageDataset:
    """CLEVR's validation images by their number of objects, 3 to 10.

    Parameters
    ----------
    folder : path
        CLEVR_v1.0, with `scenes/CLEVR_val_scenes.json` and `images/val`.

    Raises
    ------
    DataError
        The files are missing or not CLEVR's.
    """
    scenes = _clevr_scenes(Path(folder))
    counts = [len(scene["objects"]) for scene in scenes]
    numbers = sorted(set(counts))
    return _dataset(
        "clevr counts", _clevr_files(folder, scenes), map(numbers.index, counts), map(str, numbers)
    )


def clevr_distances(folder: str | Path) -> ImageDataset:
    """CLEVR's validation images by the distance of the object nearest to the camera, in six steps."""
    scenes = _clevr_scenes(Path(folder))
    try:
        nearest = [min(float(item["pixel_coords"][2]) for item in scene["objects"]) for scene in scenes]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder}: a scene has no depth for its objects ({type(error).__name__}: {error})"
        ) from error
    labels = (int(np.searchsorted(CLEVR_EDGES, depth, side="left")) for depth in nearest)
    return _dataset("clevr distances", _clevr_files(folder, scenes), labels, CLEVR_WORDS)


def kitti_distances(folder: str | Path) -> ImageDataset:
    """KITTI's training images by the distance of the nearest vehicle: the paper's four classes.

    Parameters
    ----------
    folder : path
        With `label_2` and `image_2`, or with both inside `training`.

    Raises
    ------
    DataError
        The files are missing, or a label file is not KITTI's.
    """
    root = Path(folder)
    root = root / "training" if (root / "training" / "label_2").is_dir() else root
    files = sorted((root / "label_2").glob("*.txt"))
    pairs = [(label, root / "image_2" / f"{label.stem}.png") for label in files]
    pairs = [(label, picture) for label, picture in pairs if picture.is_file()]
    if not pairs:
        raise DataError(
            f"{folder} holds no KITTI pictures with labels: expected label_2/000000.txt beside "
            "image_2/000000.png, here or in a folder training"
        )
    labels = [kitti_class(_read(label)) for label, _ in pairs]
    entries = [
        ImageEntry(picture.parent, PurePosixPath(picture.name), picture.stat().st_size)
        for _, picture in pairs
    ]
    return _dataset("kitti distances", entries, labels, class_names("kitti"))


def kitti_class(text: str) -> int:
    """Class of a KITTI label file: nearest vehicle under 8 m, under 20 m, farther, none.

    Examples
    --------
    >>> car = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
    >>> kitti_class(car), kitti_class(car.replace("46.70", "7.5")), kitti_class("")
    (2, 0, 3)
    """
    nearest = 1000.0
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0] not in _VEHICLES:
            continue
        try:
            nearest = min(nearest, float(fields[13]))
        except (IndexError, ValueError) as error:
            raise DataError(
                f"not a KITTI label line: {line[:80]!r}; expected 15 fields, depth as the 14th"
            ) from error
    return int(np.searchsorted(KITTI_EDGES, nearest, side="left"))


def _clevr_scenes(folder: Path) -> list[Mapping[str, Any]]:
    """Scenes whose images exist."""
    path = folder / "scenes" / "CLEVR_val_scenes.json"
    try:
        scenes = json.loads(path.read_text(encoding="utf-8"))["scenes"]
        usable = [scene for scene in scenes if isinstance(scene["objects"], list) and scene["objects"]]
        files = [file_inside(folder / "images" / "val", scene["image_filename"]) for scene in usable]
        usable = [
            scene for scene, file in zip(usable, files, strict=True) if file is not None and file.is_file()
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read as CLEVR's scenes ({type(error).__name__}: {error}): expected the folder "
            "CLEVR_v1.0 with scenes/CLEVR_val_scenes.json and images/val"
        ) from error
    if not usable:
        raise DataError(f"{folder}/images/val holds none of the {len(scenes)} pictures that {path} names")
    return usable


def _clevr_files(folder: str | Path, scenes: Sequence[Mapping[str, Any]]) -> list[ImageEntry]:
    root = Path(folder) / "images" / "val"  # only the listed files: the training images beside them are many
    names = [scene["image_filename"] for scene in scenes]
    return [ImageEntry(root, PurePosixPath(name), (root / name).stat().st_size) for name in names]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def _dataset(
    name: str, entries: Sequence[ImageEntry], labels: Iterable[int], names: Iterable[str]
) -> ImageDataset:
    """Data set in the order in which a folder is walked, in which images are read back."""
    pairs = sorted(zip(entries, labels, strict=True), key=lambda pair: pair[0].name.name)
    return ImageDataset(
        name,
        tuple(entry for entry, _ in pairs),
        np.array([label for _, label in pairs], dtype=np.int64),
        tuple(names),
    )
