"""What a walk over an indexed folder leaves out: patterns as rsync matches them, archives, system folders.

A pattern without a slash is a name at any depth; one that begins with a slash, or is a full path, is
fixed at the indexed folder; any other one with slashs may end a path at any depth. A slash at the end means
folders alone, `*` stops at a slash and `**` does not.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pathspec

from diptych.errors import InputError
from diptych.files.unicode_text import composed
from diptych.media.folders.system_folders import is_in_system_folder


@dataclass(frozen=True)
class FolderRules:
    """What is left out below one indexed path.

    Attributes
    ----------
    base : Path
        The indexed path, which patterns with slashs begin at.
    exclude : tuple of str
        Patterns.
    archives : bool
        Look into archives.
    system_folders : bool
        Enter folders that file servers and systems keep for themselves.
    """

    base: Path
    exclude: tuple[str, ...] = ()
    archives: bool = True
    system_folders: bool = False

    def matching(self, relative: str) -> list[str]:
        """The patterns that leave out this path below the base; a folder's path ends with a slash."""
        return [
            pattern
            for pattern in self.exclude
            if _compiled((pattern,), self.base).match_file(composed(relative))
        ]

    def excludes(self, relative: str) -> bool:
        """Whether some pattern leaves out this path below the base; a folder's path ends with a slash."""
        return bool(self.exclude) and _compiled(self.exclude, self.base).match_file(composed(relative))

    def leaves_out(self, path: Path, *, member: bool = False) -> bool:
        """Whether a walk of the base does not come to this file below it.

        Parameters
        ----------
        path : Path
            Of a file, which may be gone, or an archive.
        member : bool
            It is a picture inside that archive.

        Examples
        --------
        >>> rules = FolderRules(Path("/a"), ("thumbs", "*.gif", "/b/c", "d/*"), archives=False)
        >>> names = "x.jpg", "thumbs/x.jpg", "y/x.gif", "b/c/x.jpg", "y/b/c/x.jpg", "y/d/x.jpg", "@tmp/x.jpg"
        >>> [name for name in names if not rules.leaves_out(Path("/a", name))]
        ['x.jpg', 'y/b/c/x.jpg']
        """
        if path == self.base:
            return False
        inside = path.relative_to(self.base)
        if member and not self.archives:
            return True
        if not self.system_folders and is_in_system_folder(inside.parts[:-1]):
            return True
        return self.excludes(inside.as_posix())


@dataclass
class Usage:
    """What patterns and defaults left out in one walk, so that it can be said.

    Attributes
    ----------
    patterns : set of str
        Patterns that left something out.
    system_folders : set of str
        Names of system folders that were not entered.
    archives : int
        Archives that were not looked into.
    """

    patterns: set[str] = field(default_factory=set)
    system_folders: set[str] = field(default_factory=set)
    archives: int = 0

    def note(self, rules: FolderRules, relative: str) -> None:
        """Remember which of the patterns left out this path."""
        if not self.patterns.issuperset(rules.exclude):
            self.patterns.update(rules.matching(relative))


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse patterns that cannot be matched.

    Raises
    ------
    InputError
        A pattern begins with an exclamation mark, names the folder itself, or is malformed.

    Examples
    --------
    >>> check_patterns(["*.gif", "private/", ""])
    """
    for pattern in patterns:
        if pattern.startswith("!"):
            raise InputError(
                f"--exclude {pattern!r}: exceptions are not understood. For a name that begins with an "
                f"exclamation mark write '\\{pattern}'; else leave the pattern away"
            )
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        if pattern and (not parts or ".." in parts):
            raise InputError(
                f"--exclude {pattern!r}: expected a name, a path inside the indexed folder or a pattern of "
                "them, as in  '*.gif'  private/  2019/drafts"
            )
        if pattern and not all(map(_is_valid, _git_patterns(pattern, Path("/")))):
            raise InputError(
                f"--exclude {pattern!r} is no pattern: a bracket has no end, or nothing follows a backslash. "
                "Before a letter that is meant as it stands write a backslash"
            )


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...], base: Path) -> pathspec.GitIgnoreSpec:
    return _spec(
        [
            line
            for pattern in patterns
            if pattern
            for line in _git_patterns(pattern, base)
            if _is_valid(line)  # a catalogue may hold what earlier versions took
        ]
    )


def _spec(lines: Sequence[str]) -> pathspec.GitIgnoreSpec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of regular expressions, for names such as [[]
        return pathspec.GitIgnoreSpec.from_lines(lines)


def _is_valid(line: str) -> bool:
    try:
        spec = _spec([line])
    except (ValueError, re.error):
        return False
    return any(pattern.include is not None for pattern in spec.patterns)


def _git_patterns(pattern: str, base: Path) -> list[str]:
    r"""A pattern as git's ignore files write it.

    Examples
    --------
    >>> [_git_patterns(one, Path("/home/me")) for one in ("thumbs", "a/b", "/a", "/home/me/a/", "#recycle")]
    [['thumbs'], ['**/a/b'], ['/a'], ['/a/'], ['\\#recycle']]
    """
    text = composed(os.path.expanduser(pattern)).removeprefix("./")  # noqa: PTH111 - keeps a slash at the end
    if text.startswith("/"):
        for home in (composed(str(base)), composed(os.path.realpath(base))):
            if home != "/" and text.startswith(f"{home}/"):
                text = text.removeprefix(home)
                break
    elif "/" in text.rstrip("/") and not text.startswith("**"):
        text = f"**/{text}"  # rsync's rule: the end of a path, at any depth
    text = f"{text.removesuffix('/***')}/" if text.endswith("/***") else text
    if text.startswith("#"):
        text = f"\\{text}"
    if text.endswith(" "):
        text = f"{text[:-1]}\\ "
    # `a/**` leaves out all that is in a folder: then the folder itself need not be listed.
    return [text, text.removesuffix("**")] if text.endswith("/**") and text.strip("/*") else [text]
