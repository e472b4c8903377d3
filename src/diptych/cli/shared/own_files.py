"""Overwrite pages and pictures only if Diptych wrote them.

Every page carries the mark `<meta name="generator" content="Diptych">`, and every PNG the text
`Software: Diptych`. A command checks its output files before its work begins, which may take minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from diptych.cli.shared.options import flag
from diptych.errors import InputError

SOFTWARE = "Diptych"
_MARKS = (
    b'<meta name="generator" content="Diptych">',
    b"Software\0Diptych",  # a text chunk of a PNG
    *(b"--paper: #f7f5f0;", b"--paper: #fbfaf7;"),  # colours of older pages, which have no mark
)
_BEGINNING = 65_536  # bytes to search: the mark is in the head of a page, and before the pixels of a PNG

Force = Annotated[bool, flag("--force", "Overwrite the output file even if Diptych did not write it.")]


def check_overwrite(*paths: Path | None, force: bool = False) -> None:
    """Refuse to overwrite existing files that this package did not write; None is ignored.

    Raises
    ------
    InputError
        Such a file exists and `force` is False.

    Examples
    --------
    >>> check_overwrite(Path("no-such-page.html"), None)
    """
    for path in paths:
        if path is not None and not force and path.exists() and not is_written_by_diptych(path):
            raise InputError(
                f"{path} exists already and was not written by diptych: name another file, or overwrite it "
                "with --force"
            )


def is_written_by_diptych(path: Path) -> bool:
    """Whether an existing file was written by this package; an empty file counts as ours."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return False
    return not beginning or any(mark in beginning for mark in _MARKS)
