"""Data sets with a folder of images and lists of their parts, as unpacked by torchvision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diptych.datasets.formats.containers import list_entries, read_text
from diptych.datasets.formats.labelled import Labelled, named
from diptych.datasets.parts import choose
from diptych.errors import DataError
from diptych.files.unicode_text import composed


@dataclass(frozen=True)
class PartListing:
    """Description of the lists of a data set.

    Attributes
    ----------
    lists : mapping
        Part -> the files with its lists.
    line : pattern
        Pattern of a line, with the groups "file" and "name" (the class).
    pictures : str
        The folder of the images.
    file : str
        Path of an image in that folder, as a template of the groups.
    """

    lists: dict[str, tuple[str, ...]]
    line: re.Pattern[str]
    pictures: str
    file: str


LISTINGS = (
    # Food-101: apple_pie/1011328
    PartListing(
        {"train": ("meta/train.txt",), "test": ("meta/test.txt",)},
        re.compile(r"(?P<name>[^/\s]+)/(?P<file>\S+)"),
        "images",
        "{name}/{file}.jpg",
    ),
    # Oxford-IIIT Pet: Abyssinian_201 1 1 1
    PartListing(
        {"train": ("annotations/trainval.txt",), "test": ("annotations/test.txt",)},
        re.compile(r"(?P<file>(?P<name>\S+)_\d+)\s.*"),
        "images",
        "{file}.jpg",
    ),
    # Describable Textures, the first of its ten splits: banded/banded_0002.jpg. The paper trains on 3,760
    # pictures (table 9), which are train and val.
    PartListing(
        {
            "train": ("labels/train1.txt", "labels/val1.txt"),
            "train_only": ("labels/train1.txt",),
            "val": ("labels/val1.txt",),
            "test": ("labels/test1.txt",),
        },
        re.compile(r"(?P<file>(?P<name>[^/]+)/\S+)"),
        "images",
        "{file}",
    ),
    # FGVC Aircraft: 0034309 A320
    PartListing(
        {
            "train": ("data/images_variant_trainval.txt",),
            "train_only": ("data/images_variant_train.txt",),
            "val": ("data/images_variant_val.txt",),
            "test": ("data/images_variant_test.txt",),
        },
        re.compile(r"(?P<file>\d+) (?P<name>.+)"),
        "data/images",
        "{file}.jpg",
    ),
    # GTSRB, the test part: 00000.ppm;53;54;6;5;48;49;16
    PartListing(
        {"test": ("GT-final_test.csv",)},
        re.compile(r"(?P<file>\d+\.ppm);.*;(?P<name>\d+)"),
        "GTSRB/Final_Test/Images",
        "{file}",
    ),
)


def read_listed(path: Path, part: str) -> Labelled | None:
    """Read the labelled images of a folder with such lists; None if it has none.

    Raises
    ------
    DataError
        The list of the part is missing, or none of its images exists.
    """
    parts = listed_parts(path)
    return _read(*choose(parts, part, path)) if parts else None


def listed_parts(path: Path) -> dict[str, tuple[Path, PartListing, list[Path]]]:
    """Part -> folder, description and paths of the lists; empty if there is none."""
    for folder in (path, path / path.name):  # torchvision puts dtd in dtd
        for listing in LISTINGS:
            if (folder / listing.pictures).is_dir():
                files = {name: [folder / file for file in each] for name, each in listing.lists.items()}
                parts = {name: (folder, listing, each) for name, each in files.items() if each[0].is_file()}
                if parts:
                    return parts
    return {}


def _read(folder: Path, listing: PartListing, lists: Sequence[Path]) -> Labelled:
    names: dict[str, str] = {}  # picture -> class
    skipped: list[tuple[str, str]] = []
    for path in lists:
        if not path.is_file():
            skipped.append((path.name, f"the list is not beside {lists[0].name}"))
            continue
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if (match := listing.line.fullmatch(line.strip())) is not None:
                names[composed(listing.file.format(**match.groupdict()))] = match["name"]
            elif line.strip() and not line.startswith("#") and not (number == 1 and path.suffix == ".csv"):
                skipped.append((f"{path.name}, line {number}", f"cannot be read: {line!r:.60}"))
    list_names = " and ".join(path.name for path in lists)
    root = folder / listing.pictures
    entries = list_entries(root, lambda name: composed(str(name)) in names)
    if not entries:
        raise DataError(
            f"{list_names} names no picture that is in {root}: {len(names):,} lines could be read"
        )
    labelled = named(tuple(entries), [names[composed(str(entry.name))] for entry in entries])
    existing = {composed(str(entry.name)) for entry in entries}
    skipped += [(name, f"listed in {list_names} and not there") for name in names if name not in existing]
    return replace(labelled, skipped=tuple(skipped))
