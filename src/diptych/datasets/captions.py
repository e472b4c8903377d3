"""Reader of captions: KEY.jpg with KEY.json or KEY.txt, in a folder or a shard; or a column of Parquet."""

from __future__ import annotations

import json
from pathlib import Path

from diptych.datasets.formats import parquet
from diptych.datasets.formats.archives import ImageEntry, Unread
from diptych.datasets.formats.containers import entries_of, scan
from diptych.datasets.parts import OUTSIDE, select_part
from diptych.files.text_files import decode_text, lines_of
from diptych.files.unicode_text import without_surrogates
from diptych.media import IMAGE_SUFFIXES
from diptych.media.folders.keys import CAPTION_SUFFIXES, Companions

Captioned = tuple[list[ImageEntry], list[tuple[str, ...]], list[tuple[str, str]]]


def read_captioned(path: Path, field: str, part: str) -> Captioned:
    """Read entries, captions and skipped images of a part of one shard, folder or Parquet file."""
    if path.is_file() and parquet.is_parquet(path):
        return _rows(path, field)
    pictures: list[ImageEntry] = []
    texts: dict[str, tuple[str, ...] | str] = {}  # a string is the reason why captions are missing
    for member, data in scan(path, lambda name: name.suffix.lower() in CAPTION_SUFFIXES):
        if isinstance(data, bytes):
            texts[str(member.name)] = _captions(str(member.name), data, field)
        elif member.name.suffix.lower() in IMAGE_SUFFIXES:
            pictures.append(ImageEntry(path, member.name, member.size))
    chosen, outside = select_part([entry.name.parts[:-1] for entry in pictures], part, path)
    skipped = [(str(pictures[position].name), OUTSIDE) for position in outside]
    all_pictures, pictures = pictures, [pictures[position] for position in chosen]
    entries: list[ImageEntry] = []
    captions: list[tuple[str, ...]] = []
    beside = Companions([*texts, *(str(entry.name) for entry in all_pictures)])
    for entry in pictures:
        # Of KEY.json and KEY.txt the one with captions is used.
        texts_read = [texts[name] for name in beside.of(str(entry.name)).values()]
        reason = texts_read[0] if texts_read else "no KEY.json or KEY.txt beside it"
        captions_or_reason = next((item for item in texts_read if isinstance(item, tuple)), reason)
        if isinstance(captions_or_reason, str):
            skipped.append((str(entry.name), captions_or_reason))
        else:
            entries.append(entry)
            captions.append(captions_or_reason)
    return entries, captions, skipped


def _captions(name: str, data: bytes, field: str) -> tuple[str, ...] | str:
    """Captions in the bytes of a file, or the reason why there are none."""
    suffix = f".{name.rpartition('.')[2].lower()}"
    if isinstance(data, Unread):
        return f"its {suffix} was not read: {data.reason}"
    try:
        text = decode_text(data, name)
        record = without_surrogates(json.loads(text)) if suffix == ".json" else {field: lines_of(text)}
    except (ValueError, RecursionError) as error:  # DataError and JSONDecodeError are ValueErrors
        return f"its {suffix} cannot be read: {error}"
    if not isinstance(record, dict):
        return "its .json is not an object with fields"
    value = next(
        (record[name_of_field] for name_of_field in (field, "caption", "text") if name_of_field in record),
        None,
    )
    listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    captions = tuple(caption.strip() for caption in listed if isinstance(caption, str) and caption.strip())
    return captions or f"no caption in its {suffix} (field {field!r})"


def _rows(path: Path, field: str) -> Captioned:
    """`read_captioned` for a Parquet file."""
    pictures, captions = entries_of(path), parquet.read_captions(path, field)
    captioned = [(entry, texts) for entry, texts in zip(pictures, captions, strict=True) if texts]
    skipped = [
        (str(entry.name), "its row has no caption")
        for entry, texts in zip(pictures, captions, strict=True)
        if not texts
    ]
    return [entry for entry, _ in captioned], [texts for _, texts in captioned], skipped
