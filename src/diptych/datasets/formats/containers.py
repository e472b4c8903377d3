"""Whatever holds pictures, read one after another: folders, tar and zip, files of pixels, HDF5, Parquet.

The one place that knows which reader a path wants. What the names mean is `layouts.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from diptych.datasets.formats import archives
from diptych.datasets.formats.archives import Content, Entry, Member
from diptych.datasets.formats.parquet import is_parquet, scan_parquet
from diptych.datasets.formats.pixel_tables import is_pixel_table, scan_pixel_table
from diptych.datasets.formats.records import is_records, scan_records
from diptych.errors import DataError
from diptych.files.text_files import lines_of, read_text_file


def scan(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[Member, Content | None]]:
    """Every file or picture a path holds, with its content where `wanted` says so.

    The order is the same on every pass, and a pass reads from start to end. Files come as bytes, pictures
    that are no files as pixels; what cannot be read but stops nothing comes as `Unread`.

    Raises
    ------
    DataError
        The path is not there, or is broken or cut short.
    """
    if not path.is_file():
        return archives.scan(path, wanted)
    if is_parquet(path):
        return scan_parquet(path, wanted)
    if is_pixel_table(path):
        return scan_pixel_table(path, wanted)
    return scan_records(path, wanted) if is_records(path) else archives.scan(path, wanted)


def entries_of(path: Path) -> tuple[Entry, ...]:
    """One entry for each picture of a file of pixels or a Parquet file with one picture a row.

    Raises
    ------
    DataError
        As for `scan`, or a row of a Parquet file has several pictures.
    """
    entries = tuple(Entry(path, member.name, member.size) for member, _ in scan(path, lambda _: False))
    if is_parquet(path) and entries and len(entries[0].name.parts) > 2:
        raise DataError(
            f"{path} has several pictures in a row (image_0, image_1): expected one; Winoground is measured "
            "by diptych evaluate compositional"
        )
    return entries


def read_text(path: Path, most: int = 2**24) -> str:
    """A small text file that comes with a data set, in the encoding it has; its lines end in LF.

    Raises
    ------
    DataError
        It is not there, far too large, or no text.
    """
    return "\n".join(lines_of(read_text_file(path, most)))
