"""Pairs in plain folders: a.jpg with a.txt or a.json beside it, or one folder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diptych.errors import DataError, ImageError
from diptych.files.text_files import read_text_bytes
from diptych.media import find_images
from diptych.media.folders.captions import captions_of_fields, captions_of_text, parse_json
from diptych.media.folders.keys import companions
from diptych.media.sources import Limits, name_of, read_source
from diptych.training.data.sources.captions import DEFAULT_TEMPLATES
from diptych.training.data.sources.records import LabelledSource, Source, require_records


@dataclass(frozen=True)
class Folder:
    """Images with a caption file of the same key (`media.folders.keys`): a.jpg and a.txt (or a.json).

    Subfolders are included.

    Parameters
    ----------
    caption_field : str, optional
        As for `TarPairs`.
    """

    path: str | Path
    caption_field: str | None = None

    def open(self) -> Source:
        """List the folder."""
        return _Folder(self)


@dataclass(frozen=True)
class LabelledFolder:
    """One folder per class, turned into captions by templates.

    Parameters
    ----------
    path : str or Path
        Holds <class>/<file>; the label is the name of the folder that holds an image.
    templates, rename, exclude
        As for `LabelledTar`.
    """

    path: str | Path
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    rename: Mapping[str, str] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()

    def open(self) -> LabelledSource:
        """List the folders."""
        return _LabelledFolder(self)


class _FolderSource(Source):
    def __init__(self, path: str | Path) -> None:
        self.root = Path(path).expanduser()
        if not self.root.is_dir():
            raise DataError(f"{path} is not a folder: expected one with pictures and their captions")
        self.dropped, self.keys = Counter(), []

    def image(self, index: int) -> bytes:
        return read_image_file(self.root / self.keys[index])


class _Folder(_FolderSource):
    def __init__(self, description: Folder) -> None:
        super().__init__(description.path)
        self._field = description.caption_field
        self._texts: list[tuple[Path | None, Path | None]] = []  # .txt and .json of each image
        for path in find_images([self.root]):
            # Only names are read here; captions are read with each visit.
            if beside := companions(path):
                self.keys.append(path.relative_to(self.root).as_posix())
                self._texts.append((beside.get(".txt"), beside.get(".json")))
            else:
                self.drop("no caption", str(path))
        require_records(self, description.path, "pictures with a .txt or .json of the same name beside them")

    def captions(self, index: int) -> tuple[str, ...]:
        text, fields = self._texts[index]
        if self._field is None and text is not None:
            return captions_of_text(read_text_bytes(text), str(text))
        if fields is None:
            return ()
        return captions_of_fields(parse_json(read_text_bytes(fields), str(fields)), self._field)


class _LabelledFolder(LabelledSource, _FolderSource):
    def __init__(self, description: LabelledFolder) -> None:
        _FolderSource.__init__(self, description.path)
        self.prepare(description.templates, description.rename, description.exclude)
        for path in find_images([self.root]):
            if path.parent == self.root:
                self.drop("no label", str(path))
            elif self.add(path.parent.name, {}):
                self.keys.append(path.relative_to(self.root).as_posix())
        self.finish()
        require_records(
            self, description.path, "pictures in folders named after their class, not all excluded"
        )


def read_image_file(path: Path) -> bytes:
    """Read an image file.

    Raises
    ------
    DataError
        The file is missing, empty or over `Limits.max_bytes`, or its name is invalid.
    """
    try:
        return read_source(path, Limits())
    except (ImageError, ValueError) as error:
        reason = str(error).removeprefix("cannot be read: ")
        raise DataError(f"{name_of(path)} cannot be read: {reason}") from error
