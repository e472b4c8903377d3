"""The kinds of pairs a recipe can name, in one place, and the guess at which one a path holds.

A description (`TarPairs`, `LabelledTar`, `Table`, `Folder`, `LabelledFolder`) is a frozen dataclass; its
`open()` makes the index, a `Source`. Each kind lives in a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from diptych.errors import DataError
from diptych.media import IMAGE_SUFFIXES
from diptych.media.captions import DEFAULT_FIELDS, captions_of_fields, parse_json
from diptych.media.keys import CAPTION_SUFFIXES
from diptych.media.patterns import find_files
from diptych.pairs.folders import Folder, LabelledFolder
from diptych.pairs.records import (
    Description,
    LabelledSource,
    Once,
    Part,
    Record,
    Source,
    Subset,
    split,
)
from diptych.pairs.shards import LabelledTar, TarPairs
from diptych.pairs.tables import TABLE_SUFFIXES, Table
from diptych.pairs.tars import Tar

__all__ = [
    "describe", "split", "TarPairs", "LabelledTar", "Table", "Folder", "LabelledFolder",
    "Record", "Source", "LabelledSource", "Subset", "Part", "Once", "Description",
]  # fmt: skip

PEEK = 200  # members of an archive looked at


def describe(
    pairs: str | Path | Sequence[str | Path], *, image: str | None = None, captions: Sequence[str] = ()
) -> Description:
    """Guess what kind of pairs a path or pattern holds.

    Parameters
    ----------
    pairs : str, Path or a sequence
        Tar shards, a CSV, TSV or Parquet table, or a folder; as `TarPairs` takes them.
    image : str, optional
    captions : sequence of str
        Names of a table's columns, where they are not its defaults.

    Returns
    -------
    Description
        With its defaults: a table has the columns "filepath" and "title", a labelled set one plain template.

    Raises
    ------
    DataError
        Nothing there, or nothing that looks like pairs; columns of what is no table.
    """
    first = find_files(pairs)[0]
    if first.suffix.lower() in TABLE_SUFFIXES:
        return Table(pairs, image or Table.image, tuple(captions) or Table.caption)
    if image or captions:
        raise DataError(f"{first} is no table, so it has no columns: expected CSV, TSV or Parquet")
    if first.is_dir():
        return _describe_folder(first)
    return _describe_tar(pairs, Tar(first))


def _describe_folder(folder: Path) -> Description:
    tars = sorted(path for path in folder.iterdir() if path.name.endswith((".tar", ".tar.gz", ".tgz")))
    if tars:
        return describe(tars)
    captioned = any(path.suffix.lower() in CAPTION_SUFFIXES for path in islice(folder.rglob("*.*"), PEEK))
    return Folder(folder) if captioned else LabelledFolder(folder)


def _describe_tar(pairs: str | Path | Sequence[str | Path], tar: Tar) -> Description:
    members = list(islice(tar.members(), PEEK))
    if any(name.lower().endswith(".txt") for name, _, _ in members):
        return TarPairs(pairs)
    objects = [(offset, size) for name, offset, size in members if name.lower().endswith(".json")]
    fields = parse_json(tar.blob.read(*objects[0]), f"the first .json of {tar.path}") if objects else {}
    if captions_of_fields(fields):
        return TarPairs(pairs)
    if isinstance(fields.get("label"), str):
        return LabelledTar(pairs, label_field="label")
    if fields:
        raise DataError(
            f"{tar.path} has JSON fields {sorted(fields)}: expected {' or '.join(DEFAULT_FIELDS)} or label. "
            "Name the field: TarPairs(..., caption_field='...')"
        )
    if any("/" in name and Path(name).suffix.lower() in IMAGE_SUFFIXES for name, _, _ in members):
        return LabelledTar(pairs)
    raise DataError(
        f"{tar.path} holds no pairs: expected KEY.jpg with KEY.txt or KEY.json, or <class>/<file>.jpg"
    )
