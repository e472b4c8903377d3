"""Companion files of a picture: captions, and sidecars in which other programs keep metadata.

They are moved together with the picture: alone they are meaningless, and the picture without them has lost
what a person wrote.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from diptych.media.folders.files import is_picture
from diptych.media.folders.keys import Companions
from diptych.media.folders.sidecar_names import Sidecars


class CompanionFiles:
    """Finds the companion files of pictures; each folder is listed once and cached.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.jpg", "a.txt", "a.jpg.xmp", "b.jpg", "b.nef", "b.xmp"):
    ...         written = Path(folder, name).write_bytes(b"")
    ...     companions = CompanionFiles()
    ...     [path.name for name in ("a.jpg", "b.jpg") for path in companions.of(Path(folder, name))]
    ['a.jpg.xmp', 'a.txt']
    """

    def __init__(self) -> None:
        self._pictures: dict[Path, dict[str, set[str]]] = {}  # folder -> file -> pictures it belongs to
        self._files: dict[Path, dict[str, list[str]]] = {}  # folder -> picture -> files that belong to it

    def of(self, picture: Path) -> list[Path]:
        """The files that belong to this picture alone, sorted.

        They existed when the folder was listed, and may have been removed since.
        """
        pictures, files = self._listed(picture.parent)
        names = files.get(picture.name, ())
        return [picture.with_name(name) for name in sorted(names) if pictures[name] == {picture.name}]

    def leave(self, picture: Path) -> None:
        """Note that a picture was moved: files that it shared with one other picture belong to that one."""
        pictures, files = self._listed(picture.parent)
        for name in files.get(picture.name, ()):
            pictures[name].discard(picture.name)

    def _listed(self, folder: Path) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
        if folder not in self._pictures:
            self._pictures[folder], self._files[folder] = _of_folder(folder)
        return self._pictures[folder], self._files[folder]


def _of_folder(folder: Path) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    pictures: dict[str, set[str]] = defaultdict(set)
    files: dict[str, list[str]] = {}
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return pictures, files
    companions, sidecars = Companions(names), Sidecars(names)
    for name in filter(is_picture, names):
        files[name] = list(dict.fromkeys((*companions.of(name).values(), *sidecars.of(name))))
        for companion in files[name]:
            pictures[companion].add(name)
    return pictures, files
