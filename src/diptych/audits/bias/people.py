"""Pictures with a table of attributes: which picture is in which group, and what is wrong with the table.

The table is CSV, TSV or Parquet, inside the folder or archive or beside it. Nothing here says what an
attribute means; a column is a name and its values are groups. One bad row stops nothing: it is counted under
what is wrong with it, and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.audits.bias.attribute_table import FILE_COLUMNS, TABLE_SUFFIXES, Rows, listed, parse_table
from diptych.datasets.dataset import Pictures
from diptych.datasets.formats.archives import Entry, Member, Unread, scan
from diptych.errors import DataError
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
class PeopleDataset(Pictures):
    """Pictures with one row of attributes each.

    Attributes
    ----------
    columns : mapping of str to tuple
        Attribute -> value of each picture, None where the cell is blank.
    problems : mapping of str to tuple of str
        What is wrong -> names of the pictures or rows it is wrong with.
    table : str
        Where the attributes came from.
    """

    columns: Mapping[str, tuple[str | None, ...]]
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    table: str = ""

    def answers(self) -> Iterable[object]:
        """The attributes of each picture."""
        return zip(*self.columns.values(), strict=True)

    def sample(self, count: int, seed: int = 0) -> PeopleDataset:
        """At most `count` pictures drawn at random, in their old order, with their attributes."""
        rows = self.rows(count, seed)
        return replace(
            self,
            entries=tuple(self.entries[row] for row in rows),
            columns={name: tuple(values[row] for row in rows) for name, values in self.columns.items()},
            sampled_from=self.origin_of(rows),
        )

    def values(self, attribute: str) -> tuple[str | None, ...]:
        """Value of each picture.

        Raises
        ------
        DataError
            No column of that name.
        """
        if attribute not in self.columns:
            raise DataError(
                f"{self.table} has no column {attribute!r}; its attributes are {listed(self.columns)}"
            )
        return self.columns[attribute]

    def groups(self, attribute: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Names of the groups, sorted, and the group of each picture, (N,); -1 where the cell is blank.

        Raises
        ------
        DataError
            No column of that name, or no cell in it that is not blank.
        """
        return group_codes(self.values(attribute), f"{self.table}: column {attribute!r}")

    def trouble(self) -> list[str]:
        """One sentence for each kind of problem, with the first names."""
        told = [f"{len(names):,} {kind}: {listed(names, 3)}." for kind, names in self.problems.items()]
        for attribute, values in self.columns.items():
            if blank := [key for key, value in zip(self.keys, values, strict=True) if value is None]:
                told.append(f"{len(blank):,} blank cells of {attribute!r}: {listed(blank, 3)}.")
        return told


def group_codes(values: Sequence[str | None], what: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Groups by name, those that begin with a number by it, and a number for each value; -1 for None.

    Examples
    --------
    >>> names, codes = group_codes(["b", None, "a", "b"], "toy")
    >>> names, codes.tolist()
    (('a', 'b'), [1, -1, 0, 1])
    """
    names = tuple(sorted({value for value in values if value is not None}, key=_natural))
    if not names:
        raise DataError(f"{what} has no value: every cell is blank, so there are no groups to compare")
    number = {name: place for place, name in enumerate(names)}
    return names, np.array([-1 if value is None else number[value] for value in values], dtype=np.int64)


def _natural(value: str) -> tuple[float, str]:
    """By what ranges of ages sort: 3-9 before 10-19, "more than 70" behind both."""
    number = re.match(r"\d{1,9}", value)
    return float(number.group()) if number else float("inf"), value


def load_pictures(path: str | Path, *, name: str | None = None) -> Pictures:
    """Every picture of a folder or a tar archive, whatever folders they lie in.

    Raises
    ------
    DataError
        Nothing there, nothing readable, no picture.
    """
    source = Path(path)
    return Pictures(name or _stem(source), tuple(_pictures(source, (m for m, _ in scan(source, _nothing)))))


def load_people(
    path: str | Path,
    table: str | Path | None = None,
    *,
    file: str | None = None,
    columns: Sequence[str] | None = None,
    name: str | None = None,
) -> PeopleDataset:
    """Pictures of a folder or a tar archive with their attributes.

    Parameters
    ----------
    path : path
        A folder, or a .tar or .tar.gz.
    table : path, optional
        CSV, TSV or Parquet. By default the one table inside, or the one beside an archive under its name.
    file : str, optional
        Column that names the pictures: a path inside the pack, or as much of its end as tells it apart. By
        default the first of `FILE_COLUMNS` that is there.
    columns : sequence of str, optional
        Only these attributes; by default all.
    name : str, optional
        What results call it.

    Raises
    ------
    DataError
        Nothing there or nothing readable; no table, several, or an empty one; a column that is not there; no
        row that fits a picture.
    """
    source = Path(path)
    members, inside = _listing(source)
    entries = _pictures(source, members)
    where, content, told = _table(source, inside, table)
    rows = parse_table(content, told)
    key = rows.column(file) if file is not None else rows.first(FILE_COLUMNS)
    wanted = [rows.column(one) for one in columns] if columns else [i for i in range(rows.width) if i != key]
    if not wanted:
        raise DataError(f"{told} has the one column {rows.header[key]!r}: expected attributes beside it")
    found, problems = _joined(rows, key, wanted, [entry.name for entry in entries], where)
    if not found:
        why = "; ".join(f"{len(names)} {kind}: {listed(names, 3)}" for kind, names in problems.items())
        raise DataError(f"no row of {told} fits a picture of {source} ({why})")
    kept = sorted(found)
    return PeopleDataset(
        name or _stem(source),
        tuple(entries[place] for place in kept),
        {rows.header[column]: tuple(found[place][i] for place in kept) for i, column in enumerate(wanted)},
        problems,
        told,
    )


def _nothing(name: PurePosixPath) -> bool:
    return False


def _is_table(name: PurePosixPath) -> bool:
    return name.suffix.lower() in TABLE_SUFFIXES


def _listing(source: Path) -> tuple[list[Member], dict[PurePosixPath, bytes]]:
    """All files, and the bytes of the tables among them, in one pass."""
    members: list[Member] = []
    tables: dict[PurePosixPath, bytes] = {}
    for member, data in scan(source, _is_table):
        members.append(member)
        if data is not None:
            tables[member.name] = data
    return members, tables


def _pictures(source: Path, members: Iterable[Member]) -> list[Entry]:
    found = [
        Entry(source, member.name, member.size)
        for member in members
        if member.name.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        raise DataError(
            f"{source} holds no picture: expected files such as {listed(sorted(IMAGE_SUFFIXES), 4)}"
        )
    return found


def _table(
    source: Path, inside: Mapping[PurePosixPath, bytes], table: str | Path | None
) -> tuple[PurePosixPath, bytes, str]:
    """Folder of the table inside the pack, its bytes, and what messages call it."""
    if table is not None:
        return PurePosixPath(), _read(Path(table)), str(table)
    if len(inside) == 1:
        name, content = next(iter(inside.items()))
        if isinstance(content, Unread):
            raise DataError(f"{source}: {name} cannot be read: {content.reason}")
        return name.parent, content, f"{source}: {name}"
    verdict_cell = [source.with_name(_stem(source) + suffix) for suffix in sorted(TABLE_SUFFIXES)]
    there = [path for path in verdict_cell if path.is_file()]
    if not inside and len(there) == 1:
        return PurePosixPath(), _read(there[0]), str(there[0])
    several = listed([*inside, *there])
    found = f"several: {several}" if several else f"none inside or beside it ({verdict_cell[0].name}, ...)"
    raise DataError(f"{source} needs one table of attributes and has {found}; name it (table=..., --table)")


def _read(path: Path) -> bytes:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{path} is no table: expected {listed(sorted(TABLE_SUFFIXES))}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"the table {path} cannot be read: {error.strerror or error}") from error


def _stem(path: Path) -> str:
    """File name without .tar, .tar.gz and the like."""
    return re.sub(r"\.(tar|tgz|tar\.\w+)$", "", path.resolve().name)


Joined: TypeAlias = "dict[int, tuple[str | None, ...]]"


def _joined(
    rows: Rows, key: int, wanted: Sequence[int], names: Sequence[PurePosixPath], folder: PurePosixPath
) -> tuple[Joined, dict[str, tuple[str, ...]]]:
    """Attributes of each picture by its place, and what went wrong."""
    wrong: dict[str, list[str]] = {BROKEN: list(rows.broken)}
    find = _Finder(names, folder)
    found: Joined = {}
    torn: set[int] = set()
    for row in rows.cells:
        places = find(row[key])
        if len(places) != 1:
            kind = NO_FILE if not row[key] else AMBIGUOUS if places else NO_PICTURE
            wrong.setdefault(kind, []).append(row[key])
            continue
        place, values = places[0], tuple(row[column] or None for column in wanted)
        if place in found and found[place] != values:
            torn.add(place)
        elif place in found:
            wrong.setdefault(REPEATED, []).append(row[key])
        found.setdefault(place, values)
    missing = [str(names[place]) for place in range(len(names)) if place not in found]
    wrong |= {NO_ROW: missing, DISAGREE: [str(names[place]) for place in sorted(torn)]}
    kept = {place: values for place, values in found.items() if place not in torn}
    return kept, {kind: tuple(told) for kind, told in wrong.items() if told}


class _Finder:
    """From what a row calls a picture to the places of the pictures it may mean."""

    def __init__(self, names: Sequence[PurePosixPath], folder: PurePosixPath) -> None:
        self._folder = _parts(str(folder))
        self._whole = {_parts(str(name)): place for place, name in enumerate(names)}
        self._ends: dict[tuple[str, ...], list[int]] = {}
        for parts, place in self._whole.items():
            for start in range(len(parts)):
                self._ends.setdefault(parts[start:], []).append(place)

    def __call__(self, text: str) -> list[int]:
        """A path in the pack, else beside the table, else every path that ends so."""
        parts = _parts(text.replace("\\", "/"))
        for whole in (parts, (*self._folder, *parts)):
            if whole in self._whole:
                return [self._whole[whole]]
        return self._ends.get(parts, [])


def _parts(path: str) -> tuple[str, ...]:
    """The names in a path, in one normal form: the table and the files may have come from two systems."""
    return tuple(composed(part) for part in path.split("/") if part not in ("", "."))
