"""All kinds of sources that a recipe can name, and recognition of the kind of a path.

A description (`TarPairs`, `LabelledTar`, `TablePairs`, `Folder`, `LabelledFolder`) is a frozen dataclass; its
`open()` makes the index, a `Source`. Checkpoints store the repr of descriptions, so their names are a format.
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
    PairRecord,
    Part,
    Source,
    Subset,
    split,
)
from diptych.training.data.sources.shards import LabelledTar, TarPairs
from diptych.training.data.sources.tables import TablePairs, is_table, usual_columns
from diptych.training.data.sources.tars import Tar

__all__ = [
    "describe", "split", "TarPairs", "LabelledTar", "TablePairs", "Folder", "LabelledFolder",
    "PairRecord", "Source", "LabelledSource", "Subset", "Part", "Once", "Description",
]  # fmt: skip

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAGIC_OFFSET = 257  # of "ustar" in a tar
_HEAD_BYTES = 4096  # read to recognise a file
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
MAX_MEMBERS = 200  # of an archive or a folder, read to recognise it


def describe(
    pairs: str | Path | Sequence[str | Path], *, image: str | None = None, captions: Sequence[str] = ()
) -> Description:
    """Recognise the kind of pairs of a path or pattern.

    Parameters
    ----------
    pairs : str, Path or a sequence
        Tar shards, a CSV, TSV or Parquet table, or a folder; as `TarPairs` takes them.
    captions : sequence of str
        Names of a table's columns, if they are not the usual ones.

    Returns
    -------
    Description
        With default options: a table has the columns "filepath" and "title" or other usual ones ("file_name"
        and "text", "image" and "caption"), a labelled set the default template.

    Raises
    ------
    DataError
        There is nothing, no pairs or an unknown kind; or columns are named for what is no table.
    """
    first = find_files(pairs)[0]
    if is_table(first):
        usual = usual_columns(first)
        return TablePairs(pairs, image or usual[0], tuple(captions) or usual[1])
    if not first.is_dir() and not is_tar(first):
        raise DataError(_unknown_kind(first))
    if image or captions:
        raise DataError(
            f"{first} is not a table, so it has no columns: expected CSV, TSV, JSON lines or Parquet"
        )
    if first.is_dir():
        return _describe_folder(first)
    return _describe_tar(pairs, Tar(first))


def is_tar(path: Path) -> bool:
    """Whether a file is a tar, by its name or its first bytes; a compressed one by its name only.

    Examples
    --------
    >>> is_tar(Path("shards/00000.tar.gz")), is_tar(Path("captions.txt"))
    (True, False)
    """
    if path.name.lower().endswith(TAR_SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_OFFSET + 5)[_MAGIC_OFFSET:] == b"ustar"
    except OSError:
        return False


def _unknown_kind(path: Path) -> str:
    """Message for a file of an unknown kind, with the way out that its first bytes suggest."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD_BYTES)
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
        f"{path} is no known kind of pairs: expected tar, CSV, TSV, Parquet or a folder, or JSON "
        f"lines (.jsonl). "
        f"{way_out[0].upper()}{way_out[1:]}"
    )


def _describe_folder(folder: Path) -> Description:
    tars = sorted(path for path in folder.iterdir() if path.name.lower().endswith(TAR_SUFFIXES))
    if tars:
        return describe(tars)
    for name in _METADATA:  # as in image folders on the Hugging Face hub
        if (folder / name).is_file():
            return describe(folder / name)
    captioned = any(
        path.suffix.lower() in CAPTION_SUFFIXES for path in islice(folder.rglob("*.*"), MAX_MEMBERS)
    )
    return Folder(folder) if captioned else LabelledFolder(folder)


def _describe_tar(pairs: str | Path | Sequence[str | Path], tar: Tar) -> Description:
    members = list(islice(tar.members(), MAX_MEMBERS))
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
