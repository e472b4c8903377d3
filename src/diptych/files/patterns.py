"""Path patterns (braces, globs, lists, `::` joins) resolved to local files; nothing is opened or fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from diptych.errors import DataError
from diptych.files.unicode_text import existing_path

LARGEST_EXPANSION = 1_000_000  # files; a range such as `{0..9999999999}` is a typing error

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?\Z")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|pipe:", re.ASCII)


def expand_braces(pattern: str) -> list[str]:
    """Expand the braces of a pattern as bash does: ranges and comma lists, also nested.

    Parameters
    ----------
    pattern : str
        For example ``"shards/{000..099}.tar"`` or ``"{train,extra}-{0..3}.tar"``.

    Returns
    -------
    list of str
        The leftmost brace changes slowest. Braces without a range or a comma are kept as they are.

    Raises
    ------
    DataError
        The pattern expands to more than a million names.

    Examples
    --------
    >>> expand_braces("a/{08..10}.tar")
    ['a/08.tar', 'a/09.tar', 'a/10.tar']
    >>> expand_braces("{x,y{1..2}}.tar")
    ['x.tar', 'y1.tar', 'y2.tar']
    >>> expand_braces("{odd}.tar")
    ['{odd}.tar']
    """
    names: list[str] = []
    for name in _expand(pattern):
        names.append(name)
        if len(names) > LARGEST_EXPANSION:
            raise _too_many(pattern)
    return names


def find_files(pattern: str | Path | Sequence[str | Path]) -> list[Path]:
    """Resolve a pattern to existing files, without repeats, in a fixed order.

    Parameters
    ----------
    pattern : str, Path or a sequence of them
        A path, with braces or ``*?[]`` (a glob's matches are sorted), several joined by ``::``, or a list.

    Returns
    -------
    list of Path
        Existing files.

    Raises
    ------
    DataError
        A URL or ``pipe:`` command, a missing file, or a glob without matches.
    """
    parts = [pattern] if isinstance(pattern, str | Path) else list(pattern)
    names = [name for part in parts for joined in str(part).split("::") for name in _local_names(joined)]
    files = list(dict.fromkeys(path for name in names for path in _matches(name)))
    if not files:
        raise DataError(
            f"{pattern!r} names no file: expected a path, a glob or a brace range like {{000..099}}"
        )
    return files


def is_remote(name: str) -> bool:
    """Whether a name is a URL or a ``pipe:`` command."""
    return _REMOTE.match(name) is not None


def refuse_remote(name: str) -> None:
    """Raise DataError for a URL or a ``pipe:`` command."""
    if is_remote(name):
        raise DataError(
            f"{name!r} is a URL or a command, and this kind of pairs is read from local files only. Download "
            "them first, or stream tar shards: TarStream(...), diptych train --stream"
        )


def _local_names(name: str) -> list[str]:
    refuse_remote(name)
    # A file may really be called "a{1,2}.tar"; a path that exists as written is not expanded.
    return [name] if Path(name).exists() else expand_braces(name)


def _matches(name: str) -> list[Path]:
    path = existing_path(Path(name).expanduser())
    if path.exists():
        return [path]
    if not any(character in name for character in "*?["):
        raise DataError(f"{name} does not exist: expected a tar, a table or a folder of pairs")
    fixed = [part for part in path.parts if not any(character in part for character in "*?[")]
    root = Path(*path.parts[: _first_wild(path)]) if fixed else Path()
    matches = sorted(root.glob(str(Path(*path.parts[_first_wild(path) :]))))
    if not matches:
        raise DataError(f"{name} matches no file: check the folder {root or '.'}")
    return matches


def _first_wild(path: Path) -> int:
    return next(n for n, part in enumerate(path.parts) if any(sign in part for sign in "*?["))


def _expand(pattern: str) -> Iterator[str]:
    for start in (n for n, sign in enumerate(pattern) if sign == "{"):
        end = _closing(pattern, start)
        choices = None if end is None else _choices(pattern[start + 1 : end], pattern)
        if end is None or choices is None:
            continue
        tails = None
        for choice in choices:
            tails = expand_braces(pattern[end + 1 :]) if tails is None else tails
            for middle in _expand(choice):
                for tail in tails:
                    yield pattern[:start] + middle + tail
        return
    yield pattern


def _closing(pattern: str, start: int) -> int | None:
    depth = 0
    for n in range(start, len(pattern)):
        depth += (pattern[n] == "{") - (pattern[n] == "}")
        if depth == 0:
            return n
    return None


def _choices(inside: str, pattern: str) -> list[str] | None:
    """The alternatives between two braces; None if there is neither a range nor a comma list."""
    if match := _RANGE.match(inside):
        return _numbers(match, pattern)
    alternatives, depth, last = [], 0, 0
    for n, sign in enumerate(inside):
        depth += (sign == "{") - (sign == "}")
        if sign == "," and depth == 0:
            alternatives.append(inside[last:n])
            last = n + 1
    return [*alternatives, inside[last:]] if alternatives else None


def _numbers(match: re.Match[str], pattern: str) -> list[str]:
    first, last, step = match[1], match[2], abs(int(match[3] or 1)) or 1
    low, high = int(first), int(last)
    if abs(high - low) // step > LARGEST_EXPANSION:
        raise _too_many(pattern)
    # As in bash: a leading zero at either end pads every number to the longer of the two.
    padded = any(re.match(r"-?0\d", end) for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    numbers = range(low, high + 1, step) if low <= high else range(low, high - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]


def _too_many(pattern: str) -> DataError:
    return DataError(f"{pattern!r} expands to more than {LARGEST_EXPANSION:,} files: check its brace ranges")
