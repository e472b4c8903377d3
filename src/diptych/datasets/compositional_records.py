"""Readers of the files of compositional benchmarks, as released: one record per test case.

- Winoground (Thrush et al. 2022, arXiv 2204.03162): `examples.jsonl`, or Parquet with a column of pictures
  for each of the two.
- ARO (Yuksekgonul et al. 2023, arXiv 2210.01936): `visual_genome_relation.json` and
  `visual_genome_attribution.json`.
- SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610): `add_att.json` and six files like it.

Only texts are read here. The name of an image is compared with existing file names and never used as a path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from diptych.datasets.formats.containers import read_text
from diptych.datasets.formats.parquet import is_parquet
from diptych.datasets.regions import Box
from diptych.errors import DataError
from diptych.files.tables import column_names, read_rows
from diptych.files.text_files import read_json_file

SUGAR_CREPE_FILES = (
    *("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"),
)
WINOGROUND_COLUMNS = ("image_0", "image_1", "caption_0", "caption_1")
_TAGS = ("collapsed_tag", "secondary_tag", "num_main_preds", "tag")
_FARTHEST = 1e9  # largest coordinate, pixels
_MOST = 2**28  # largest size of a file of records, bytes: ARO's larger one has about 10 MB


@dataclass(frozen=True)
class CaseRecord:
    """A test case of a file.

    Attributes
    ----------
    key : str
        Name in messages.
    images : tuple of (str, Box or None)
        Name of each image, and its crop.
    captions : tuple of str
        The caption of each image, in the order of `images`, then wrong captions.
    categories : mapping of str to str
        Kind of category -> category, such as "relation" -> "to the left of".
    """

    key: str
    images: tuple[tuple[str, Box | None], ...]
    captions: tuple[str, ...]
    categories: Mapping[str, str]


CaseRecords: TypeAlias = tuple[list[CaseRecord], list[tuple[str, str]]]  # and (key, reason) of those left out
CaseReader: TypeAlias = Callable[[Any, str], CaseRecord]


def read_sugar_crepe(path: Path) -> CaseRecords:
    """Read one of SugarCrepe's files: an object of number -> {filename, caption, negative_caption}.

    Raises
    ------
    DataError
        It cannot be read, has another form, or has no usable record.
    """
    return _gather(path, _json_items(path), _sugar_crepe)


def read_aro(path: Path) -> CaseRecords:
    """Read one of ARO's two files: a list of {image_path, bbox_x, ..., true_caption, false_caption}.

    Raises
    ------
    DataError
        As for `read_sugar_crepe`.
    """
    return _gather(path, _json_items(path), _aro)


def read_winoground(path: Path) -> CaseRecords:
    """Read examples.jsonl, or a Parquet file with `WINOGROUND_COLUMNS`.

    Raises
    ------
    DataError
        As for `read_sugar_crepe`.
    """
    if is_parquet(path):
        return _gather(path, _parquet_rows(path), _winoground)
    return _gather(path, _lines(path), _winoground)


def _gather(path: Path, items: Iterable[tuple[str, Any]], read: CaseReader) -> CaseRecords:
    records: list[CaseRecord] = []
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
        raise DataError(f"{path} has no test case in the released form{why}")
    return records, left_out


# ----------------------------------------------------------------------------------------------- records


def _sugar_crepe(item: Any, key: str) -> CaseRecord:
    fields = _object(item)
    captions = (_text(fields, "caption"), _text(fields, "negative_caption"))
    return CaseRecord(key, ((_text(fields, "filename"), None),), captions, {})


def _aro(item: Any, key: str) -> CaseRecord:
    fields = _object(item)
    if "relation_name" in fields:
        categories = {"relation": _text(fields, "relation_name")}
    else:
        pair = fields["attributes"]
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise ValueError("its attributes are not a list of two texts")
        categories = {"attributes": "_".join(pair)}
    captions = (_text(fields, "true_caption"), _text(fields, "false_caption"))
    return CaseRecord(key, ((_text(fields, "image_path"), _box(fields)),), captions, categories)


def _winoground(item: Any, key: str) -> CaseRecord:
    fields = _object(item)
    captions = (_text(fields, "caption_0"), _text(fields, "caption_1"))
    images = ((_text(fields, "image_0"), None), (_text(fields, "image_1"), None))
    tags = {kind: fields[kind] for kind in _TAGS if isinstance(fields.get(kind), str | int)}
    return CaseRecord(key, images, captions, {kind: str(tag) for kind, tag in tags.items() if str(tag)})


def _object(item: Any) -> Mapping[str, Any]:
    if isinstance(item, ValueError):  # a line that is not JSON
        raise item
    if not isinstance(item, dict):
        raise ValueError(f"it is not an object with fields: {item!r:.60}")
    return item


def _text(fields: Mapping[str, Any], field: str) -> str:
    value = fields[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {field!r} is not a text: {value!r:.60}")
    value.encode()  # raises ValueError for a lone surrogate, which tokenizers cannot read
    return value


def _box(fields: Mapping[str, Any]) -> Box:
    left, top, width, height = (_number(fields, f"bbox_{axis}") for axis in "xywh")
    if width < 1 or height < 1:
        raise ValueError(f"its box is {width:g} x {height:g} pixels: expected at least 1 x 1")
    return left, top, left + width, top + height


def _number(fields: Mapping[str, Any], field: str) -> float:
    value = fields[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _FARTHEST:
        raise ValueError(f"its {field!r} is not a number of pixels: {value!r:.60}")
    return float(value)


# ------------------------------------------------------------------------------------------------- files


def _json_items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (name, item) of a JSON list or object."""
    content = read_json_file(path, _MOST)
    if not isinstance(content, dict | list):
        raise DataError(f"{path} is not a list or object of records: fetch it again")
    items = content.items() if isinstance(content, dict) else enumerate(content)
    yield from ((f"record {name}", item) for name, item in items)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (name, item) of each JSON line that is not blank; an invalid line is yielded as its error."""
    for number, line in enumerate(read_text(path, _MOST).split("\n"), start=1):
        if line.strip():
            try:
                item = json.loads(line)
            except (ValueError, RecursionError) as error:
                item = ValueError(f"it is not JSON: {error}")
            yield f"line {number}", item


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (name, item) of each row, with the image names of `scan_parquet`."""
    present = column_names(path, "evaluation")
    columns = [name for name in ("caption_0", "caption_1", *_TAGS) if name in present]
    for number, row in enumerate(read_rows(path, columns, "evaluation")):
        pictures = {name: f"{path.name}/{number:06d}/{name}" for name in ("image_0", "image_1")}
        yield f"row {number}", {**dict(zip(columns, row, strict=True)), **pictures}
