"""Captions beside pictures: KEY.jpg with KEY.json or KEY.txt, in a folder or a shard.

Reads the texts and says which picture has which; the data set made of them is `datasets.py`'s.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from diptych.evaluation.archives import Entry, Unread, scan
from diptych.media import IMAGE_SUFFIXES

Captioned = tuple[list[Entry], list[tuple[str, ...]], list[tuple[str, str]]]


def read_captioned(path: Path, field: str) -> Captioned:
    """Entries, captions and what was left out of one shard or folder."""
    pictures: list[Entry] = []
    texts: dict[PurePosixPath, tuple[str, ...] | str] = {}  # a string is the reason why there are none
    for member, data in scan(path, lambda name: name.suffix.lower() in {".json", ".txt"}):
        if data is not None:
            # Both KEY.json and KEY.txt: the one with captions wins.
            read = _captions(member.name.suffix.lower(), data, field)
            if not isinstance(texts.get(_key(member.name)), tuple):
                texts[_key(member.name)] = read
        elif member.name.suffix.lower() in IMAGE_SUFFIXES:
            pictures.append(Entry(path, member.name, member.size))
    entries: list[Entry] = []
    captions: list[tuple[str, ...]] = []
    skipped: list[tuple[str, str]] = []
    for entry in pictures:
        found = texts.get(_key(entry.name), "no KEY.json or KEY.txt beside it")
        if isinstance(found, str):
            skipped.append((str(entry.name), found))
        else:
            entries.append(entry)
            captions.append(found)
    return entries, captions, skipped


def _captions(suffix: str, data: bytes, field: str) -> tuple[str, ...] | str:
    """Captions in a file's bytes, or the reason why there are none."""
    if isinstance(data, Unread):
        return f"its {suffix} was not read: {data.reason}"
    try:
        text = data.decode("utf-8-sig")
        record = json.loads(text) if suffix == ".json" else {field: text.splitlines()}
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return f"its {suffix} cannot be read: {error}"
    if not isinstance(record, dict):
        return "its .json is not an object with fields"
    value = next((record[one] for one in (field, "caption", "text") if one in record), None)
    listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    kept = tuple(caption.strip() for caption in listed if isinstance(caption, str) and caption.strip())
    return kept or f"no caption in its {suffix} (field {field!r})"


def _key(name: PurePosixPath) -> PurePosixPath:
    """WebDataset's key: the path up to the first dot of the file name."""
    return name.with_name(name.name.split(".", 1)[0] or name.name)
