"""The kinds of pairs a recipe can name, in one place, and the guess at which one a path holds.

A description (`TarPairs`, `LabelledTar`, `Table`, `Folder`, `LabelledFolder`) is a frozen dataclass; its
`open()` makes the index, a `Source`. Each kind lives in a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from diptych.errors import DataError
from diptych.files.patterns import find_files
from diptych.files.text_files import decode_text, lines_of
from diptych.media import IMAGE_SUFFIXES
from diptych.media.folders.captions import DEFAULT_FIELDS, captions_of_fields, parse_json
from diptych.media.folders.keys import CAPTION_SUFFIXES
from diptych.training.data.sources.folders import Folder, LabelledFolder
from diptych.training.data.sources.records import (
    Description,
    LabelledSource,
    Once,
    Part,
    Record,
    Source,
    Subset,
    split,
)
from diptych.training.data.sources.shards import LabelledTar, TarPairs
from diptych.training.data.sources.tables import Table, table_suffix, usual_columns
from diptych.training.data.sources.tars import Tar

__all__ = [
    "describe", "split", "TarPairs", "LabelledTar", "Table", "Folder", "LabelledFolder",
    "Record", "Source", "LabelledSource", "Subset", "Part", "Once", "Description",
]  # fmt: skip

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAGIC, _HEAD = 257, 4096  # where a tar says that it is one; bytes looked at
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
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
        With its defaults: a table has the columns "filepath" and "title" or other usual ones ("file_name" and
        "text", "image" and "caption"), a labelled set one plain template.

    Raises
    ------
    DataError
        Nothing there, nothing that looks like pairs, no kind that is known; columns of what is no table.
    """
    first = find_files(pairs)[0]
    if table_suffix(first):
        usual = usual_columns(first)
        return Table(pairs, image or usual[0], tuple(captions) or usual[1])
    if not first.is_dir() and not is_tar(first):
        raise DataError(_unknown_kind(first))
    if image or captions:
        raise DataError(
            f"{first} is no table, so it has no columns: expected CSV, TSV, JSON lines or Parquet"
        )
    if first.is_dir():
        return _describe_folder(first)
    return _describe_tar(pairs, Tar(first))


def is_tar(path: Path) -> bool:
    """Whether a file is a tar, by its name or its first bytes; what is packed is one by its name alone.

    Examples
    --------
    >>> is_tar(Path("shards/00000.tar.gz")), is_tar(Path("captions.txt"))
    (True, False)
    """
    if path.name.lower().endswith(TAR_SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC + 5)[_MAGIC:] == b"ustar"
    except OSError:
        return False


def _unknown_kind(path: Path) -> str:
    """What a file that is no pairs is, as far as can be told, and what to do."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD)
        text = decode_text(start, path, cut=True).lstrip()
    except (OSError, DataError):
        text = ""
    head = lines_of(text)[0] if text else ""
    if text.startswith("{") and '"annotations"' in text:
        way_out = "COCO's JSON is measured with diptych evaluate retrieval; for training write a CSV of it"
    elif text.startswith(("{", "[")):
        way_out = "write JSON as one object a line (.jsonl), or as a CSV"
    elif any(sign in head for sign in ",;\t"):
        way_out = f"it looks like a table ({head!r:.50}): call it {path.stem}.csv"
    elif text:
        way_out = "captions of a folder lie beside their pictures: a.jpg and a.txt; name the folder"
    else:
        way_out = "pack pictures and captions into a tar, or unpack them into a folder"
    return (
        f"{path} is no kind of pairs that is known: expected tar, CSV, TSV, Parquet or a folder, or JSON "
        f"lines (.jsonl). "
        f"{way_out[0].upper()}{way_out[1:]}"
    )


def _describe_folder(folder: Path) -> Description:
    tars = sorted(path for path in folder.iterdir() if path.name.lower().endswith(TAR_SUFFIXES))
    if tars:
        return describe(tars)
    for name in _METADATA:  # as in the hub's folders of pictures
        if (folder / name).is_file():
            return describe(folder / name)
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
