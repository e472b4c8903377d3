"""Rules on what indexing a folder leaves out: patterns with rsync's semantics, archives, system folders.

A pattern without a slash matches a name at any depth. One that begins with a slash, or is a full path, is
anchored at the indexed folder. Any other pattern with slashes matches the end of a path at any depth. A
trailing slash restricts a pattern to folders; `*` does not match a slash, `**` does.
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
    """Rules on what is left out below one indexed path."""

    base: Path  # the indexed path, at which patterns are anchored
    exclude: tuple[str, ...] = ()  # patterns of files and folders to leave out
    archives: bool = True  # read images inside archives
    system_folders: bool = False  # enter folders that operating systems and file servers use internally

    def matching(self, relative: str) -> list[str]:
        """Return the patterns that match a path relative to the base; a folder's path ends with a slash."""
        return [
            pattern
            for pattern in self.exclude
            if _compiled((pattern,), self.base).match_file(composed(relative))
        ]

    def excludes(self, relative: str) -> bool:
        """Whether some pattern matches a path relative to the base; a folder's path ends with a slash."""
        return bool(self.exclude) and _compiled(self.exclude, self.base).match_file(composed(relative))

    def leaves_out(self, path: Path, *, member: bool = False) -> bool:
        """Whether a walk of the base leaves out a file below it, which need not exist any more.

        `member`: the file is an image inside the archive `path`.

        Examples
        --------
        >>> rules = FolderRules(Path("/a"), ("thumbs", "*.gif", "/b/c", "d/*"), archives=False)
        >>> names = "x.jpg", "thumbs/x.jpg", "y/x.gif", "b/c/x.jpg", "y/b/c/x.jpg", "y/d/x.jpg", "@tmp/x.jpg"
        >>> [name for name in names if not rules.leaves_out(Path("/a", name))]
        ['x.jpg', 'y/b/c/x.jpg']
        """
        if path == self.base:
            return False
        relative = path.relative_to(self.base)
        if member and not self.archives:
            return True
        if not self.system_folders and is_in_system_folder(relative.parts[:-1]):
            return True
        return self.excludes(relative.as_posix())


@dataclass
class RuleUsage:
    """Which rules left something out in one walk, for messages."""

    patterns: set[str] = field(default_factory=set)  # patterns that matched
    system_folders: set[str] = field(default_factory=set)  # names of system folders that were not entered
    archives: int = 0  # number of archives that were not read

    def note(self, rules: FolderRules, relative: str) -> None:
        """Record which patterns left out this path."""
        if not self.patterns.issuperset(rules.exclude):
            self.patterns.update(rules.matching(relative))


def check_patterns(patterns: Sequence[str]) -> None:
    """Reject invalid patterns.

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
                f"--exclude {pattern!r}: exceptions (!) are not supported. For a name that begins with an "
                f"exclamation mark write '\\{pattern}'; otherwise leave the pattern out"
            )
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        if pattern and (not parts or ".." in parts):
            raise InputError(
                f"--exclude {pattern!r}: expected a name, a path inside the indexed folder, or a pattern, "
                "as in  '*.gif'  private/  2019/drafts"
            )
        if pattern and not all(map(_is_valid, _git_patterns(pattern, Path("/")))):
            raise InputError(
                f"--exclude {pattern!r} is not a valid pattern: a bracket is not closed, or nothing follows "
                "a backslash. Write a backslash before a character that is meant literally"
            )


# Compiled once for all patterns of a root, and once for each pattern alone, which `matching` needs to say
# which of them matched. Compiling takes longer than matching a path.
@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...], base: Path) -> pathspec.GitIgnoreSpec:
    return _spec(
        [
            line
            for pattern in patterns
            if pattern
            for line in _git_patterns(pattern, base)
            if _is_valid(line)  # earlier versions accepted and stored patterns that are invalid now
        ]
    )


def _spec(lines: Sequence[str]) -> pathspec.GitIgnoreSpec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by `re` for names such as [[]
        return pathspec.GitIgnoreSpec.from_lines(lines)


def _is_valid(line: str) -> bool:
    try:
        spec = _spec([line])
    except (ValueError, re.error):
        return False
    return any(pattern.include is not None for pattern in spec.patterns)


def _git_patterns(pattern: str, base: Path) -> list[str]:
    r"""Translate a pattern to the syntax of gitignore files.

    Examples
    --------
    >>> patterns = ("thumbs", "a/b", "/a", "/home/me/a/", "#recycle")
    >>> [_git_patterns(pattern, Path("/home/me")) for pattern in patterns]
    [['thumbs'], ['**/a/b'], ['/a'], ['/a/'], ['\\#recycle']]
    """
    # Composed like the paths that it is compared with: some file systems store "é" as two characters, which a
    # typed pattern would never match.
    text = composed(os.path.expanduser(pattern)).removeprefix("./")  # noqa: PTH111 - keeps a slash at the end
    # A full path inside the indexed folder becomes relative to it, through a link too: the user names what a
    # file manager shows. Any other leading slash already means the indexed folder.
    if text.startswith("/"):
        for home in (composed(str(base)), composed(os.path.realpath(base))):
            if home != "/" and text.startswith(f"{home}/"):
                text = text.removeprefix(home)
                break
    elif "/" in text.rstrip("/") and not text.startswith("**"):
        text = f"**/{text}"  # rsync's rule: the end of a path, at any depth
    text = f"{text.removesuffix('/***')}/" if text.endswith("/***") else text
    # In gitignore files, "#" begins a comment, and a space at the end is dropped unless it is escaped.
    if text.startswith("#"):
        text = f"\\{text}"
    if text.endswith(" "):
        text = f"{text[:-1]}\\ "
    # `a/**` leaves out everything inside a folder; the added `a/` keeps the folder from being listed at all.
    return [text, text.removesuffix("**")] if text.endswith("/**") and text.strip("/*") else [text]
