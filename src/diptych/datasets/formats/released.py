"""Data sets in the form of their release: Flowers-102, Stanford Cars, PCam, FER2013, ObjectNet.

Parts are those of the paper's table 9: if it trains on the training and the validation part, "train" is both,
and "train_only" and "val" are the single parts. Class names are those of `diptych.zeroshot`, in the order of
the labels; ObjectNet has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.formats.containers import entries_of, list_entries, read_text
from diptych.datasets.formats.labelled import Labelled, named, numbered, together
from diptych.datasets.formats.pixel_tables import csv_columns, csv_rows, open_hdf5
from diptych.datasets.parts import choose
from diptych.errors import DataError
from diptych.extras import require
from diptych.files.text_files import read_json_file
from diptych.zeroshot import class_names

Read: TypeAlias = Callable[[], Labelled]
Parts: TypeAlias = Mapping[str, Read]
_MOST = 2**26  # bytes of a .mat file; the largest of these has 0.6 MB


def read_released(path: Path, part: str) -> Labelled | None:
    """Read the labelled images of a released data set; None for other paths.

    Raises
    ------
    DataError
        A missing part, or files that cannot be read or do not match.
    """
    parts = released_parts(path)
    return choose(parts, part, path)() if parts else None


def released_parts(path: Path) -> Parts:
    """Part -> its reader; empty if there is none. Only the header of a CSV file is opened."""
    for find_parts in (_flowers, _cars, _pcam, _fer, _objectnet):
        if parts := find_parts(path):
            return parts
    return {}


def _with_validation(train: Read, validation: Read) -> dict[str, Read]:
    """Parts of a data set for which the paper trains on both."""
    return {"train": lambda: together([train(), validation()]), "train_only": train, "val": validation}


# ---- Flowers-102 and Stanford Cars: MATLAB's lists ----


def _flowers(path: Path) -> Parts:
    """Flowers-102: jpg/image_00001.jpg; imagelabels.mat has labels, setid.mat the numbers of each part."""
    if not ((path / "imagelabels.mat").is_file() and (path / "setid.mat").is_file()):
        return {}
    return {
        **_with_validation(partial(_flowers_part, path, "trnid"), partial(_flowers_part, path, "valid")),
        "test": partial(_flowers_part, path, "tstid"),
    }


def _flowers_part(path: Path, name: str) -> Labelled:
    labels = np.asarray(_matlab(path / "imagelabels.mat", "labels")).ravel()
    numbers = np.asarray(_matlab(path / "setid.mat", name)).ravel()
    if not len(numbers) or numbers.min() < 1 or numbers.max() > len(labels):
        raise DataError(f"{path / 'setid.mat'}: {name} has numbers without one of the {len(labels):,} labels")
    listed = {f"image_{number:05d}.jpg": int(labels[number - 1]) for number in numbers.astype(int)}
    return _listed(path / "jpg", listed, "flowers102", "setid.mat")


def _cars(path: Path) -> Parts:
    """Stanford Cars: cars_train and cars_test with lists in devkit; or car_ims with cars_annos.mat."""
    if (path / "cars_annos.mat").is_file():
        return {part: partial(_cars_of_one_list, path, part == "test") for part in ("train", "test")}
    files = {
        "train": ("cars_train", ("devkit/cars_train_annos.mat",)),
        # The devkit's list of the test part has no classes; a list with classes was released later.
        "test": ("cars_test", ("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat")),
    }
    return {
        part: partial(_cars_part, path / folder, path / name)
        for part, (folder, names) in files.items()
        for name in names
        if (path / name).is_file() and (path / folder).is_dir()
    }


def _cars_part(folder: Path, path: Path) -> Labelled:
    rows = np.atleast_1d(_matlab(path, "annotations"))
    return _listed(folder, _annotated(rows, "fname", path), "cars", path.name)


def _cars_of_one_list(path: Path, test: bool) -> Labelled:
    file = path / "cars_annos.mat"
    rows = np.atleast_1d(_matlab(file, "annotations"))
    rows = np.array([row for row in rows if bool(row["test"]) == test], dtype=rows.dtype)
    return _listed(path, _annotated(rows, "relative_im_path", file), "cars", file.name)


def _annotated(rows: NDArray[Any], name: str, path: Path) -> dict[str, int]:
    """File -> label, from 1, in a MATLAB structure."""
    if rows.dtype.names is None or not {name, "class"} <= set(rows.dtype.names):
        raise DataError(f"{path} has no fields {name!r} and 'class': it has {rows.dtype.names}")
    return {str(row[name]): int(row["class"]) for row in rows}


def _listed(folder: Path, listed: Mapping[str, int], words: str, list_name: str) -> Labelled:
    """Images of a folder that a list names, with labels from 1 and the class names of a prompt set."""
    names = class_names(words)
    labels = {PurePosixPath(name): label for name, label in listed.items()}  # "./a.jpg" is a.jpg
    if wrong := [label for label in labels.values() if not 1 <= label <= len(names)]:
        raise DataError(f"{list_name} has the label {wrong[0]}: expected 1 to {len(names)}")
    entries = tuple(list_entries(folder, labels.__contains__))
    if not entries:
        raise DataError(f"none of the {len(labels):,} pictures listed in {list_name} is in {folder}")
    labelled = numbered(
        folder, entries, np.array([labels[entry.name] - 1 for entry in entries]), names, words=True
    )
    missing = sorted(labels.keys() - {entry.name for entry in entries})
    skipped = tuple((str(name), f"listed in {list_name} and not there") for name in missing)
    return replace(labelled, skipped=skipped)


def _matlab(path: Path, name: str) -> Any:
    """Read a variable of a .mat file.

    Raises
    ------
    DataError
        The file cannot be read, or has no variable of this name.
    """
    io = require("scipy.io", extra="evaluation", purpose="read MATLAB's lists")
    try:
        if path.stat().st_size > _MOST:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        values = io.loadmat(path, squeeze_me=True, variable_names=[name])
    except Exception as error:  # SciPy raises many kinds for a broken file
        raise DataError(f"{path} cannot be read as a list of MATLAB's: {error}") from error
    if name not in values:
        raise DataError(f"{path} has no variable {name!r}")
    return values[name]


# ---- PatchCamelyon and FER2013: tables of pixels ----


def _pcam(path: Path) -> Parts:
    stem = "camelyonpatch_level_2_split_{}_{}.h5"
    parts = {
        part: partial(_pcam_part, path / stem.format(part, "x"), path / stem.format(part, "y"))
        for part in ("train", "valid", "test")
        if (path / stem.format(part, "x")).is_file()
    }
    packed = path / (stem.format("test", "x") + ".gz")
    if not parts and packed.is_file():
        raise DataError(f"{packed} is packed: unpack it and the files beside it first, with gunzip")
    if "train" in parts and "valid" in parts:
        return {**parts, **_with_validation(parts["train"], parts["valid"])}
    return parts


def _pcam_part(images: Path, labels: Path) -> Labelled:
    with open_hdf5(labels, "y") as values:
        targets = np.asarray(values[:]).ravel().astype(np.int64)
    return numbered(images, entries_of(images), targets, class_names("pcam"), words=True)


def _fer(path: Path) -> Parts:
    """FER2013: emotion, pixels and Usage; "train" is Training and PublicTest, "test" is PrivateTest."""
    files = [path] if path.is_file() else [path / "fer2013.csv", path / "icml_face_data.csv"]
    for file in files:
        if file.suffix.lower() == ".csv" and {"emotion", "pixels", "usage"} <= set(csv_columns(file)):
            train, validation, test = (
                partial(_fer_part, file, usage) for usage in ("training", "publictest", "privatetest")
            )
            return {**_with_validation(train, validation), "test": test}
    return {}


def _fer_part(path: Path, usage: str) -> Labelled:
    rows = [
        (entry, emotion)
        for entry, (emotion, used) in zip(entries_of(path), csv_rows(path, "emotion", "usage"), strict=True)
        if used.lower() == usage
    ]
    good = [(entry, int(emotion)) for entry, emotion in rows if emotion.isdecimal()]
    skipped = tuple((str(entry.name), "no emotion") for entry, emotion in rows if not emotion.isdecimal())
    labels = np.array([label for _, label in good], dtype=np.int64)
    labelled = numbered(path, tuple(entry for entry, _ in good), labels, class_names("fer2013"), words=True)
    return replace(labelled, skipped=skipped)


# ---- ObjectNet ----


def _objectnet(path: Path) -> Parts:
    """ObjectNet: images/FOLDER and mappings, as in objectnet-1.0; it has only a test part."""
    complete = (path / "images").is_dir() and (path / "mappings" / "objectnet_to_imagenet_1k.json").is_file()
    return {"test": partial(_objectnet_classes, path)} if complete else {}


def is_objectnet(path: Path) -> bool:
    """Whether a folder is the released ObjectNet, with the mapping to ImageNet's classes."""
    return bool(_objectnet(path)) and (path / "mappings" / "pytorch_to_imagenet_2012_id.json").is_file()


def _objectnet_classes(path: Path) -> Labelled:
    """Images of the 113 classes that ImageNet has too, with ObjectNet's names.

    The paper measures on these (section 3.3). Images of the other 200 classes are left out.
    """
    shared = _json(path / "mappings" / "objectnet_to_imagenet_1k.json")
    folders = _json(path / "mappings" / "folder_to_objectnet_label.json")
    words = {folder: label for folder, label in folders.items() if label in shared}
    if not words:
        raise DataError(f"{path / 'mappings'}: no folder has a class that ImageNet has too")
    root = path / "images"
    entries = list_entries(root, lambda name: len(name.parts) == 2 and name.parts[0] in words)
    if not entries:
        raise DataError(f"{root} has no picture of the {len(words)} classes that ImageNet has too")
    labelled = named(tuple(entries), [words[entry.name.parts[0]] for entry in entries])
    classes: Sequence[str] = sorted(set(words.values()))  # including classes without images
    position = np.array([classes.index(name) for name in labelled.classes])
    texts = tuple(name[0].lower() + name[1:] if name[1:2].islower() else name for name in classes)
    # Readme of the release: every image has a red border of one pixel, to be removed before use.
    return Labelled(
        labelled.entries,
        position[labelled.labels].astype(np.int64),
        texts,
        "words",
        border=1,
        in_imagenet=_in_imagenet(path / "mappings", [shared[name] for name in classes]),
    )


def _in_imagenet(folder: Path, names: Sequence[str]) -> tuple[int, ...]:
    """Positions of ObjectNet's classes among ImageNet's 1,000; empty without the mapping files.

    Line i of imagenet_to_label_2012_v2 has the name of the ImageNet class with id i, and
    pytorch_to_imagenet_2012_id.json maps positions to ids. If ObjectNet merges several classes ("television,
    television system; screen, CRT screen"), the first is used.
    """
    files = folder / "imagenet_to_label_2012_v2", folder / "pytorch_to_imagenet_2012_id.json"
    if not all(file.is_file() for file in files):
        return ()
    lines = [line.strip() for line in read_text(files[0]).split("\n")]
    try:
        numbers = {int(number): int(position) for position, number in read_json_file(files[1]).items()}
        return tuple(numbers[lines.index(name.split(";")[0].strip())] for name in names)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{folder}: its lists of ImageNet's classes do not match ({error})") from error


def _json(path: Path) -> dict[str, str]:
    values = read_json_file(path)
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise DataError(f"{path} is not a mapping from names to names")
    return values
