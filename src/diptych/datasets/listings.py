"""Data sets that keep pictures in one place and lists of their parts in another, as torchvision unpacks them.

Each is a line of data: which list, how a line of it reads, and where its picture lies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from diptych.datasets.archives import Entry
from diptych.datasets.containers import read_text, scan
from diptych.datasets.labelled import Labelled, named
from diptych.datasets.parts import choose
from diptych.errors import DataError


@dataclass(frozen=True)
class Listing:
    """How a data set lists a part.

    Attributes
    ----------
    lists : mapping
        Part -> the file with the list.
    line : pattern
        With the groups "file" and "name" (the class).
    pictures : str
        The folder of the pictures.
    file : str
        A picture's path in that folder, from the groups.
    """

    lists: dict[str, str]
    line: re.Pattern[str]
    pictures: str
    file: str


LISTINGS = (
    # Food-101: apple_pie/1011328
    Listing(
        {"train": "meta/train.txt", "test": "meta/test.txt"},
        re.compile(r"(?P<name>[^/\s]+)/(?P<file>\S+)"),
        "images",
        "{name}/{file}.jpg",
    ),
    # Oxford-IIIT Pet: Abyssinian_201 1 1 1
    Listing(
        {"train": "annotations/trainval.txt", "test": "annotations/test.txt"},
        re.compile(r"(?P<file>(?P<name>\S+)_\d+)\s.*"),
        "images",
        "{file}.jpg",
    ),
    # Describable Textures, the first of its ten splits: banded/banded_0002.jpg
    Listing(
        {"train": "labels/train1.txt", "val": "labels/val1.txt", "test": "labels/test1.txt"},
        re.compile(r"(?P<file>(?P<name>[^/]+)/\S+)"),
        "images",
        "{file}",
    ),
    # FGVC Aircraft: 0034309 A320
    Listing(
        {
            "train": "data/images_variant_trainval.txt",
            "val": "data/images_variant_val.txt",
            "test": "data/images_variant_test.txt",
        },
        re.compile(r"(?P<file>\d+) (?P<name>.+)"),
        "data/images",
        "{file}.jpg",
    ),
    # GTSRB, the test part: 00000.ppm;53;54;6;5;48;49;16
    Listing(
        {"test": "GT-final_test.csv"},
        re.compile(r"(?P<file>\d+\.ppm);.*;(?P<name>\d+)"),
        "GTSRB/Final_Test/Images",
        "{file}",
    ),
)


def read_listed(path: Path, part: str) -> Labelled | None:
    """Labelled pictures of a folder with such lists; None where it has none.

    Raises
    ------
    DataError
        The list of that part is not there, or names no picture that is.
    """
    parts = listed_parts(path)
    return _read(*choose(parts, part, path)) if parts else None


def listed_parts(path: Path) -> dict[str, tuple[Path, Listing, Path]]:
    """Part -> folder, what kind of list, and the list; empty where there is none."""
    for folder in (path, path / path.name):  # torchvision puts dtd in dtd
        for listing in LISTINGS:
            if (folder / listing.pictures).is_dir():
                files = {name: folder / file for name, file in listing.lists.items()}
                found = {name: (folder, listing, file) for name, file in files.items() if file.is_file()}
                if found:
                    return found
    return {}


def _read(folder: Path, listing: Listing, path: Path) -> Labelled:
    matches = (listing.line.fullmatch(line.strip()) for line in read_text(path).splitlines())
    names = {PurePosixPath(listing.file.format(**m.groupdict())): m["name"] for m in matches if m is not None}
    root = folder / listing.pictures
    entries = [
        Entry(root, member.name, member.size)
        for member, _ in scan(root, lambda _: False)
        if member.name in names
    ]
    if not entries:
        raise DataError(f"{path} names no picture that is in {root}: {len(names):,} lines could be read")
    found = named(tuple(entries), [names[entry.name] for entry in entries])
    there = {entry.name for entry in entries}
    missing = tuple(
        (str(name), f"listed in {path.name} and not there") for name in names if name not in there
    )
    return Labelled(found.entries, found.labels, found.classes, skipped=missing)
