"""Keys of pairs: folders, indexed tars, streams and evaluation form the same pairs from the same names."""

from __future__ import annotations

import io
import itertools
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diptych.datasets import load_labelled
from diptych.datasets.captions import read_captioned
from diptych.errors import DataError
from diptych.training.data.sources.folders import Folder
from diptych.training.data.sources.manifest import count_shards
from diptych.training.data.sources.record_grouping import MAX_OPEN, SECOND
from diptych.training.data.sources.records import Source
from diptych.training.data.sources.shard_reader import ShardReader
from diptych.training.data.sources.shards import TarPairs
from diptych.training.data.sources.sources import describe
from tests.training.data.make_pairs import picture, write_tar

PICTURE = picture(0)
SCREENSHOTS = [f"Screenshot 2024-01-05 at 10.33.{n:02}" for n in range(16)]


def members(names: list[str]) -> list[tuple[str, bytes]]:
    """A file for each name: pictures, captions that contain their own name, classes."""
    return [
        (name, PICTURE if name.lower().endswith(("png", "jpg")) else b'{"caption": "%s"}' % name.encode())
        if not name.lower().endswith(("txt", "cls"))
        else (name, name.encode())
        for name in names
    ]


def pairs_of(source: Source) -> list[tuple[str, str]]:
    return [(source.key(n), source.captions(n)[0]) for n in range(len(source))]


def streamed(path: Path, start: int = 0) -> list[tuple[str, str]]:
    return [(record.key, record.captions[0]) for record in ShardReader(str(path), start)]


def unpack(path: Path, folder: Path) -> Path:
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_pairs_with_dots_in_their_names(tmp_path: Path) -> None:
    names = [name + end for name in SCREENSHOTS for end in (".jpg", ".txt")]
    shard = write_tar(tmp_path / "dots.tar", members(names))
    folder = unpack(shard, tmp_path / "folder")
    expected = [(f"dots/{name}", f"{name}.txt") for name in SCREENSHOTS]
    assert pairs_of(TarPairs(shard).open())[0][0].endswith(expected[0][0])
    assert [caption for _, caption in pairs_of(TarPairs(shard).open())] == [
        caption for _, caption in expected
    ]
    assert streamed(shard) == expected
    assert [caption for _, caption in pairs_of(Folder(folder).open())] == [caption for _, caption in expected]
    for path in (shard, folder):
        entries, captions, skipped = read_captioned(path, "caption", "test")
        assert [str(entry.name) for entry in entries] == [f"{name}.jpg" for name in SCREENSHOTS]
        assert captions == [(f"{name}.txt",) for name in SCREENSHOTS]
        assert skipped == []
    (counts,) = count_shards([str(shard)])
    assert not isinstance(counts, DataError)
    assert (counts.records, counts.pairs) == (16, 16)


@pytest.mark.parametrize("suffix", [".cls", ".CLS"])
def test_classes_with_dots_in_their_names(tmp_path: Path, suffix: str) -> None:
    files = [
        item
        for n in range(10)
        for item in ((f"frame.{n:03}.jpg", picture(n)), (f"frame.{n:03}{suffix}", b"%d" % (n % 5)))
    ]
    shard = write_tar(tmp_path / "cls.tar", files)
    for path in (shard, unpack(shard, tmp_path / "folder")):
        assert load_labelled(path).labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("names", "pairs", "dropped"),
    [
        # A map beside the picture does not replace it or its captions; other outputs are not pictures.
        ("1.jpg 1.json 1.seg.png 1.txt 2.jpg 2.txt", {"1": "1.txt", "2": "2.txt"}, {SECOND: 1}),
        ("1.depth.png 1.jpg 1.output.txt 1.txt", {"1": "1.txt"}, {SECOND: 1}),
        ("1.left.jpg 1.right.jpg 1.txt", {"1.left": "1.txt", "1.right": "1.txt"}, {}),
        ("1.txt 1.left.jpg 2.jpg", {"1.left": "1.txt"}, {"no caption": 1}),
        ("1.jpg 1.png 1.txt", {"1": "1.txt"}, {SECOND: 1}),
        ("A.JPG A.TXT b.JPG b.Json", {"A": "A.TXT", "b": "b.Json"}, {}),
        ("DSC1.JPG dsc1.txt", {"DSC1": "dsc1.txt"}, {}),
        ("1.txt 2.jpg 2.txt", {"2": "2.txt"}, {"no picture": 1}),
        ("a.0.jpg a.1.jpg a.1.txt", {"a.1": "a.1.txt"}, {"no caption": 1}),
    ],
)
def test_index_and_stream_agree(
    tmp_path: Path, names: str, pairs: dict[str, str], dropped: dict[str, int]
) -> None:
    shard = write_tar(tmp_path / "s.tar", members(names.split()))
    source = TarPairs(shard).open()
    assert {key.rpartition("/")[2]: caption for key, caption in pairs_of(source)} == pairs
    assert dict(source.dropped) == dropped
    assert set(source.examples) == set(dropped)  # each reason names one record
    walk = ShardReader(str(shard))
    assert {record.key: record.captions[0] for record in walk} == {
        f"s/{key}": text for key, text in pairs.items()
    }
    assert dict(walk.dropped) == dropped
    packed = tmp_path / "s.tar.gz"
    import gzip

    packed.write_bytes(gzip.compress(shard.read_bytes()))
    assert sorted(streamed(packed)) == sorted(streamed(shard))
    (counts,) = count_shards([str(shard)])
    assert not isinstance(counts, DataError)
    assert counts.pairs == len(pairs)


NAME = st.from_regex(r"[ab]{1}(\.[01]){0,2}\.(jpg|png|txt|TXT|json|npy)", fullmatch=True)


@given(st.lists(NAME, unique=True, min_size=1, max_size=12).map(sorted), st.integers(0, 5), st.integers(1, 3))
@example(["a.0.jpg", "a.1.jpg", "a.txt"], 1, 2)
def test_a_stream_goes_on_from_any_record_and_is_dealt_to_lanes(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], start: int, lanes: int
) -> None:
    """Reading from any record on, or by all lanes together, gives the records of a single pass."""
    shard = write_tar(tmp_path_factory.mktemp("s") / "s.tar", members(names))
    whole = list(ShardReader(str(shard)))
    assert [record.index for record in whole] == sorted(record.index for record in whole)
    assert list(ShardReader(str(shard), start)) == [record for record in whole if record.index >= start]
    dealt = [
        list(ShardReader(str(shard), 0, lambda n, lane=lane: n % lanes == lane)) for lane in range(lanes)
    ]
    assert sorted(itertools.chain(*dealt), key=lambda record: record.index) == whole
    (counts,) = count_shards([str(shard)])
    assert not isinstance(counts, DataError)
    assert counts.pairs == len(whole)
    try:
        indexed = {key.rpartition("/")[2]: caption for key, caption in pairs_of(TarPairs(shard).open())}
    except DataError:
        indexed = {}
    assert {record.key.rpartition("/")[2]: record.captions[0] for record in whole} == indexed


def test_few_records_wait_for_each_other(tmp_path: Path) -> None:
    """Memory use does not grow with a shard whose names share a prefix."""
    names = [f"a.{n:03}.jpg" for n in range(100)]
    shard = write_tar(tmp_path / "s.tar", members([*names, "a.099.txt"]))
    read: list[int] = []
    walk = ShardReader(str(shard), 0, lambda n: read.append(n) is None)
    assert [record.key for record in walk] == ["s/a.099"]
    assert walk.dropped == {"no caption": 99}
    assert MAX_OPEN < 20


def test_captions_of_upper_case_helpers_in_folders(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"DSC000{number}.JPG").write_bytes(PICTURE)
        (tmp_path / f"DSC000{number}.TXT").write_text(f"a daisy number {number}")
    described = describe(tmp_path)
    assert isinstance(described, Folder)
    source = described.open()
    assert [source.captions(n) for n in range(8)] == [(f"a daisy number {n}",) for n in range(8)]
    assert not source.dropped


def test_a_record_that_is_left_out_is_named(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", members(["1.jpg", "1.txt", "2.jpg"]))
    source = TarPairs(shard).open()
    assert source.examples["no caption"].endswith("s/2.jpg")
    with pytest.raises(DataError, match=r"1 x no caption \(the first: .*only/1\.jpg\)"):
        TarPairs(write_tar(tmp_path / "only.tar", members(["1.jpg"]))).open()


def test_members_hold_what_they_say() -> None:
    """Check of the helpers of this file: every caption contains its file name."""
    assert members(["a.txt", "b.json"]) == [("a.txt", b"a.txt"), ("b.json", b'{"caption": "b.json"}')]
    assert io.BytesIO(PICTURE).read(4) == b"\x89PNG"


def test_half_of_a_surrogate_pair_is_replaced_in_captions_of_data_sets(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    (tmp_path / "a.json").write_text(r'{"caption": "\ud800 dog"}')
    assert read_captioned(tmp_path, "caption", "test")[1] == [("\ufffd dog",)]
