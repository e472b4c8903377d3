"""Pages and pictures that commands write: what Diptych wrote is written over, other files are not.

Every page carries a mark, `<meta name="generator" content="Diptych">`, and every picture names the same
software. A command asks before its work begins, which may take minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.errors import InputError

SOFTWARE = "Diptych"
_MARKS = (
    b'<meta name="generator" content="Diptych">',
    b"Software\0Diptych",  # a text of a PNG
    *(b"--paper: #f7f5f0;", b"--paper: #fbfaf7;"),  # of every page before pages had the mark
)
_BEGINNING = 65_536  # bytes: the mark stands in a page's head, in a picture before its pixels

Force = Annotated[
    bool,
    typer.Option("--force", metavar="", help="Write over a file of that name that Diptych did not write."),
]


def check_own(*paths: Path | None, force: bool = False) -> None:
    """Refuse to write over files that this package did not write.

    Parameters
    ----------
    *paths : Path or None
        What is to be written; None is passed over.
    force : bool
        Write over them all the same.

    Raises
    ------
    InputError
        One of them is there, and somebody else's.

    Examples
    --------
    >>> check_own(Path("no-such-page.html"), None)
    """
    for path in paths:
        if path is not None and not force and path.exists() and not is_own(path):
            raise InputError(
                f"{path} is there already and was not written by diptych: name another file, or write over "
                "it with --force"
            )


def is_own(path: Path) -> bool:
    """Whether a file that is there was written by this package; an empty one may be written over."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return False
    return not beginning or any(mark in beginning for mark in _MARKS)
