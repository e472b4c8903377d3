r"""Number of pairs in each tar shard: counted once from the headers, and stored in a manifest.

The manifest of a folder of shards is the file `diptych-shards.json` in it. Where that cannot be written (a
URL, a folder for reading only) it is a file of the user's cache, named after the folder:

    {"format": "diptych-shards", "version": 2, "folder": "/data/shards", "shards": {
        "00000.tar": {"size": 731791360, "stamp": "mtime:1764511260000000000", "records": 10000,
                      "pairs": 9987, "pairs_with_json": 9987, "headers": "5f3a..."}}}

    size             bytes of the file
    stamp            changes with the content: its time in nanoseconds, or what its server gives (e.g. ETag)
    records          groups of members with one key, see `diptych.media.folders.keys`
    pairs            records with an image and a .txt or .json
    pairs_with_json  records with an image and a .json: the pairs if captions are read from a JSON field
    headers          BLAKE2b (16 bytes, hex) of "NAME\0SIZE\n" for every member of a record, in order

An entry is valid as long as size and stamp are those of the file. Pictures are not decoded and captions not
read, so an epoch may have fewer pairs than are counted here.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.extras import require
from diptych.files.disk import replace_file, user_cache
from diptych.files.locations import open_location, retried
from diptych.files.patterns import is_remote
from diptych.files.tars import headers
from diptych.training.data.sources.record_grouping import RecordGroup, RecordGrouper
from diptych.training.data.sources.shard_reader import open_shard

FILE = "diptych-shards.json"
FORMAT = {"format": "diptych-shards", "version": 2}  # version 1 cut keys at the first dot
CONNECTIONS = 16  # remote shards read at a time
MIN_FOR_PROCESSES = 32  # with fewer local shards, one process is done before others have started

# Fields of fsspec that change with the content; kinds of servers name them differently.
_STAMPS = ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "mtime", "created")

Identity = tuple[int, str]  # size and stamp


@dataclass(frozen=True)
class ShardCounts:
    """An entry of a manifest; see this module's description of the file."""

    size: int
    stamp: str
    records: int
    pairs: int
    pairs_with_json: int
    headers: str


def count_shards(
    locations: Sequence[str],
    *,
    workers: int = 1,
    tries: int = 3,
    seconds: float = 1.0,
    counting: Callable[[int], Callable[[int], None]] | None = None,
) -> list[ShardCounts | DataError]:
    """Count the pairs of shards; only those without a valid entry in a manifest are read.

    Parameters
    ----------
    locations : sequence of str
        Files and URLs, as `find_locations` gives them.
    workers : int
        Processes that read headers, where there are many local shards.
    tries, seconds : int, float
        How often to try a shard that fails, and how long to wait before the second try.
    counting : callable, optional
        Called with the number of shards to read, if any; returns a function that is called for each.

    Returns
    -------
    list of ShardCounts or DataError
        One per location; an error says why the shard could not be counted.
    """
    manifests = {folder: _read(folder) for folder in {_folder(location) for location in locations}}
    counts: dict[str, ShardCounts | DataError] = {}
    left: dict[str, Identity | None] = {}
    for location, identity in zip(locations, _identities(locations), strict=True):
        entry = manifests[_folder(location)].get(_name(location))
        if entry is not None and (entry.size, entry.stamp) == identity:
            counts[location] = entry
        else:
            left[location] = identity
    if left:
        advance = (lambda done: None) if counting is None else counting(len(left))
        with _pool(left, workers) as pool:
            running = {
                pool.submit(_count, location, identity, tries, seconds): location
                for location, identity in left.items()
            }
            for done in as_completed(running):
                counts[running[done]] = done.result()
                advance(1)
        _keep(manifests, {location: counts[location] for location, identity in left.items() if identity})
    return [counts[location] for location in locations]


def changed_shards(locations: Sequence[str], counts: Sequence[ShardCounts | DataError]) -> list[str]:
    """The local shards whose size or time changed since they were counted; servers are not queried."""
    return [
        location
        for location, counted in zip(locations, counts, strict=True)
        if not is_remote(location)
        and _identity(location) != (None if isinstance(counted, DataError) else (counted.size, counted.stamp))
    ]


def _count(location: str, identity: Identity | None, tries: int, seconds: float) -> ShardCounts | DataError:
    if identity is None and not is_remote(location):
        return DataError(f"{location} does not exist")
    try:
        return retried(lambda attempt: _read_headers(location, identity), tries, seconds)
    except DataError as error:
        return error


def _read_headers(location: str, identity: Identity | None) -> ShardCounts:
    """Count one shard; of a truncated one, the records before the end, as a stream reads them."""
    digest = hashlib.blake2b(digest_size=16)
    grouper, last = RecordGrouper[None](), -1
    groups: list[RecordGroup[None]] = []
    try:
        with open_location(location) as stream, open_shard(stream) as tar:
            for member in headers(tar):
                groups += grouper.open(member.name)
                if grouper.group is not None:
                    last = grouper.group.number
                    grouper.keep(None)
                    digest.update(f"{member.name}\0{member.size}\n".encode("utf-8", "surrogateescape"))
            groups += grouper.close()
    except (tarfile.TarError, zlib.error, UnicodeError, ValueError, EOFError) as error:
        groups += grouper.close()
        if last < 0:
            raise DataError(f"{location} is not a tar archive that can be read: {error}") from error
        # The content of its last member may be truncated.
        groups, last = [group for group in groups if group.number != last], last - 1
    size, stamp = identity or (0, "")
    pairs = sum(group.complete for group in groups)
    with_json = sum({"image", "json"} <= group.parts.keys() for group in groups)
    return ShardCounts(size, stamp, last + 1, pairs, with_json, digest.hexdigest())


def _pool(left: Mapping[str, object], workers: int) -> Executor:
    if any(map(is_remote, left)):
        return ThreadPoolExecutor(CONNECTIONS, "diptych-counting")
    if len(left) < MIN_FOR_PROCESSES or workers == 1:
        return ThreadPoolExecutor(1, "diptych-counting")
    # Headers are read in Python: threads would wait for each other.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _identities(locations: Sequence[str]) -> list[Identity | None]:
    if not any(map(is_remote, locations)):
        return [_identity(location) for location in locations]
    with ThreadPoolExecutor(CONNECTIONS, "diptych-counting") as pool:
        return list(pool.map(_identity, locations))


def _identity(location: str) -> Identity | None:
    """Size and stamp of a shard; None if they are unknown, and then no entry is stored."""
    if not is_remote(location):
        try:
            status = Path(location).stat()
        except OSError:
            return None
        return status.st_size, f"mtime:{status.st_mtime_ns}"
    files: Any = require("fsspec", extra="remote", purpose=f"read {location}")
    try:
        filesystem, path = files.core.url_to_fs(location)
        info = filesystem.info(path)
    except (OSError, ValueError, ImportError):  # reading the shard gives the better message
        return None
    stamps = (f"{name}:{info[name]}" for name in _STAMPS if info.get(name))
    stamp = next(stamps, None)
    return None if stamp is None or info.get("size") is None else (int(info["size"]), stamp)


def _folder(location: str) -> str:
    return location.rpartition("/")[0] if is_remote(location) else str(Path(location).absolute().parent)


def _name(location: str) -> str:
    """The name in its folder's manifest, without the query of a URL, which may be a signature."""
    return location.rpartition("/")[2].partition("?")[0] if is_remote(location) else Path(location).name


def _files(folder: str) -> list[Path]:
    """Possible paths of a folder's manifest, the preferred one first."""
    cached = user_cache() / "shards" / f"{hashlib.blake2b(folder.encode(), digest_size=16).hexdigest()}.json"
    return [cached] if is_remote(folder) else [Path(folder) / FILE, cached]


def _read(folder: str) -> dict[str, ShardCounts]:
    """The entries of a folder's manifest; empty if there is none of this format."""
    entries: dict[str, ShardCounts] = {}
    # The preferred file last, so that its entries replace those of the cache.
    for path in reversed(_files(folder)):
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            written = json.loads(path.read_bytes())
            if {name: written[name] for name in FORMAT} == FORMAT:
                entries |= {name: _entry(values) for name, values in written["shards"].items()}
    return entries


def _entry(values: Mapping[str, Any]) -> ShardCounts:
    entry = ShardCounts(**{field.name: values[field.name] for field in fields(ShardCounts)})
    numbers = (entry.size, entry.records, entry.pairs, entry.pairs_with_json)
    if not all(type(number) is int and number >= 0 for number in numbers) or entry.pairs > entry.records:
        raise ValueError(f"not an entry of a shard manifest: {values}")
    return entry


def _keep(
    manifests: Mapping[str, Mapping[str, ShardCounts]], counted: Mapping[str, ShardCounts | DataError]
) -> None:
    """Write the manifests of the folders with new counts."""
    new: dict[str, dict[str, ShardCounts]] = defaultdict(dict)
    for location, counts in counted.items():
        if isinstance(counts, ShardCounts):
            new[_folder(location)][_name(location)] = counts
    for folder, entries in new.items():
        _write(folder, {**manifests[folder], **entries})


def _write(folder: str, entries: Mapping[str, ShardCounts]) -> None:
    shards = {name: asdict(entries[name]) for name in sorted(entries)}
    text = json.dumps({**FORMAT, "folder": folder, "shards": shards}, indent=1)
    for path in _files(folder):
        with suppress(OSError):  # if it cannot be stored, the next run counts again
            replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            return
