"""Pairs in tar archives: shards with captions, and labelled pictures turned into captions.

What a tar is, is known to tars.py; what a caption is, to captions.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.files.patterns import find_files
from diptych.files.text_files import LARGEST_TEXT
from diptych.media import IMAGE_SUFFIXES
from diptych.media.folders.captions import captions_of_fields, captions_of_text, parse_json
from diptych.media.folders.keys import Companions, split_key
from diptych.training.data.order import distinct_names
from diptych.training.data.sources.captions import DEFAULT_TEMPLATES
from diptych.training.data.sources.grouping import SECOND
from diptych.training.data.sources.records import LabelledSource, Source, require_records
from diptych.training.data.sources.tars import Tar

Place = tuple[int, int, int]  # archive, offset, size
NOWHERE: Place = (-1, 0, 0)
Pattern = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class TarPairs:
    """Tar shards of KEY.jpg (png, webp, ...) with KEY.txt or KEY.json.

    Parameters
    ----------
    pattern : str, Path or a sequence
        Brace ranges (``shards/{000..099}.tar``), globs, lists, ``a.tar::b.tar``; plain or gzip.
    caption_field : str, optional
        JSON field of the captions; by default KEY.txt where there is one, else the first of "captions",
        "caption", "text".
    """

    pattern: Pattern
    caption_field: str | None = None

    def open(self) -> Source:
        """Index the shards."""
        return _TarPairs(self)


@dataclass(frozen=True)
class LabelledTar:
    """Labelled pictures in tars, turned into captions by templates.

    Parameters
    ----------
    pattern : str, Path or a sequence
        As for `TarPairs`.
    templates : tuple of str
        Sentences with ``{}`` (or ``{a}``: with its article) for the label and ``{kind}`` for a JSON field.
    label_field : str, optional
        JSON field of the label (KEY.json beside KEY.jpg); by default the label is the picture's folder.
        Underscores are read as spaces.
    rename : mapping
        Label as found -> label as written, for example ``{"Faces_easy": "face"}``.
    exclude : frozenset of str
        Labels left out altogether, as found or as renamed. `open().unmatched` holds those that do not occur.
    """

    pattern: Pattern
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    label_field: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()

    def open(self) -> LabelledSource:
        """Index the tars."""
        return _LabelledTar(self)


class _Picture(NamedTuple):
    """A picture in an archive: its key and name below the archive's, its place, and those of its helpers."""

    key: str
    name: str
    place: Place
    helpers: Mapping[str, Place]  # by suffix
    accessory: bool  # without helpers, beside the picture of the key up to the first dot


class _TarSource(Source):
    """Pictures in tars: keys, and the place of each record's picture; archives' `names` all differ."""

    def __init__(self, pattern: Pattern) -> None:
        self.dropped = Counter()
        self.tars = [Tar(path) for path in find_files(pattern)]
        self.names = distinct_names([str(tar.path.with_name(tar.name)) for tar in self.tars])
        self.keys: list[str] = []
        self._images = np.empty((0, 3), np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        return self.keys[index]

    def image(self, index: int) -> bytes:
        return self._bytes(self._images[index])

    def _bytes(self, place: Sequence[int] | NDArray[np.int64]) -> bytes:
        return self.tars[int(place[0])].blob.read(int(place[1]), int(place[2]))

    def _text(self, place: Sequence[int] | NDArray[np.int64]) -> bytes:
        """The bytes of a member with captions; nothing of one that is too long for that."""
        return self._bytes(place) if place[2] <= LARGEST_TEXT else b""

    def _pictures(self, number: int) -> Iterator[_Picture]:
        """The pictures of an archive.

        Of a name that comes twice the last one counts, as it is when an archive is unpacked.
        """
        places = {name: (number, offset, size) for name, offset, size in self.tars[number].members()}
        files = Companions(places)
        for name in places:
            key, suffix = split_key(name)
            if suffix in IMAGE_SUFFIXES:
                helpers = {suffix: places[text] for suffix, text in files.of(name).items()}
                where = f"{self.names[number]}/{key}"
                yield _Picture(where, where + name[len(key) :], places[name], helpers, files.accessory(name))
        for key in files.unused():
            self.drop("no picture", f"{self.names[number]}/{key}")
        if self.tars[number].cut_short:
            self.drop("archive cut short", str(self.tars[number].path))


class _TarPairs(_TarSource):
    def __init__(self, description: TarPairs) -> None:
        super().__init__(description.pattern)
        self._field = description.caption_field
        images, texts, objects = [], [], []
        for number in range(len(self.tars)):
            known: set[str] = set()
            for picture in self._pictures(number):
                if picture.accessory or picture.key in known:  # one record a key, as for a stream
                    self.drop(SECOND, picture.name)
                elif not picture.helpers:
                    self.drop("no caption", picture.name)
                else:
                    self.keys.append(picture.key)
                    images.append(picture.place)
                    texts.append(picture.helpers.get(".txt", NOWHERE))
                    objects.append(picture.helpers.get(".json", NOWHERE))
                known.add(picture.key)
        self._images, self._texts, self._objects = (
            np.array(p, np.int64).reshape(-1, 3) for p in (images, texts, objects)
        )
        require_records(self, description.pattern, "KEY.jpg with KEY.txt or KEY.json")

    def captions(self, index: int) -> tuple[str, ...]:
        text, fields = self._texts[index], self._objects[index]
        if text[0] >= 0 and self._field is None:
            return captions_of_text(self._text(text), f"{self.keys[index]}.txt")
        if fields[0] < 0:
            return ()
        return captions_of_fields(parse_json(self._text(fields), f"{self.keys[index]}.json"), self._field)


class _LabelledTar(LabelledSource, _TarSource):
    def __init__(self, description: LabelledTar) -> None:
        _TarSource.__init__(self, description.pattern)
        self.prepare(description.templates, description.rename, description.exclude)
        images = []
        for number in range(len(self.tars)):
            known: set[str] = set()
            for picture in self._pictures(number):
                place = picture.helpers.get(".json")
                fields = {} if place is None else parse_json(self._text(place), f"{picture.key}.json")
                inside = picture.key[len(self.names[number]) + 1 :]
                label = _label_of(inside, fields, description.label_field)
                if label is None:
                    self.drop("no label", picture.name)
                elif self.add(label, fields):
                    # Two pictures of one key have a label each: the second is called by its whole name.
                    self.keys.append(picture.name if picture.key in known else picture.key)
                    images.append(picture.place)
                known.add(picture.key)
        self._images = np.array(images, np.int64).reshape(-1, 3)
        self.finish()
        asked = f"JSON field {description.label_field!r}" if description.label_field else "<class>/<file>"
        require_records(self, description.pattern, f"pictures labelled by {asked}, not all excluded")


def _label_of(key: str, fields: Mapping[str, Any], name: str | None) -> str | None:
    if name is None:
        return PurePosixPath(key).parent.name or None
    value = fields.get(name)
    return value.strip() or None if isinstance(value, str) else None
