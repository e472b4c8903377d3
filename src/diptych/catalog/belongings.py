"""Files beside a picture that belong to it: captions, and metadata that other programs keep in sidecars.

Whoever moves a picture moves them with it: without the picture they say nothing, and the picture without them
has lost what a person wrote.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from diptych.media.files import is_picture
from diptych.media.keys import Companions
from diptych.media.sidecar_names import Sidecars


class Belongings:
    """The files that belong to pictures, folder by folder; each folder is listed once.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.jpg", "a.txt", "a.jpg.xmp", "b.jpg", "b.nef", "b.xmp"):
    ...         written = Path(folder, name).write_bytes(b"")
    ...     belongings = Belongings()
    ...     [path.name for name in ("a.jpg", "b.jpg") for path in belongings.of(Path(folder, name))]
    ['a.jpg.xmp', 'a.txt']
    """

    def __init__(self) -> None:
        self._owners: dict[Path, dict[str, set[str]]] = {}  # folder -> picture's name -> files of it alone

    def of(self, picture: Path) -> list[Path]:
        """The files that belong to a picture and to no other picture beside it, sorted.

        They were there when its folder was first asked for, and may be gone.
        """
        if picture.parent not in self._owners:
            self._owners[picture.parent] = _of_folder(picture.parent)
        return [
            picture.with_name(name) for name in sorted(self._owners[picture.parent].get(picture.name, ()))
        ]


def _of_folder(folder: Path) -> dict[str, set[str]]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return {}
    companions, sidecars = Companions(names), Sidecars(names)
    pictures_of: dict[str, set[str]] = defaultdict(set)  # helper -> pictures
    for name in filter(is_picture, names):
        for helper in (*companions.of(name).values(), *sidecars.of(name)):
            pictures_of[helper].add(name)
    alone: dict[str, set[str]] = defaultdict(set)
    for helper, pictures in pictures_of.items():
        if len(pictures) == 1:
            alone[next(iter(pictures))].add(helper)
    return alone
