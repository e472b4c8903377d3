"""Locations of shards (files, URLs and, if allowed, shell commands), opened as byte streams.

`patterns.py` resolves local files only. Object stores are read through fsspec.
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
    """Resolve a pattern to the shards it names, without repeats, in a fixed order.

    Parameters
    ----------
    pattern : str, Path or a sequence
        As for `patterns.find_files`, and URLs with brace ranges such as ``s3://bucket/{000..099}.tar``.
    allow_pipes : bool
        Allow ``pipe:command``, which runs a command and reads the shard from its output.

    Returns
    -------
    list of str
        Includes local files that do not exist (yet), if at least one file exists.

    Raises
    ------
    DataError
        No file matches, or a command is not allowed.

    Examples
    --------
    >>> find_locations("s3://bucket/{0..1}.tar")
    ['s3://bucket/0.tar', 's3://bucket/1.tar']
    """
    parts = [pattern] if isinstance(pattern, str | Path) else list(pattern)
    locations, any_exists = list[str](), False
    for name in (name for part in parts for name in str(part).split("::")):
        if name.startswith(PIPE) and not allow_pipes:
            raise DataError(
                f"{name!r} would run a command on this machine: name the shards themselves, or allow it in a "
                "recipe: TarStream(..., allow_pipes=True)"
            )
        if is_remote(name):
            locations, any_exists = locations + expand_braces(name), True
            continue
        for file in [name] if Path(name).exists() else expand_braces(name):
            try:
                locations, any_exists = locations + [str(path) for path in find_files(file)], True
            except DataError:
                locations.append(file)
    if not any_exists:
        find_files(pattern)  # raises the error that explains what is missing
    return list(dict.fromkeys(locations))


@contextmanager
def open_location(location: str) -> Iterator[IO[bytes]]:
    """Open a shard as a byte stream; only local files are seekable.

    Raises
    ------
    DataError
        It cannot be opened, or the command failed.
    MissingExtraError
        fsspec, or the fsspec package for this kind of URL, is not installed.
    """
    if location.startswith(PIPE):
        with _command(location.removeprefix(PIPE)) as stream:
            yield stream
    elif is_remote(location):
        files: Any = require("fsspec", extra="remote", purpose=f"read {location}")
        try:
            # Shards are read sequentially, so a read-ahead cache is sufficient.
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
            with suppress(subprocess.TimeoutExpired):  # still running if the reader stopped early
                if process.wait(0.5) > 0:
                    raise DataError(f"{text!r} ended with status {process.returncode}")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def retried(work: Callable[[int], T], tries: int, seconds: float) -> T:
    """Call `work` with the number of the attempt until it succeeds, doubling the waiting time each time.

    Raises
    ------
    DataError
        The last attempt failed too.
    """
    for attempt in range(tries):
        try:
            return work(attempt)
        except (OSError, DataError, EOFError) as error:
            if attempt + 1 == tries:
                raise DataError(str(error)) from error
            time.sleep(seconds * 2**attempt)
    raise AssertionError("unreachable")
