"""Streamed shards: each record once, in an order independent of workers, kills and lanes; faults reported."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import DataError, MissingExtraError
from diptych.files.locations import find_locations, open_location
from diptych.training.data import Mixture, RankShard, TarPairs, open_pairs
from diptych.training.data.lengths import ShardGroup, StreamLengths
from diptych.training.data.order import Order, Visits, distinct_names, hash_keys
from diptych.training.data.sources.manifest import ShardCounts
from diptych.training.data.sources.shard_reader import ShardReader, StreamedRecord
from diptych.training.data.stream_lanes import LanePosition, StreamEpoch, StreamLane
from diptych.training.data.streaming import StreamLoader, TarStream
from tests.training.data.make_pairs import (
    caption_members,
    decode_in_threads,
    picture,
    toy_tokenizer,
    write_tar,
)
from tests.waiting import HANG

SIZES = (13, 7, 20, 9, 11)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for number, size in enumerate(SIZES):
        write_tar(folder / f"s{number}.tar", caption_members(range(100 * number, 100 * number + size)))
    return folder


@pytest.fixture
def make(shards: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    if "processes" not in request.keywords:
        decode_in_threads(monkeypatch)
    opened: list[StreamLoader] = []

    def make(pattern: object = None, rank_shard: RankShard = RankShard(), **changes: object) -> StreamLoader:  # noqa: B008
        options = {
            "batch_size": 8,
            "image_size": 24,
            "workers": 1,
            "seed": 3,
            "rank_shard": rank_shard,
            **changes,
        }
        stream = TarStream(str(pattern or shards / "s{0..4}.tar"), block=16, wait=0.0)
        opened.append(StreamLoader([(stream, 1.0)], toy_tokenizer, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for loader in opened:
        loader.close()


def keys(batches) -> list[str]:  # type: ignore[no-untyped-def]
    return [key for batch in batches for key in batch.keys]


def saved(positions: dict[int, object]) -> dict[int, object]:
    """The positions after a round trip through a checkpoint's JSON."""
    return {int(lane): position for lane, position in json.loads(json.dumps(positions)).items()}


def test_every_record_comes_once_and_mixed(make) -> None:  # type: ignore[no-untyped-def]
    loader = make(batch_size=10)
    first, second = keys(loader.batches(0)), keys(loader.batches(1))
    assert len(first) == len(set(first)) == 60
    assert first != second
    assert len({key[:2] for key in first[:10]}) >= 3  # from several shards
    assert first[:16] != sorted(first[:16])
    assert loader.steps(0) == 6


@pytest.mark.parametrize("where", [pytest.param("processes", marks=pytest.mark.processes), "threads"])
def test_a_stream_goes_on_where_it_stood_with_any_number_of_workers(make, where: str) -> None:  # type: ignore[no-untyped-def]
    whole = list(make().batches(0))
    for step in range(len(whole)) if where == "threads" else (3,):
        rest = list(make(workers=1 + step % 3).batches(0, saved(whole[step].positions)))
        assert [b.keys for b in rest] == [b.keys for b in whole[step + 1 :]]
        for item, other in zip(rest, whole[step + 1 :], strict=True):
            assert bool((item.crops == other.crops).all())
            assert item.captions == other.captions


def test_lanes_deal_out_what_one_process_reads(make) -> None:  # type: ignore[no-untyped-def]
    parts = [list(make(rank_shard=RankShard(rank, 2, 2)).batches(0)) for rank in (0, 1)]
    together = [a.keys + b.keys for a, b in zip(*parts, strict=True)]
    assert [b.keys for b in make(rank_shard=RankShard(0, 1, 2)).batches(0)] == together
    assert len(set(chain.from_iterable(together))) == 56
    # Two lanes on four processes, starting in the middle: the same batches.
    positions = {**parts[0][2].positions, **parts[1][2].positions}
    four = [list(make(rank_shard=RankShard(rank, 4, 2)).batches(0, saved(positions))) for rank in range(4)]
    assert [[key for b in step for key in b.keys] for step in zip(*four, strict=True)] == together[3:]


def lane_of(
    sizes: list[int],
    repeats: float,
    lane: int,
    lanes: int,
    block: int,
    broken: dict[int, int],
    by_shard: bool,
) -> tuple[StreamLane, Counter[str]]:
    """A lane over shards that are lists; some of them end with an error."""
    visits = Order([hash_keys(map(str, range(len(sizes))))], [repeats], 7).epoch(0)
    result: Counter[str] = Counter()

    class Listed(ShardReader):
        def __init__(self, visit: int, start: int, wanted) -> None:  # type: ignore[no-untyped-def]
            super().__init__(str(visit))
            self.shard, self.start, self.want = int(visits.index[visit]), start, wanted

        def __iter__(self):  # type: ignore[no-untyped-def]
            for index in range(self.start, sizes[self.shard]):
                if index >= broken.get(self.shard, 10**9):
                    raise DataError("cut off")
                if self.want(index):
                    yield StreamedRecord(index, f"{self.shard}/{index}", b"", ("x",))

    epoch = StreamEpoch(visits, Listed, str, by_shard)
    return StreamLane(epoch, lane, lanes, block, lambda reason, example: result.update([reason])), result


def planned(
    visits: Visits, sizes: list[int], lanes: int, by_shard: bool, broken: dict[int, int]
) -> list[int]:
    """The pairs of an epoch's lanes according to the counts of its shards."""
    lengths = StreamLengths([ShardGroup([], False, 1, 0.0)], 1)
    ends = [min(size, broken.get(shard, size)) for shard, size in enumerate(sizes)]
    lengths._counts = [[ShardCounts(0, "", end, end, end, "") for end in ends]]
    return [int(count) for count in lengths.lane_pairs(visits, lanes, by_shard)]


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=7),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(1, 3),
    st.integers(1, 9),
    st.dictionaries(st.integers(0, 6), st.integers(0, 12), max_size=3),
    st.booleans(),
)
def test_lanes_hold_every_record_and_any_block_can_be_read_again(
    sizes: list[int], repeats: float, lanes: int, block: int, broken: dict[int, int], by_shard: bool
) -> None:
    seen: Counter[str] = Counter()
    of_lanes = []
    for lane in range(lanes):
        reader, _ = lane_of(sizes, repeats, lane, lanes, block, broken, by_shard)
        blocks = list(reader.blocks(LanePosition()))
        seen.update(record.key for item in blocks for record in item.records)
        of_lanes.append(sum(len(item.records) for item in blocks))
        for number, item in enumerate(blocks):
            spot, taken = LanePosition.from_json(json.loads(json.dumps(item.position.to_json(2))))
            assert taken == 2
            # Shards that ended with an error before are complete now: the block is still the same.
            again, _ = lane_of(sizes, repeats, lane, lanes, block, {}, by_shard)
            first = next(again.blocks(spot))
            assert [r.key for r in first.records] == [r.key for r in item.records]
            assert (first.numbers == item.numbers).all()
            same, _ = lane_of(sizes, repeats, lane, lanes, block, broken, by_shard)
            rest = [[r.key for r in b.records] for b in same.blocks(spot)]
            assert rest == [[r.key for r in b.records] for b in blocks[number:]]
    order = Order([hash_keys(map(str, range(len(sizes))))], [repeats], 7)
    assert planned(order.epoch(0), sizes, lanes, by_shard, broken) == of_lanes
    counts = order.counts(0, 0)
    expected = {
        f"{shard}/{n}": int(count)
        for shard, (size, count) in enumerate(zip(sizes, counts, strict=True))
        for n in range(min(size, broken.get(shard, 10**9)))
        if count
    }
    assert seen == expected


def test_shards_missing_cut_off_or_no_tar_are_told_of_and_left(shards: Path, tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    for number in (0, 2):
        (tmp_path / f"s{number}.tar").write_bytes((shards / f"s{number}.tar").read_bytes())
    whole = (shards / "s1.tar").read_bytes()
    (tmp_path / "s1.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "s3.tar").write_bytes(b"this is no tar at all" * 100)
    loader = make(tmp_path / "s{0..5}.tar", batch_size=1)
    result = keys(loader.batches(0))
    assert {key[:2] for key in result} == {"s0", "s1", "s2"}
    assert 33 < len(result) < 40
    assert loader.report.skipped == {"shard that breaks off or cannot be read": 4}


def test_a_shard_that_fails_twice_is_read_at_the_third_try(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: Counter[str] = Counter()

    def failing(location: str):  # type: ignore[no-untyped-def]
        tries[location] += 1
        if tries[location] < 3:
            raise OSError("the network is away")
        return open_location(location)

    monkeypatch.setattr("diptych.training.data.sources.shard_reader.open_location", failing)
    name = str(shards / "s0.tar")
    assert len(list(ShardReader(name, seconds=0.0))) == 13
    assert tries == {name: 3}
    tries.clear()
    with pytest.raises(DataError, match="network is away"):
        list(ShardReader(name, tries=2, seconds=0.0))


def test_records_that_are_no_pair_and_pictures_that_are_none_are_counted(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    members = [("a.png", picture(1)), ("a.txt", b"a dog"), ("b.png", picture(2)), ("c.txt", b"a cat")]
    members += [("d.png", b"no picture"), ("d.txt", b"nothing"), ("e.jpg.extra", b"x"), ("f.png", picture(3))]
    members += [("f.json", b'{"text": "an owl"}'), ("f.cls", b"3")]
    write_tar(tmp_path / "s0.tar", members)
    loader = make(tmp_path / "s0.tar", batch_size=2)
    assert keys(loader.batches(0)) in (["s0/a", "s0/f"], ["s0/f", "s0/a"])
    assert loader.report.skipped == {"no caption": 1, "no picture": 1, "picture cannot be decoded": 1}


def test_gzip_is_streamed(shards: Path, tmp_path: Path) -> None:
    packed = tmp_path / "s0.tar.gz"
    packed.write_bytes(gzip.compress((shards / "s0.tar").read_bytes()))
    single, other = (list(ShardReader(str(name))) for name in (shards / "s0.tar", packed))
    assert [record.image for record in single] == [record.image for record in other]
    packed.write_bytes(packed.read_bytes()[:-300])
    walk = ShardReader(str(packed), tries=1)
    with pytest.raises(DataError):
        list(walk)
    assert 0 < walk.reached <= 13


def test_a_url_is_read_by_fsspec_and_a_pipe_only_where_allowed(shards: Path, make) -> None:  # type: ignore[no-untyped-def]
    data = (shards / "s0.tar").read_bytes()
    with fsspec.open("memory://bucket/s0.tar", "wb") as file:
        file.write(data)
    assert find_locations("memory://bucket/s{0..0}.tar") == ["memory://bucket/s0.tar"]
    assert len(list(ShardReader("memory://bucket/s0.tar"))) == 13
    assert len(keys(make("memory://bucket/s0.tar", batch_size=13).batches(0))) == 13
    command = f"pipe:cat {shards / 's1.tar'}"
    with pytest.raises(DataError, match="would run a command"):
        find_locations(command)
    assert find_locations(command, allow_pipes=True) == [command]
    assert len(list(ShardReader(command))) == 7
    with pytest.raises(DataError, match="ended with status 1"):
        list(ShardReader("pipe:false", seconds=0.0))


def test_a_url_without_fsspec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"diptych\[remote\]"):
        list(ShardReader("s3://bucket/a.tar", seconds=0.0))


@pytest.mark.processes
def test_a_worker_that_dies_is_replaced(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        decode_in_threads(patch)
        expected = [batch.keys for batch in make().batches(0)]
    loader = make(workers=2)
    results = []
    for batch in loader.batches(0):
        results.append(batch.keys)
        if len(results) == 2:
            for worker in list(loader._decoders._pool._processes):
                os.kill(worker, signal.SIGKILL)
    assert results == expected
    loader.close()


FEW_FILES = """
import os, resource, sys
import numpy as np
from diptych.training.data import StreamLoader, TarStream, streaming

streaming.CHUNK = 1  # records handed to a worker at a time: as many results wait as a large batch has pieces
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
opened = []
for batch_size in (48, 96):
    loader = StreamLoader(
        [(TarStream(sys.argv[1], block=50), 1.0)],
        lambda texts: np.zeros((len(texts), 4), np.int64),
        batch_size=batch_size, image_size=8, workers=1,
    )
    batches = loader.batches(0)
    assert len(next(batches)) == batch_size
    opened.append(len(os.listdir("/proc/self/fd")))
    loader.close()
print(*opened)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux lists them")
def test_open_files_do_not_grow_with_the_batch(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", caption_members(range(200)))
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(tmp_path / "0.tar")],
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.split())
    assert large <= small


def test_shards_of_one_name_in_different_folders_are_different(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "0.tar", caption_members(range(20)))
    write_tar(tmp_path / "b" / "1.tar", caption_members(range(20)))
    pattern = "::".join(str(tmp_path / name) for name in ("a/0.tar", "b/0.tar", "b/1.tar"))
    result = keys(make(pattern, batch_size=60).batches(0))
    assert sorted({key.rpartition("/")[0] for key in result}) == ["1", "a/0", "b/0"]
    assert len(set(result)) == 60
    # With equal numbers both shards would have the same position and crops in every epoch.
    assert len(set(make(pattern).order.epoch(0).number.tolist())) == 3
    indexed = TarPairs(pattern).open()
    assert sorted(indexed.key(index) for index in range(60)) == sorted(result)
    assert len(set(indexed.hashes().tolist())) == 60


def test_names_that_are_different_keep_the_order_of_earlier_runs() -> None:
    """Needed to resume old checkpoints: the key of a shard with a unique name is that name."""
    paths = ["/data/x/0.tar", "/data/y/1.tar", "2.tar.gz", "s3://bucket/3.tar", "pipe:cat /data/4.tar"]
    assert distinct_names(paths) == ["0.tar", "1.tar", "2.tar.gz", "3.tar", "4.tar"]
    assert distinct_names(["/p/x/0.tar", "/q/x/0.tar"]) == distinct_names(["/z/p/x/0.tar", "/z/q/x/0.tar"])


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), max_size=8))
def test_names_are_distinct_and_do_not_hang_on_the_order(paths: list[str]) -> None:
    names = distinct_names(paths)
    assert len(set(names)) == len(paths)
    assert all(path.endswith(name.partition("#")[0]) for path, name in zip(paths, names, strict=True))
    if len(set(paths)) == len(paths):
        assert distinct_names(paths[::-1]) == names[::-1]


def test_streams_and_indexed_pairs_do_not_mix(shards: Path) -> None:
    parts = ((TarStream(str(shards / "s0.tar")), 1.0), (TarPairs(shards / "s1.tar"), 1.0))
    with pytest.raises(DataError, match="cannot be mixed"):
        open_pairs(Mixture(parts), toy_tokenizer, batch_size=2, image_size=24)
    with pytest.raises(DataError, match="cannot be split"):
        TarStream("x").open()


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_locations(str(tmp_path / "s{0..3}.tar"))


@given(st.binary(max_size=3000), st.integers(0, 3000), st.integers(0, 255))
def test_a_mutilated_shard_is_an_error_or_fewer_records(extra: bytes, place: int, value: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a.png", "a.txt", "b.png", "b.txt"):
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"bytes"))
    data = bytearray(buffer.getvalue())
    data[place] = value
    with fsspec.open("memory://bucket/mutilated.tar", "wb") as file:
        file.write(bytes(data[: len(data) - place]) + extra)
    walk = ShardReader("memory://bucket/mutilated.tar", tries=1)
    with suppress(DataError):
        assert len(list(walk)) <= 3


@pytest.mark.shared
def test_a_real_shard_streams_what_the_index_reads(shared: Path, make) -> None:  # type: ignore[no-untyped-def]
    path = shared / "data" / "flickr8k-val.tar"
    source = TarPairs(path).open()
    for index, record in enumerate(islice(ShardReader(str(path)), 50)):
        assert (record.image, record.captions) == (source.image(index), source.captions(index))
        assert record.key == source.key(index)
