"""Pairs in tar archives: shards with captions, and labelled images with captions from templates."""

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
from diptych.training.data.sources.record_grouping import SECOND
from diptych.training.data.sources.records import LabelledSource, Source, require_records
from diptych.training.data.sources.tars import Tar

# Where the bytes of a member are: number of the archive, offset, size.
MemberLocation = tuple[int, int, int]
NOWHERE: MemberLocation = (-1, 0, 0)
Pattern = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class TarPairs:
    """Tar shards of KEY.jpg (png, webp, ...) with KEY.txt or KEY.json.

    Parameters
    ----------
    pattern : str, Path or a sequence
        Brace ranges (``shards/{000..099}.tar``), globs, lists, ``a.tar::b.tar``; plain or gzip.
    caption_field : str, optional
        JSON field of the captions; by default KEY.txt if there is one, else the first of "captions",
        "caption", "text".
    """

    pattern: Pattern
    caption_field: str | None = None

    def open(self) -> Source:
        """Index the shards."""
        return _TarPairs(self)


@dataclass(frozen=True)
class LabelledTar:
    """Labelled images in tars, with captions from templates.

    Parameters
    ----------
    pattern : str, Path or a sequence
        As for `TarPairs`.
    templates : tuple of str
        Sentences with ``{}`` (or ``{a}``: with its article) for the label and ``{kind}`` for a JSON field.
    label_field : str, optional
        JSON field of the label (KEY.json beside KEY.jpg); by default the label is the folder of the image.
        Underscores are read as spaces.
    rename : mapping
        Label in the data -> label in captions, for example ``{"Faces_easy": "face"}``.
    exclude : frozenset of str
        Labels to leave out, as in the data or as renamed. `open().unmatched` holds those that do not occur.
    """

    pattern: Pattern
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    label_field: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()

    def open(self) -> LabelledSource:
        """Index the tars."""
        return _LabelledTar(self)


class _ImageMember(NamedTuple):
    """An image in an archive; key and name are prefixed with the archive's name."""

    key: str
    name: str
    location: MemberLocation
    companions: Mapping[str, MemberLocation]  # caption files by suffix
    accessory: bool  # without captions, beside the image of the key up to the first dot


class _TarSource(Source):
    """Images in tars: keys, and the location of each record's image; archives have different `names`."""

    def __init__(self, pattern: Pattern) -> None:
        self.dropped = Counter()
        self.tars = [Tar(path) for path in find_files(pattern)]
        self.names = distinct_names([str(tar.path.with_name(tar.name)) for tar in self.tars])
        self.keys = []
        self._images = np.empty((0, 3), np.int64)  # a `MemberLocation` per row

    def image(self, index: int) -> bytes:
        return self._bytes(self._images[index])

    def _bytes(self, location: Sequence[int] | NDArray[np.int64]) -> bytes:
        return self.tars[int(location[0])].blob.read(int(location[1]), int(location[2]))

    def _text(self, location: Sequence[int] | NDArray[np.int64]) -> bytes:
        """Content of a member with captions; empty if it is too long for captions."""
        return self._bytes(location) if location[2] <= LARGEST_TEXT else b""

    def _image_members(self, number: int) -> Iterator[_ImageMember]:
        """The images of an archive.

        Of members with the same name the last one counts, as when an archive is unpacked.
        """
        locations = {name: (number, offset, size) for name, offset, size in self.tars[number].members()}
        files = Companions(locations)
        for name in locations:
            key, suffix = split_key(name)
            if suffix in IMAGE_SUFFIXES:
                companions = {suffix: locations[text] for suffix, text in files.of(name).items()}
                full_key = f"{self.names[number]}/{key}"
                full_name = full_key + name[len(key) :]
                yield _ImageMember(full_key, full_name, locations[name], companions, files.accessory(name))
        # Caption files without an image.
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
            seen_keys: set[str] = set()
            for image in self._image_members(number):
                if image.accessory or image.key in seen_keys:  # one record per key, as in a stream
                    self.drop(SECOND, image.name)
                elif not image.companions:
                    self.drop("no caption", image.name)
                else:
                    self.keys.append(image.key)
                    images.append(image.location)
                    texts.append(image.companions.get(".txt", NOWHERE))
                    objects.append(image.companions.get(".json", NOWHERE))
                seen_keys.add(image.key)
        self._images, self._texts, self._objects = (
            np.array(locations, np.int64).reshape(-1, 3) for locations in (images, texts, objects)
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
            seen_keys: set[str] = set()
            for image in self._image_members(number):
                location = image.companions.get(".json")
                fields = {} if location is None else parse_json(self._text(location), f"{image.key}.json")
                inner_key = image.key[len(self.names[number]) + 1 :]
                label = _label_of(inner_key, fields, description.label_field)
                if label is None:
                    self.drop("no label", image.name)
                elif self.add(label, fields):
                    # Two images of one key have a label each, so the key of the second is its whole name.
                    self.keys.append(image.name if image.key in seen_keys else image.key)
                    images.append(image.location)
                seen_keys.add(image.key)
        self._images = np.array(images, np.int64).reshape(-1, 3)
        self.finish()
        label_source = (
            f"JSON field {description.label_field!r}" if description.label_field else "<class>/<file>"
        )
        require_records(self, description.pattern, f"pictures labelled by {label_source}, not all excluded")


def _label_of(key: str, fields: Mapping[str, Any], name: str | None) -> str | None:
    if name is None:
        return PurePosixPath(key).parent.name or None
    value = fields.get(name)
    return value.strip() or None if isinstance(value, str) else None
