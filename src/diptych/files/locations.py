"""Where shards lie: files, URLs and, if allowed, commands; opened as streams of bytes.

`patterns.py` finds local files and refuses the rest; a stream takes both. Access to object stores is fsspec.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from diptych.errors import DataError
from diptych.extras import require
from diptych.files.patterns import expand_braces, find_files, is_remote

T = TypeVar("T")
PIPE = "pipe:"


def find_locations(pattern: str | Path | Sequence[str | Path], *, allow_pipes: bool = False) -> list[str]:
    """Name the shards a pattern stands for, each once, in a fixed order.

    Parameters
    ----------
    pattern : str, Path or a sequence
        As for `patterns.find_files`, and URLs with brace ranges such as ``s3://bucket/{000..099}.tar``.
    allow_pipes : bool
        Whether ``pipe:command`` may run a command, whose output is the shard.

    Returns
    -------
    list of str
        With local files that do not exist (now), as long as some do.

    Raises
    ------
    DataError
        Nothing found, or a command that is not allowed.

    Examples
    --------
    >>> find_locations("s3://bucket/{0..1}.tar")
    ['s3://bucket/0.tar', 's3://bucket/1.tar']
    """
    parts = [pattern] if isinstance(pattern, str | Path) else list(pattern)
    found, any_there = list[str](), False
    for name in (name for part in parts for name in str(part).split("::")):
        if name.startswith(PIPE) and not allow_pipes:
            raise DataError(
                f"{name!r} would run a command on this machine: name the shards themselves, or allow it in a "
                "recipe: TarStream(..., allow_pipes=True)"
            )
        if is_remote(name):
            found, any_there = found + expand_braces(name), True
            continue
        for file in [name] if Path(name).exists() else expand_braces(name):
            try:
                found, any_there = found + [str(path) for path in find_files(file)], True
            except DataError:
                found.append(file)
    if not any_there:
        find_files(pattern)  # says what is wrong
    return list(dict.fromkeys(found))


@contextmanager
def open_location(location: str) -> Iterator[IO[bytes]]:
    """Open a shard as a stream of bytes; a local file can be sought in.

    Raises
    ------
    DataError
        It cannot be opened, or the command failed.
    MissingExtraError
        A URL without fsspec, or without the package for its kind.
    """
    if location.startswith(PIPE):
        with _command(location.removeprefix(PIPE)) as stream:
            yield stream
    elif is_remote(location):
        files: Any = require("fsspec", extra="remote", purpose=f"read {location}")
        try:
            # Read in order, from the beginning: a cache of what is ahead is all it needs.
            with files.open(location, "rb", cache_type="readahead") as stream:
                yield stream
        except ImportError as error:
            raise DataError(f"{location} needs one more package: {error}") from error
    else:
        with Path(location).open("rb") as stream:
            yield stream


@contextmanager
def _command(text: str) -> Iterator[IO[bytes]]:
    process = subprocess.Popen(shlex.split(text), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        try:
            yield process.stdout
        finally:
            with suppress(subprocess.TimeoutExpired):  # whoever stopped reading early finds it running
                if process.wait(0.5) > 0:
                    raise DataError(f"{text!r} ended with status {process.returncode}")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def retried(work: Callable[[int], T], tries: int, seconds: float) -> T:
    """Call `work` with the number of the try until it succeeds, waiting longer each time.

    Raises
    ------
    DataError
        The last try failed, too.
    """
    for attempt in range(tries):
        try:
            return work(attempt)
        except (OSError, DataError, EOFError) as error:
            if attempt + 1 == tries:
                raise DataError(str(error)) from error
            time.sleep(seconds * 2**attempt)
    raise AssertionError("unreachable")
