"""Shard manifests: exact counts, cached while a file is unchanged, and computed again when it changes."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import DataError
from diptych.files.disk import user_cache
from diptych.training.data import Mixture, RankShard, TarPairs, TarStream, open_pairs
from diptych.training.data.sources import manifest as manifests
from diptych.training.data.sources.manifest import FILE, ShardCounts, count_shards
from diptych.training.data.sources.shard_reader import ShardReader
from diptych.training.data.streaming import StreamLoader
from tests.training.data.make_pairs import caption_members, decode_in_threads, toy_tokenizer, write_tar

Make = Callable[..., StreamLoader]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    decode_in_threads(monkeypatch)
    opened: list[StreamLoader] = []

    def make(pattern: object, rank_shard: RankShard = RankShard(), **changes: object) -> StreamLoader:  # noqa: B008
        options = {"batch_size": 4, "image_size": 24, "workers": 1, "rank_shard": rank_shard, **changes}
        stream = TarStream(str(pattern), block=16, wait=0.0)
        opened.append(StreamLoader([(stream, 1.0)], toy_tokenizer, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for loader in opened:
        loader.close()


def write_shards(folder: Path, sizes: tuple[int, ...]) -> list[str]:
    folder.mkdir(exist_ok=True)
    for number, size in enumerate(sizes):
        write_tar(folder / f"{number}.tar", caption_members(range(100 * number, 100 * number + size)))
    return [str(folder / f"{number}.tar") for number in range(len(sizes))]


def pairs(counts: list[ShardCounts | DataError]) -> list[int]:
    return [counted.pairs for counted in counts if isinstance(counted, ShardCounts)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose headers are read."""
    seen: list[str] = []
    read_headers = manifests._read_headers

    def noted(location: str, identity: object) -> ShardCounts:
        seen.append(location.rpartition("/")[2])
        return read_headers(location, identity)  # type: ignore[arg-type]

    monkeypatch.setattr(manifests, "_read_headers", noted)
    return seen


@pytest.mark.parametrize("sizes", [(2, 16, 16, 16), (16, 2, 2, 2), (1, 0, 1, 9), (5, 5, 5, 5)])
@pytest.mark.parametrize("lanes", [1, 2])
def test_the_planned_steps_are_the_real_ones(
    tmp_path: Path, make: Make, sizes: tuple[int, ...], lanes: int
) -> None:
    write_shards(tmp_path / "shards", sizes)
    loader = make(tmp_path / "shards" / "{0..3}.tar", RankShard(0, 1, lanes))
    assert [loader.steps(epoch) for epoch in (0, 1)] == [len(list(loader.batches(e))) for e in (0, 1)]


def test_shards_are_counted_once_and_again_when_they_change(tmp_path: Path, read: list[str]) -> None:
    locations = write_shards(tmp_path / "a", (3, 2, 4)) + write_shards(tmp_path / "b", (1,))
    messages: list[int] = []
    counted = count_shards(locations, counting=lambda total: lambda done: messages.append(total))
    assert pairs(counted) == [3, 2, 4, 1]
    assert sorted(read) == ["0.tar", "0.tar", "1.tar", "2.tar"]
    assert messages == [4, 4, 4, 4]
    read.clear()
    assert count_shards(locations) == counted
    write_tar(tmp_path / "a" / "1.tar", caption_members(range(7)))
    assert pairs(count_shards(locations)) == [3, 7, 4, 1]
    assert read == ["1.tar"]
    written = json.loads((tmp_path / "a" / FILE).read_text())
    assert (written["format"], written["version"]) == ("diptych-shards", 2)
    assert {name: entry["pairs"] for name, entry in written["shards"].items()} == {
        "0.tar": 3,
        "1.tar": 7,
        "2.tar": 4,
    }
    assert len({entry["headers"] for entry in written["shards"].values()}) == 3
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"0.tar", FILE}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": "diptych-shards", "version": 3, "shards": {}}',
        '{"format": "diptych-shards", "version": 2, "shards": {"0.tar": {"pairs": 5}}}',
        '{"format": "diptych-shards", "version": 2, "shards": []}',
    ],
)
def test_a_manifest_that_is_none_is_made_anew(tmp_path: Path, text: str) -> None:
    locations = write_shards(tmp_path, (3,))
    (tmp_path / FILE).write_text(text)
    assert pairs(count_shards(locations)) == [3]
    assert json.loads((tmp_path / FILE).read_text())["shards"]["0.tar"]["records"] == 3


def test_a_folder_for_reading_only_and_urls_are_kept_in_the_cache(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    locations = write_shards(tmp_path / "shards", (3, 2))
    replace_file = manifests.replace_file

    def refuse(path: Path, *words: object) -> None:
        if path.parent == tmp_path / "shards":
            raise PermissionError(13, "Read-only file system")
        replace_file(path, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(manifests, "replace_file", refuse)
    for number in range(2):
        with fsspec.open(f"memory://counted/{number}.tar", "wb") as file:
            file.write(Path(locations[number]).read_bytes())
    urls = [f"memory://counted/{number}.tar" for number in range(2)]
    assert pairs(count_shards([*locations, *urls])) == [3, 2, 3, 2]
    assert len(list((user_cache() / "shards").iterdir())) == 2
    read.clear()
    assert pairs(count_shards([*locations, *urls])) == [3, 2, 3, 2]
    assert not read
    with fsspec.open(urls[0], "wb") as file:
        file.write(Path(locations[1]).read_bytes())
    assert pairs(count_shards(urls)) == [2, 2]
    assert read == ["0.tar"]


def test_shards_that_cannot_be_counted_are_named_and_not_kept(tmp_path: Path, make: Make) -> None:
    locations = write_shards(tmp_path, (6, 4))
    (tmp_path / "1.tar").write_bytes(b"no tar" * 1000)
    result = count_shards([*locations, str(tmp_path / "2.tar")], seconds=0.0)
    assert [type(counted) for counted in result] == [ShardCounts, DataError, DataError]
    assert list(json.loads((tmp_path / FILE).read_text())["shards"]) == ["0.tar"]
    loader = make(tmp_path / "{0..2}.tar", batch_size=2)
    with pytest.warns(UserWarning, match=r"2 shards of 3 could not be counted.*without them"):
        assert loader.steps(0) == 3


def test_many_shards_are_counted_by_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MIN_FOR_PROCESSES", 2)
    assert pairs(count_shards(write_shards(tmp_path, (3, 1)), workers=2)) == [3, 1]


ROLES = ["png", "txt", "json", "cls", "seg.png", "TXT"]
CONTENT = {"txt": b"a dog", "TXT": b"a dog", "json": b'{"text": "an owl"}'}


def tar_of(members: list[tuple[str, str]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, suffix in members:
            content = CONTENT.get(suffix, b"bytes")
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "x/a", "c"]), st.sampled_from(ROLES)), max_size=14),
    st.booleans(),
    st.integers(0, 6000),
)
def test_counts_are_what_reading_gives(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, str]], packed: bool, cut: int
) -> None:
    data = tar_of(members)
    if cut < len(data) and not packed:  # otherwise the whole archive would be read
        data = data[:cut]
    path = tmp_path_factory.mktemp("shard") / "0.tar"
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    counted = count_shards([str(path)], tries=1)[0]
    for field, name in ((None, "pairs"), ("text", "pairs_with_json")):
        given_: list[str] = []
        broken = False
        try:
            given_.extend(record.key for record in ShardReader(str(path), field=field, tries=1))
        except DataError:
            broken = True
        if isinstance(counted, DataError):
            assert broken
            assert not given_
        else:
            assert abs(getattr(counted, name) - len(given_)) <= int(broken)


def test_a_shard_that_is_replaced_between_epochs_is_noticed(tmp_path: Path, make: Make) -> None:
    write_shards(tmp_path, (8, 8))
    loader = make(tmp_path / "{0..1}.tar")
    assert loader.steps(1) == 4
    assert len(list(loader.batches(0))) == 4
    write_tar(tmp_path / "1.tar", caption_members(range(200, 220)))
    with pytest.warns(UserWarning, match=r"1 shard changed since the run was planned \(.*1\.tar\)"):
        assert len(list(loader.batches(1))) == 7
    assert loader.steps(2) == 7


def test_the_length_can_be_said_and_must_be_for_commands(tmp_path: Path, make: Make, read: list[str]) -> None:
    path = write_shards(tmp_path, (6,))[0]
    loader = make(path, pairs_per_epoch=13)
    loader.prepare(lambda total: pytest.fail("nothing is to be counted"))
    assert loader.steps(0) == 3
    assert not read
    parts = ((TarStream(f"pipe:cat {path}", allow_pipes=True), 1.0),)
    options = {"batch_size": 2, "image_size": 24, "workers": 1}
    with pytest.raises(DataError, match=r"cannot be counted before it has run: set .*--pairs-per-epoch"):
        open_pairs(Mixture(parts), toy_tokenizer, **options).steps(0)
    assert open_pairs(Mixture(parts), toy_tokenizer, pairs_per_epoch=6, **options).steps(0) == 3
    with pytest.raises(DataError, match="have an index, which counts them"):
        open_pairs(Mixture(((TarPairs(path), 1.0),)), toy_tokenizer, pairs_per_epoch=6, **options)
