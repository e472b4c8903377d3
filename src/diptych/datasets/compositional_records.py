"""What the files of compositional benchmarks say: one record for each test case, as they were released.

- Winoground (Thrush et al. 2022, arXiv 2204.03162): `examples.jsonl`, or Parquet with a column of pictures
  for each of the two.
- ARO (Yuksekgonul et al. 2023, arXiv 2210.01936): `visual_genome_relation.json` and
  `visual_genome_attribution.json`.
- SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610): `add_att.json` and six files like it.

Only texts are read here. A picture's name is compared with the names of the files that are there and never
becomes a path; where the pictures lie is `compositional.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from diptych.datasets.formats.containers import read_text
from diptych.datasets.formats.parquet import is_parquet, read_columns
from diptych.datasets.regions import Box
from diptych.errors import DataError

SUGAR_CREPE_FILES = (
    *("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"),
)
WINOGROUND_COLUMNS = ("image_0", "image_1", "caption_0", "caption_1")
_TAGS = ("collapsed_tag", "secondary_tag", "num_main_preds", "tag")
_FARTHEST = 1e9  # pixels: no picture is as large
_MOST = 2**28  # bytes of a file of records: ARO's larger one is about 10 MB


@dataclass(frozen=True)
class Record:
    """One test case of a file.

    Attributes
    ----------
    key : str
        What messages call it.
    images : tuple of (str, Box or None)
        Name of each picture, and the part of it that is shown.
    captions : tuple of str
        The caption of each picture, in the order of `images`, then captions that fit none.
    categories : mapping of str to str
        Kind of category -> the category, such as "relation" -> "to the left of".
    """

    key: str
    images: tuple[tuple[str, Box | None], ...]
    captions: tuple[str, ...]
    categories: Mapping[str, str]


Records: TypeAlias = tuple[list[Record], list[tuple[str, str]]]  # and (key, reason) of those left out
Reader: TypeAlias = Callable[[Any, str], Record]


def read_sugar_crepe(path: Path) -> Records:
    """Records of one of SugarCrepe's files: an object of number -> {filename, caption, negative_caption}.

    Raises
    ------
    DataError
        It cannot be read, is no such JSON, or no record of it is usable.
    """
    return _gather(path, _json_items(path), _sugar_crepe)


def read_aro(path: Path) -> Records:
    """Records of one of ARO's two files: a list of {image_path, bbox_x, ..., true_caption, false_caption}.

    Raises
    ------
    DataError
        As for `read_sugar_crepe`.
    """
    return _gather(path, _json_items(path), _aro)


def read_winoground(path: Path) -> Records:
    """Records of examples.jsonl, or of a Parquet file with `WINOGROUND_COLUMNS`.

    Raises
    ------
    DataError
        As for `read_sugar_crepe`.
    """
    if is_parquet(path):
        return _gather(path, _parquet_rows(path), _winoground)
    return _gather(path, _lines(path), _winoground)


def _gather(path: Path, items: Iterable[tuple[str, Any]], read: Reader) -> Records:
    records: list[Record] = []
    left_out: list[tuple[str, str]] = []
    for name, item in items:
        key = f"{path.name}, {name}"
        try:
            records.append(read(item, key))
        except (KeyError, ValueError) as error:
            reason = f"it has no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
            left_out.append((key, reason))
    if not records:
        why = f"; the first of {len(left_out)}: {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise DataError(f"{path} holds no test case in the form it was released in{why}")
    return records, left_out


# ----------------------------------------------------------------------------------------------- records


def _sugar_crepe(item: Any, key: str) -> Record:
    found = _object(item)
    captions = (_text(found, "caption"), _text(found, "negative_caption"))
    return Record(key, ((_text(found, "filename"), None),), captions, {})


def _aro(item: Any, key: str) -> Record:
    found = _object(item)
    if "relation_name" in found:
        categories = {"relation": _text(found, "relation_name")}
    else:
        pair = found["attributes"]
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise ValueError("its attributes are no list of two texts")
        categories = {"attributes": "_".join(pair)}
    captions = (_text(found, "true_caption"), _text(found, "false_caption"))
    return Record(key, ((_text(found, "image_path"), _box(found)),), captions, categories)


def _winoground(item: Any, key: str) -> Record:
    found = _object(item)
    captions = (_text(found, "caption_0"), _text(found, "caption_1"))
    images = ((_text(found, "image_0"), None), (_text(found, "image_1"), None))
    told = {kind: found[kind] for kind in _TAGS if isinstance(found.get(kind), str | int)}
    return Record(key, images, captions, {kind: str(tag) for kind, tag in told.items() if str(tag)})


def _object(item: Any) -> Mapping[str, Any]:
    if isinstance(item, ValueError):  # a line that is no JSON
        raise item
    if not isinstance(item, dict):
        raise ValueError(f"it is no object with fields: {item!r:.60}")
    return item


def _text(found: Mapping[str, Any], field: str) -> str:
    value = found[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {field!r} is no text: {value!r:.60}")
    value.encode()  # half of a surrogate pair is no text that a tokenizer reads: a ValueError
    return value


def _box(found: Mapping[str, Any]) -> Box:
    left, top, width, height = (_number(found, f"bbox_{one}") for one in "xywh")
    if width < 1 or height < 1:
        raise ValueError(f"its box is {width:g} x {height:g} pixels: expected at least 1 x 1")
    return left, top, left + width, top + height


def _number(found: Mapping[str, Any], field: str) -> float:
    value = found[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _FARTHEST:
        raise ValueError(f"its {field!r} is no number of pixels: {value!r:.60}")
    return float(value)


# ------------------------------------------------------------------------------------------------- files


def _json_items(path: Path) -> Iterator[tuple[str, Any]]:
    """(name, item) of a JSON list or object."""
    try:
        found = json.loads(read_text(path, _MOST))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}; fetch it again") from error
    if not isinstance(found, dict | list):
        raise DataError(f"{path} is no list or object of records: fetch it again")
    items = found.items() if isinstance(found, dict) else enumerate(found)
    yield from ((f"record {name}", item) for name, item in items)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(name, item) of each line of JSON that is not blank; a line that is no JSON comes as its error."""
    for number, line in enumerate(read_text(path, _MOST).split("\n"), start=1):
        if line.strip():
            try:
                item = json.loads(line)
            except (ValueError, RecursionError) as error:
                item = ValueError(f"it is no JSON: {error}")
            yield f"line {number}", item


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(name, item) of each row, the pictures named as `scan_parquet` names them."""
    for number, row in enumerate(read_columns(path, ("caption_0", "caption_1", *_TAGS))):
        pictures = {name: f"{path.name}/{number:06d}/{name}" for name in ("image_0", "image_1")}
        yield f"row {number}", {**row, **pictures}
