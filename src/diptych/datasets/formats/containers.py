"""Common reader of all containers of images: folders, tar and zip, files of pixels, HDF5, Parquet."""

from __future__ import annotations

from pathlib import Path

from diptych.datasets.formats import archives
from diptych.datasets.formats.archives import ImageEntry, Members, NameFilter
from diptych.datasets.formats.parquet import is_parquet, scan_parquet
from diptych.datasets.formats.pixel_tables import is_pixel_table, scan_pixel_table
from diptych.datasets.formats.records import is_records, scan_records
from diptych.errors import DataError
from diptych.files.text_files import lines_of, read_text_file


def scan(path: Path, needs_content: NameFilter) -> Members:
    """Yield every file or image of a path, with its content if `needs_content` returns True.

    The order is the same on every pass, and a pass reads from start to end. Files are yielded as bytes,
    images without files as pixels, and unreadable ones as `Unread`.

    Raises
    ------
    DataError
        The path is missing, broken or truncated.
    """
    if not path.is_file():
        return archives.scan(path, needs_content)
    if is_parquet(path):
        return scan_parquet(path, needs_content)
    if is_pixel_table(path):
        return scan_pixel_table(path, needs_content)
    return scan_records(path, needs_content) if is_records(path) else archives.scan(path, needs_content)


def list_entries(path: Path, is_listed: NameFilter) -> list[ImageEntry]:
    """Entries of the files with these names, in the order of `scan`."""
    members = (member for member, _ in scan(path, lambda _: False))
    return [ImageEntry(path, member.name, member.size) for member in members if is_listed(member.name)]


def entries_of(path: Path) -> tuple[ImageEntry, ...]:
    """Entries of all images of a file of pixels, or of a Parquet file with one image per row.

    Raises
    ------
    DataError
        As for `scan`, or a row of a Parquet file has several images.
    """
    entries = tuple(list_entries(path, lambda _: True))
    if is_parquet(path) and entries and len(entries[0].name.parts) > 2:
        raise DataError(
            f"{path} has several pictures in a row (image_0, image_1): expected one; Winoground is measured "
            "by diptych evaluate compositional"
        )
    return entries


def read_text(path: Path, most: int = 2**24) -> str:
    """Read a small text file of a data set, with detection of its encoding; lines end in LF.

    Raises
    ------
    DataError
        It is missing, too large, or not text.
    """
    return "\n".join(lines_of(read_text_file(path, most)))
