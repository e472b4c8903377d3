"""Images of people with a table of attributes, and the problems of that table.

The table is CSV, TSV or Parquet, inside the folder or archive or beside it. A column is an attribute and its
values are groups; their meaning is not interpreted here. A bad row stops nothing: it is counted by kind of
problem and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.audits.bias.attribute_table import AttributeTable, parse_table
from diptych.datasets.dataset import ImageCollection
from diptych.datasets.formats.archives import ArchiveMember, ImageEntry, Unread, scan
from diptych.errors import DataError, listed
from diptych.files.tables import TABLE_SUFFIXES
from diptych.files.unicode_text import composed
from diptych.media import IMAGE_SUFFIXES

NO_ROW = "pictures without a row"
NO_PICTURE = "rows without a picture"
AMBIGUOUS = "rows that fit several pictures"
REPEATED = "rows that repeat another"
DISAGREE = "pictures whose rows disagree"
BROKEN = "rows with more or fewer cells than columns"
NO_FILE = "rows that name no file"


@dataclass(frozen=True, eq=False)
class PeopleDataset(ImageCollection):
    """Images with one row of attributes each.

    Attributes
    ----------
    columns : mapping of str to tuple
        Attribute -> value of each image, None where the cell is blank.
    problems : mapping of str to tuple of str
        Kind of problem -> names of the affected images or rows.
    table : str
        Source of the attributes, for messages.
    """

    columns: Mapping[str, tuple[str | None, ...]]
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    table: str = ""
    per_image = ("columns",)

    def answers(self) -> Iterable[object]:
        """The attributes of each image."""
        return zip(*self.columns.values(), strict=True)

    def values(self, attribute: str) -> tuple[str | None, ...]:
        """Value of each image.

        Raises
        ------
        DataError
            The column does not exist.
        """
        if attribute not in self.columns:
            raise DataError(
                f"{self.table} has no column {attribute!r}; its attributes are {listed(self.columns)}"
            )
        return self.columns[attribute]

    def groups(self, attribute: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Sorted names of the groups, and the group index of each image, (N,); -1 where the cell is blank.

        Raises
        ------
        DataError
            The column does not exist, or all of its cells are blank.
        """
        return group_codes(self.values(attribute), f"{self.table}: column {attribute!r}")

    def trouble(self) -> list[str]:
        """One sentence for each kind of problem, with the first names."""
        sentences = [f"{len(names):,} {kind}: {listed(names, 3)}." for kind, names in self.problems.items()]
        for attribute, values in self.columns.items():
            if blank_keys := [key for key, value in zip(self.keys, values, strict=True) if value is None]:
                sentences.append(
                    f"{len(blank_keys):,} blank cells of {attribute!r}: {listed(blank_keys, 3)}."
                )
        return sentences


def group_codes(values: Sequence[str | None], column: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Sorted group names (numeric prefixes in numeric order), and the group index of each value; -1 for None.

    Examples
    --------
    >>> names, codes = group_codes(["b", None, "a", "b"], "toy")
    >>> names, codes.tolist()
    (('a', 'b'), [1, -1, 0, 1])
    """
    names = tuple(sorted({value for value in values if value is not None}, key=_natural_key))
    if not names:
        raise DataError(f"{column} has no value: every cell is blank, so there are no groups to compare")
    code_of = {name: code for code, name in enumerate(names)}
    return names, np.array([-1 if value is None else code_of[value] for value in values], dtype=np.int64)


def _natural_key(value: str) -> tuple[float, str]:
    """Sort key of age ranges: 3-9 before 10-19, "more than 70" after both."""
    number = re.match(r"\d{1,9}", value)
    return float(number.group()) if number else float("inf"), value


def load_pictures(path: str | Path, *, name: str | None = None) -> ImageCollection:
    """Load every image of a folder or a tar archive, in all subfolders.

    Raises
    ------
    DataError
        The path does not exist, cannot be read, or holds no image.
    """
    source = Path(path)
    entries = _pictures(source, (member for member, _ in scan(source, _no_data)))
    return ImageCollection(name or _stem(source), tuple(entries))


def load_people(
    path: str | Path,
    table: str | Path | None = None,
    *,
    file: str | None = None,
    columns: Sequence[str] | None = None,
    name: str | None = None,
) -> PeopleDataset:
    """Load the images of a folder or a tar archive with their attributes.

    Parameters
    ----------
    path : path
        A folder, or a .tar or .tar.gz.
    table : path, optional
        CSV, TSV or Parquet. By default the only table inside, or the one beside an archive with its name.
    file : str, optional
        Column with the image paths: a path inside the folder or archive, or an unambiguous end of it. By
        default the first of `FILE_COLUMNS` that exists.
    columns : sequence of str, optional
        Only these attributes; by default all.
    name : str, optional
        Name used in results.

    Raises
    ------
    DataError
        The path does not exist or cannot be read; there is no table, several, or an empty one; a column does
        not exist; no row matches an image.
    """
    source = Path(path)
    members, inside = _listing(source)
    entries = _pictures(source, members)
    folder, content, label = _table(source, inside, table)
    parsed = parse_table(content, label)
    key = parsed.file_position() if file is None else parsed.positions([file])[0]
    others = [position for position in range(len(parsed.header)) if position != key]
    attributes = parsed.positions(columns) if columns else others
    if not attributes:
        raise DataError(
            f"{label} has only the column {parsed.header[key]!r}: expected columns of attributes, too"
        )
    joined, problems = _join_rows(parsed, key, attributes, [entry.name for entry in entries], folder)
    if not joined:
        why = "; ".join(f"{len(names)} {kind}: {listed(names, 3)}" for kind, names in problems.items())
        raise DataError(f"no row of {label} fits a picture of {source} ({why})")
    kept_positions = sorted(joined)
    return PeopleDataset(
        name or _stem(source),
        tuple(entries[position] for position in kept_positions),
        {
            parsed.header[column]: tuple(joined[position][i] for position in kept_positions)
            for i, column in enumerate(attributes)
        },
        problems,
        label,
    )


def _no_data(name: PurePosixPath) -> bool:
    return False


def _is_table(name: PurePosixPath) -> bool:
    return name.suffix.lower() in TABLE_SUFFIXES


def _listing(source: Path) -> tuple[list[ArchiveMember], dict[PurePosixPath, bytes]]:
    """List all files and read the tables among them, in one pass."""
    members: list[ArchiveMember] = []
    tables: dict[PurePosixPath, bytes] = {}
    for member, data in scan(source, _is_table):
        members.append(member)
        if data is not None:
            tables[member.name] = data
    return members, tables


def _pictures(source: Path, members: Iterable[ArchiveMember]) -> list[ImageEntry]:
    entries = [
        ImageEntry(source, member.name, member.size)
        for member in members
        if member.name.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not entries:
        raise DataError(
            f"{source} holds no picture: expected files such as {listed(sorted(IMAGE_SUFFIXES), 4)}"
        )
    return entries


def _table(
    source: Path, inside: Mapping[PurePosixPath, bytes], table: str | Path | None
) -> tuple[PurePosixPath, bytes, str]:
    """Find the table: its folder inside the data, its bytes, and its name for messages."""
    if table is not None:
        return PurePosixPath(), _read(Path(table)), str(table)
    if len(inside) == 1:
        name, content = next(iter(inside.items()))
        if isinstance(content, Unread):
            raise DataError(f"{source}: {name} cannot be read: {content.reason}")
        return name.parent, content, f"{source}: {name}"
    beside = [source.with_name(_stem(source) + suffix) for suffix in sorted(TABLE_SUFFIXES)]
    existing = [path for path in beside if path.is_file()]
    if not inside and len(existing) == 1:
        return PurePosixPath(), _read(existing[0]), str(existing[0])
    candidates = [*inside, *existing]
    problem = (
        f"several: {listed(candidates)}"
        if candidates
        else f"none inside or beside it ({beside[0].name}, ...)"
    )
    raise DataError(f"{source} needs one table of attributes and has {problem}; name it (table=..., --table)")


def _read(path: Path) -> bytes:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{path} is not a table: expected {listed(sorted(TABLE_SUFFIXES))}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"the table {path} cannot be read: {error.strerror or error}") from error


def _stem(path: Path) -> str:
    """File name without .tar, .tar.gz and the like."""
    return re.sub(r"\.(tar|tgz|tar\.\w+)$", "", path.resolve().name)


Attributes: TypeAlias = "dict[int, tuple[str | None, ...]]"


def _join_rows(
    table: AttributeTable,
    key: int,
    columns: Sequence[int],
    names: Sequence[PurePosixPath],
    folder: PurePosixPath,
) -> tuple[Attributes, dict[str, tuple[str, ...]]]:
    """Join rows to images: position of the image -> attributes, and the problems by kind."""
    problems: dict[str, list[str]] = {BROKEN: list(table.broken)}
    find = _ImageLookup(names, folder)
    attributes: Attributes = {}
    conflicting: set[int] = set()
    for row in table.cells:
        positions = find(row[key])
        if len(positions) != 1:
            kind = NO_FILE if not row[key] else AMBIGUOUS if positions else NO_PICTURE
            problems.setdefault(kind, []).append(row[key])
            continue
        position, values = positions[0], tuple(row[column] or None for column in columns)
        if position in attributes and attributes[position] != values:
            conflicting.add(position)
        elif position in attributes:
            problems.setdefault(REPEATED, []).append(row[key])
        attributes.setdefault(position, values)
    missing = [str(names[position]) for position in range(len(names)) if position not in attributes]
    problems |= {NO_ROW: missing, DISAGREE: [str(names[position]) for position in sorted(conflicting)]}
    consistent = {position: values for position, values in attributes.items() if position not in conflicting}
    return consistent, {kind: tuple(row_names) for kind, row_names in problems.items() if row_names}


class _ImageLookup:
    """Maps the path in a row to the positions of the images it may refer to.

    Every suffix of every path is indexed: "a/b/1.jpg" is found as "a/b/1.jpg", "b/1.jpg" and "1.jpg".
    """

    def __init__(self, names: Sequence[PurePosixPath], folder: PurePosixPath) -> None:
        self._folder = _parts(str(folder))
        self._whole = {_parts(str(name)): position for position, name in enumerate(names)}
        self._ends: dict[tuple[str, ...], list[int]] = {}
        for parts, position in self._whole.items():
            for start in range(len(parts)):
                self._ends.setdefault(parts[start:], []).append(position)

    def __call__(self, text: str) -> list[int]:
        """Match the whole path, else the path relative to the table, else every path with this end."""
        parts = _parts(text.replace("\\", "/"))
        for whole in (parts, (*self._folder, *parts)):
            if whole in self._whole:
                return [self._whole[whole]]
        return self._ends.get(parts, [])


def _parts(path: str) -> tuple[str, ...]:
    """Split a path into names in Unicode NFC: table and files may come from different systems."""
    return tuple(composed(part) for part in path.split("/") if part not in ("", "."))
