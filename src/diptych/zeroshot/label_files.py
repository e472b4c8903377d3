"""Reader of label files, by suffix: one label per line, CSV, JSON or YAML; everything else is refused.

Files of other tools contain more than labels: the header of a table, numbers before the labels, other fields
of a YAML file. Read as labels, these would give meaningless scores without a warning.
"""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.errors import DataError, TextError, counted
from diptych.files.tables import separator_line
from diptych.files.text_files import lines_of, read_text_file
from diptych.files.unicode_text import composed

LINE_SUFFIXES = ("", ".txt", ".text", ".names", ".labels", ".classes", ".lst", ".list")
EXPECTED = (
    "expected one label per line (.txt), a table with a column 'label' (.csv, .tsv), a list or name -> texts "
    "(.json), or 'names' as in a data.yaml (.yaml)"
)
# Columns of tables that hold labels, best first.
_COLUMNS = (
    *("label", "labels", "name", "names", "class", "classes", "class_name", "classname", "class_names"),
    *("label_name", "display_name", "category", "categories", "category_name", "tag", "tags"),
    *("text", "title"),
)
_LISTS = ("labels", "names", "classes", "class_names", "categories", "id2label")  # fields of JSON and YAML
_NAMES = ("name", "label", "class", "class_name", "display_name", "title", "text")  # of one label's object
_SYNSET = re.compile(r"n\d{8}")
_CLASS_NUMBER = re.compile(r"-?\d+|n\d{8}")
_NUMBER = re.compile(r"[0-9]{1,18}")  # of a class; int() raises on thousands of digits
# The header of a table with numbers before the labels.
_HEADER_LINE = re.compile(
    r'"?(?:id|index|class_id)"?\s*(?P<separator>[,;\t|])\s*"?(?:label|name|class)"?\s*(?:(?P=separator).*)?',
    re.IGNORECASE,
)
_SYNSET_LINE = re.compile(r"n\d{8}[\s,:]+(?P<label>\S.*)")
_NUMBERED_LINE = re.compile(r"(?P<number>\d+)(?:\s*[:,;\t]\s*|\s+)(?P<label>\S.*)")
# A comment is a "#" with a space after it, at the beginning or after a space: "C#" and "#1 dad" are labels.
_COMMENT = re.compile(r"(?:^|\s)#+(?:\s.*|$)")


def read_labels_file(path: Path, *, folders: bool = False) -> Any:
    """Read the labels of a file: a list of texts, or name -> text, texts, names or None.

    Parameters
    ----------
    path : Path
        By its suffix: one label per line (`LINE_SUFFIXES`); a CSV or TSV with a column of labels; JSON with a
        list, names with their texts, number -> label, or ImageNet's class index; YAML with `names`.
    folders : bool
        The names are folder names and are kept: {"0": "rose"} is the folder "0", not a numbered list.

    Raises
    ------
    TextError
        The file is missing, not text, not of the format of its suffix, or has no labels.
    """
    suffix = path.suffix.lower()
    try:
        text = read_text_file(path)
    except DataError as error:
        raise TextError(
            f"the label file {error}" if "cannot" in str(error) else f"{error}; {EXPECTED}"
        ) from error
    labels: Any
    if suffix in (".csv", ".tsv"):
        labels = _of_table(text, path, suffix)
    elif suffix in (".yaml", ".yml"):
        labels = _of_yaml(text, path, folders=folders)
    elif suffix == ".json" or (suffix in LINE_SUFFIXES and _is_json(text)):
        labels = _of_json(text, path, folders=folders)
    elif suffix in LINE_SUFFIXES:
        labels = _of_lines(text, path)
    else:
        raise TextError(f"{path}: labels cannot be read from this kind of file; {EXPECTED}")
    if not isinstance(labels, list | dict) or not labels:
        raise TextError(f"{path} has no labels: {EXPECTED}")
    if not _are_labels(labels):
        raise TextError(
            f"{path}: expected a list of texts, or names with a text, texts, null or names below them"
        )
    return _composed(labels)


def _are_labels(value: Any) -> bool:
    """Whether a JSON value has the form of labels: a list of texts, or name -> text, list, null or names."""
    if isinstance(value, dict):
        return all(inner is None or isinstance(inner, str) or _are_labels(inner) for inner in value.values())
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _composed(value: Any) -> Any:
    if isinstance(value, dict):
        return {composed(name): _composed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_composed(item) for item in value]
    return composed(value) if value else value


# ------------------------------------------------------------------------------------------------- lines


def _of_lines(text: str, path: Path) -> list[str]:
    if "\0" in text:
        raise TextError(f"{path} is not text: it contains zero bytes; {EXPECTED}")
    lines = [line for each in lines_of(text) if (line := _COMMENT.sub("", each.strip()).strip())]
    if lines and re.fullmatch(r"(names|classes|labels)\s*:.*", lines[0]):
        raise TextError(
            f"{path} looks like YAML ({lines[0]!r:.40}): call it .yaml, or write one label per line"
        )
    header = _HEADER_LINE.fullmatch(lines[0]) if len(lines) > 1 else None
    is_table = header is not None and all(header["separator"] in line for line in lines)
    if lines and (is_table or separator_line(lines[0])):
        raise TextError(
            f"{path} looks like a table ({lines[0]!r}): call it .csv, or write one label per line"
        )
    if marked := [line for line in lines if re.match(r"#[^\W\d_]", line)]:
        warnings.warn(
            f"{path}: {counted(len(marked), 'line')} begin with # and a letter and count as labels "
            f"({marked[0]!r:.40}): a comment has a space after the #",
            UserWarning,
            stacklevel=3,
        )
    return _without_numbers(lines, path)


def _without_numbers(lines: list[str], path: Path) -> list[str]:
    """Remove consecutive numbers or WordNet ids before the labels, if every line has one."""
    for pattern, prefix_kind in ((_NUMBERED_LINE, "numbers"), (_SYNSET_LINE, "WordNet ids")):
        matches = [match for line in lines if (match := pattern.fullmatch(line))]
        if len(lines) < 2 or len(matches) < len(lines):
            continue
        if prefix_kind == "numbers":
            first = int(matches[0]["number"])
            numbers = [int(match["number"]) for match in matches]
            if first > 1 or numbers != list(range(first, first + len(lines))):
                continue
        warnings.warn(
            f"{path}: the {prefix_kind} before the labels are left out "
            f"({lines[0]!r:.40} is {matches[0]['label']!r:.40})",
            UserWarning,
            stacklevel=4,
        )
        return [match["label"] for match in matches]
    return lines


# ------------------------------------------------------------------------------------------------ tables


def _of_table(text: str, path: Path, suffix: str) -> list[str]:
    lines = [line for line in lines_of(text) if line.strip()]
    named = separator_line(lines[0]) if lines else ""
    lines = lines[bool(named) :]
    if not lines:
        return []
    separator = named or ("\t" if suffix == ".tsv" else max(",;\t|", key=lines[0].count))
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error as error:
        raise TextError(f"{path} cannot be read as a table ({error}): {EXPECTED}") from error
    header = [cell.lower() for cell in rows[0]]
    columns = [header.index(name) for name in _COLUMNS if name in header]
    cells = [[row[column] for row in rows[1:] if column < len(row) and row[column]] for column in columns]
    if cells:
        # A column "label" may contain class numbers, beside a column "name" with the labels.
        return next((texts for texts in cells if not all(map(_CLASS_NUMBER.fullmatch, texts))), cells[0])
    widths = {len(row) for row in rows}
    if widths == {1}:
        return [row[0] for row in rows]
    if widths == {2} and all(re.fullmatch(r"\d+|n\d{8}", row[0]) for row in rows):  # 0,rose without a header
        return [row[1] for row in rows]
    shown = ", ".join(map(repr, rows[0][:8]))
    raise TextError(
        f"{path} has no column of labels: its first row is {shown}; expected a header with 'label'"
    )


# ---------------------------------------------------------------------------------------- JSON and YAML


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _of_json(text: str, path: Path, *, folders: bool) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TextError(f"the label file {path} cannot be read as JSON: {error}") from error
    return _plain(value, folders=folders)


def _of_yaml(text: str, path: Path, *, folders: bool) -> Any:
    import yaml

    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("it has aliases (*name), which may expand to any amount of text")
        value = yaml.load(text, Loader=yaml.BaseLoader)  # strings only: "no" and "on" are not booleans
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TextError(f"the label file {path} cannot be read as YAML: {reason}") from error
    return _of_yaml_fields(value, path) if isinstance(value, dict) else _plain(value, folders=folders)


def _of_yaml_fields(fields: Mapping[Any, Any], path: Path) -> list[Any]:
    """Labels of the field `names`, or of the first other field of `_LISTS` that has any."""
    present = [name for name in _LISTS if name in fields]
    if not present:
        shown = ", ".join(repr(str(name)) for name in list(fields)[:8])
        raise TextError(f"{path} has no 'names': its fields are {shown or 'none'}; {EXPECTED}")
    for name in present:
        value = fields[name]
        if isinstance(value, dict) and value and not _is_numbered(value) and _is_numbered(value.values()):
            return sorted(value, key=lambda label: int(value[label]))  # label -> number
        labels = _plain(value, folders=False) if isinstance(value, list | dict) else None
        if isinstance(labels, list):
            return labels
    shown = " ".join(repr(fields[present[0]]).split())
    raise TextError(
        f"{path}: '{present[0]}' is {shown:.60}; "
        "expected a list of labels, number -> label, or label -> number"
    )


def _plain(value: Any, *, folders: bool) -> Any:
    """Extract labels from the formats of other tools; other values are returned unchanged."""
    if isinstance(value, dict):
        # {"labels": ["a", "b"], ...} of a config; {"labels": {"a": ["b"]}} may be a hierarchy of our own.
        for name in _LISTS:
            inner = value.get(name)
            if isinstance(inner, list) or (isinstance(inner, dict) and _is_numbered(inner)):
                return _plain(inner, folders=False)
        return _of_mapping(value, folders=folders)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):  # as in COCO
        texts = ([item[name] for name in _NAMES if isinstance(item.get(name), str)] for item in value)
        names = [candidates[0] if candidates else None for candidates in texts]
        return names if all(names) else value
    return value


def _of_mapping(value: Mapping[Any, Any], *, folders: bool) -> Any:
    if value and all(type(number) is int for number in value.values()) and not folders:  # label2id
        return [str(name) for name in sorted(value, key=lambda name: value[name])]
    if not _is_numbered(value):
        return dict(value)
    ordered = [value[key] for key in sorted(value, key=int)]
    if all(_is_class(item) for item in ordered):  # ImageNet's class index: "0": ["n01440764", "tench"]
        pairs = [(synset, name.replace("_", " ")) for synset, name in ordered]
        return dict(pairs) if folders else [name for _, name in pairs]
    if folders or not all(isinstance(item, str) for item in ordered):
        return {str(key): item for key, item in value.items()}
    return ordered


def _is_class(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(item, str) for item in value)
        and _SYNSET.fullmatch(value[0]) is not None
    )


def _is_numbered(value: Collection[Any]) -> bool:
    """Whether all names are class numbers."""
    return bool(value) and all(
        type(name) is int or (isinstance(name, str) and _NUMBER.fullmatch(name)) for name in value
    )
