"""Embedding into a folder: inputs, output layout, resuming, failures."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from diptych.embedding import Columns, EmbeddingSettings, embed_to_folder, read_manifest, read_parts
from diptych.embedding.folder import read_record
from diptych.errors import DataError, InputError, ModelError
from tests.toys import COLOURS, ToyEncoder, picture, picture_bytes, tar_bytes


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six colours; one with a caption, one in a subfolder, and a file that is not a picture."""
    album = tmp_path / "album"
    (album / "more").mkdir(parents=True)
    for colour in COLOURS:
        picture(colour).save(album / ("more" if colour == "blue" else "") / f"{colour}.png")
    (album / "red.txt").write_text("a red  wall\n")
    (album / "broken.png").write_bytes(b"not a picture")
    return album


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Write three shards of two captioned pictures; returns a pattern that matches them."""
    names = list(COLOURS)
    for number in range(3):
        files: dict[str, bytes] = {}
        for place, colour in enumerate(names[2 * number : 2 * number + 2]):
            result = {"caption": f"a {colour} wall", "url": f"https://example.org/{colour}"}
            files |= {
                f"{place:03d}.png": picture_bytes(colour),
                f"{place:03d}.json": json.dumps(result).encode(),
            }
        (tmp_path / f"{number:05d}.tar").write_bytes(tar_bytes(files))
    return str(tmp_path / "{00000..00002}.tar")


def test_a_folder_of_pictures_in_the_layout_of_clip_retrieval(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = embed_to_folder(ToyEncoder(), [album], out)
    assert (done.rows, done.parts, done.embedded, done.units_left) == (6, 1, 6, 0)
    rows = np.load(out / "img_emb" / "img_emb_0.npy")
    table = pq.read_table(out / "metadata" / "metadata_0.parquet").to_pylist()
    assert rows.dtype == np.float16
    paths = [row["image_path"] for row in table]
    assert paths == sorted(str(path) for path in album.rglob("*.png") if path.name != "broken.png")
    expected = ToyEncoder().encode_images([picture(Path(path).stem) for path in paths])
    np.testing.assert_allclose(rows, expected, atol=1e-3)
    red = next(row for row in table if row["key"] == "red")
    data = (album / "red.png").read_bytes()
    assert red["caption"] == "a red wall"
    assert red["hash"] == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert (red["width"], red["height"], red["bytes"]) == (16, 12, len(data))
    assert red["modified"] == (album / "red.png").stat().st_mtime_ns
    assert [row["row"] for row in table] == list(range(6))
    assert done.failures == ((str(album / "broken.png"), "not a picture: the bytes are text"),)
    messages = list(csv.reader((out / "failures.csv").read_text().splitlines()))
    assert messages == [["key", "reason"], list(done.failures[0])]
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.identity, manifest.dim, manifest.rows) == ("toy:colours", 4, ("pictures",))


def test_a_shard_is_a_part_with_its_captions(shards: str, tmp_path: Path) -> None:
    done = embed_to_folder(
        ToyEncoder(), [shards], tmp_path / "out", settings=EmbeddingSettings(captions=True)
    )
    assert (done.rows, done.parts) == (6, 3)
    parts = list(read_parts(tmp_path / "out"))
    assert [part.number for part in parts] == [0, 1, 2]
    for part in parts:
        assert part.image_embeddings is not None
        assert part.text_embeddings is not None
        np.testing.assert_allclose(
            part.image_embeddings, part.text_embeddings, atol=1e-3
        )  # the text "a red wall" has the same vector as the red picture
    last = parts[2].metadata.to_pylist()[1]
    assert last["image_path"] == f"{tmp_path / '00002.tar'}/001.png"
    assert (last["key"], last["shard"]) == ("001", str(tmp_path / "00002.tar"))
    assert (last["caption"], last["url"]) == ("a black wall", "https://example.org/black")
    assert json.loads(last["json"])["url"] == last["url"]


@pytest.mark.parametrize("seconds", [11_000_000_000, -11_000_000_000])  # the years 2318 and 1621
def test_times_that_no_column_holds_stop_nothing(album: Path, tmp_path: Path, seconds: int) -> None:
    os.utime(album / "red.png", (0, seconds))
    assert embed_to_folder(ToyEncoder(), [album], tmp_path / "out").rows == 6
    (part,) = read_parts(tmp_path / "out")
    red = next(row for row in part.metadata.to_pylist() if row["key"] == "red")
    time = (album / "red.png").stat().st_mtime_ns  # not every file system can store such times
    assert red["modified"] == max(-(2**63), min(time, 2**63 - 1))


def test_texts_that_are_no_unicode_stop_nothing(album: Path, tmp_path: Path) -> None:
    result = rb'{"caption": "\ud800 red wall", "url": "http://x/\udc00"}'
    (album / "green.json").write_bytes(result)
    (tmp_path / "0.tar").write_bytes(tar_bytes({"0.png": picture_bytes("red"), "0.json": result}))
    done = embed_to_folder(ToyEncoder(), [album, tmp_path / "0.tar"], tmp_path / "out")
    assert done.rows == 7
    table = [row for part in read_parts(tmp_path / "out") for row in part.metadata.to_pylist()]
    by = {row["key"]: row for row in table}
    assert by["green"]["caption"] == by["0"]["caption"] == "\ufffd red wall"
    assert by["0"]["url"] == "http://x/\ufffd"


@pytest.mark.parametrize("pack", ["w", "w:gz"])
def test_a_folder_of_shards_packed_or_not(tmp_path: Path, pack: str) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    name = "a.tar.gz" if pack == "w:gz" else "a.tar"
    files = {"2.txt": b"green", "1.png": picture_bytes("red"), "2.png": picture_bytes("green")}
    (bucket / name).write_bytes(tar_bytes(files, pack))
    embed_to_folder(ToyEncoder(), [bucket], tmp_path / "out")
    (part,) = read_parts(tmp_path / "out")
    assert [(row["key"], row["caption"]) for row in part.metadata.to_pylist()] == [("1", ""), ("2", "green")]


def test_a_shard_cut_short_gives_what_stands_before_the_cut(shards: str, tmp_path: Path) -> None:
    first = tmp_path / "00000.tar"
    first.write_bytes(first.read_bytes()[: 5 * 512 + 9])  # within the second picture
    done = embed_to_folder(ToyEncoder(), [shards], tmp_path / "out")
    assert done.rows == 5
    assert [key for key, _ in done.failures] == [str(first)]


def test_texts_one_a_line(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\ufeffred\n\n a  green wall \nblue", encoding="utf-8")
    done = embed_to_folder(ToyEncoder(), [names], tmp_path / "out", unit_rows=2)
    assert (done.rows, done.parts, done.failures) == (3, 2, ())
    rows = np.concatenate([part.text_embeddings for part in read_parts(tmp_path / "out")])
    np.testing.assert_allclose(rows, ToyEncoder().encode_texts(["red", "green", "blue"]), atol=1e-3)
    table = [row for part in read_parts(tmp_path / "out") for row in part.metadata.to_pylist()]
    assert [(row["key"], row["caption"]) for row in table] == [
        ("names.txt:1", "red"),
        ("names.txt:3", "a green wall"),
        ("names.txt:4", "blue"),
    ]
    assert not (tmp_path / "out" / "img_emb").exists()


def test_tables_with_pictures_and_texts(album: Path, tmp_path: Path) -> None:
    table = album / "table.tsv"
    table.write_text(
        "id\tfilepath\ttitle\n1\tred.png\tred one\n2\tnone.png\tno\n3\thttps://a.b/c.png\t-\n4\t\t\n"
    )
    done = embed_to_folder(ToyEncoder(), [table], tmp_path / "pictures")
    assert done.rows == 1
    assert [reason for _, reason in done.failures] == [
        "there is no such file",
        "a URL: images are not downloaded one by one",
        "its cell names no picture",
    ]
    done = embed_to_folder(ToyEncoder(), [table], tmp_path / "texts", modality="texts")
    assert (done.rows, done.failures) == (3, (("table.tsv:4", "there is no text"),))
    done = embed_to_folder(ToyEncoder(), [table], tmp_path / "ids", columns=Columns(text="id"))
    assert done.rows == 4


def test_more_rows_come_as_float32_when_asked(album: Path, tmp_path: Path) -> None:
    embed_to_folder(ToyEncoder(), [album], tmp_path / "out", settings=EmbeddingSettings(dtype="float32"))
    (part,) = read_parts(tmp_path / "out")
    assert part.image_embeddings is not None
    assert part.image_embeddings.dtype == np.float32


def test_the_same_command_goes_on(shards: str, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    embed_to_folder(ToyEncoder(), [shards], whole)
    embed_to_folder(ToyEncoder(), [shards], torn)
    (torn / "parts" / "part_1.json").unlink()  # a writer killed before its record leaves such a file
    (torn / "metadata" / ".metadata_1.parquet.host-1.part").write_bytes(b"half")
    cut = torn / "img_emb" / "img_emb_2.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    encoder = ToyEncoder()
    done = embed_to_folder(encoder, [shards], torn)
    assert (done.rows, done.embedded, done.parts_before) == (6, 4, 1)
    assert folder_bytes(torn) == folder_bytes(whole)
    again = embed_to_folder(encoder, [shards], torn)
    assert (again.embedded, again.parts_before) == (0, 3)
    assert folder_bytes(torn) == folder_bytes(whole)


def test_new_shards_stand_behind_the_old_ones(shards: str, tmp_path: Path) -> None:
    out, late = tmp_path / "out", tmp_path / "a-late-one.tar"
    embed_to_folder(ToyEncoder(), [shards], out)
    late.write_bytes(tar_bytes({"9.png": picture_bytes("red")}))
    done = embed_to_folder(ToyEncoder(), [late, shards], out)
    assert (done.rows, done.embedded, done.parts_before) == (7, 1, 3)
    assert [part.number for part in read_parts(out)] == [0, 1, 2, 3]


def test_a_folder_begun_with_something_else_is_refused(shards: str, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed_to_folder(ToyEncoder(), [shards], out, model="colours")
    with pytest.raises(ModelError, match="begun with the model 'colours'"):
        embed_to_folder(ToyEncoder(identity="toy:other"), [shards], out)
    with pytest.raises(DataError, match="--dtype"):
        embed_to_folder(ToyEncoder(), [shards], out, settings=EmbeddingSettings(dtype="float32"))
    with pytest.raises(DataError, match="--captions"):
        embed_to_folder(ToyEncoder(), [shards], out, settings=EmbeddingSettings(captions=True))
    with pytest.raises(DataError, match="3 of its 3 units"):
        embed_to_folder(ToyEncoder(), [album], out)
    (out / "manifest.json").unlink()
    with pytest.raises(DataError, match="another program"):
        embed_to_folder(ToyEncoder(), [shards], out)


def test_nothing_embedded_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to embed"):
        embed_to_folder(ToyEncoder(), [tmp_path / "empty"], tmp_path / "out")
    (tmp_path / "empty" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"nothing was embedded: 1 item failed.*a\.png: not a picture"):
        embed_to_folder(ToyEncoder(), [tmp_path / "empty"], tmp_path / "out")
    picture("red").save(tmp_path / "empty" / "a.png")
    with pytest.raises(DataError, match="have changed"):
        embed_to_folder(ToyEncoder(), [tmp_path / "empty"], tmp_path / "out")


def test_pictures_and_texts_at_once_are_refused(album: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red\n")
    with pytest.raises(InputError, match="pictures and texts"):
        embed_to_folder(ToyEncoder(), [album, tmp_path / "names.txt"], tmp_path / "out")
    with pytest.raises(InputError, match="texts were asked for"):
        embed_to_folder(ToyEncoder(), [album], tmp_path / "out", modality="texts")
    table = tmp_path / "odd.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="its columns are 'a', 'b'"):
        embed_to_folder(ToyEncoder(), [table], tmp_path / "out")


def test_shares_make_the_same_folder_as_one(shards: str, tmp_path: Path) -> None:
    embed_to_folder(ToyEncoder(), [shards], tmp_path / "one")
    first = embed_to_folder(ToyEncoder(), [shards], tmp_path / "two", shard=(0, 2))
    assert (first.embedded, first.units_left) == (4, 0)
    embed_to_folder(ToyEncoder(), [shards], tmp_path / "two", shard=(1, 2))
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")


def test_retry_reads_again_what_failed(shards: str, tmp_path: Path) -> None:
    good = picture_bytes("red")
    (tmp_path / "00000.tar").write_bytes(tar_bytes({"0.png": good, "1.png": b"?"}))
    done = embed_to_folder(ToyEncoder(), [shards], tmp_path / "out")
    assert (done.rows, len(done.failures)) == (5, 1)
    encoder = ToyEncoder()
    assert embed_to_folder(encoder, [shards], tmp_path / "out").embedded == 0
    assert embed_to_folder(encoder, [shards], tmp_path / "out", retry=True).embedded == 1


def test_a_part_that_was_damaged_is_told(shards: str, tmp_path: Path) -> None:
    embed_to_folder(ToyEncoder(), [shards], tmp_path / "out")
    path = tmp_path / "out" / "img_emb" / "img_emb_1.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"img_emb_1\.npy is not what was written"):
        list(read_parts(tmp_path / "out"))


def test_a_record_that_names_files_elsewhere_counts_for_nothing(album: Path, tmp_path: Path) -> None:
    embed_to_folder(ToyEncoder(), [album], tmp_path / "out")
    (file,) = [item for item in (tmp_path / "out").rglob("*.json") if '"files"' in item.read_text()]
    result = json.loads(file.read_text())
    number = result["part"]
    assert read_record(tmp_path / "out", number) is not None
    (tmp_path / "secret").write_bytes(b"1234")
    result["files"] |= {"../secret": [4, "x"]}
    file.write_text(json.dumps(result))
    assert read_record(tmp_path / "out", number) is None


def test_shards_in_an_object_store(tmp_path: Path) -> None:
    store = pytest.importorskip("fsspec").filesystem("memory")
    for number, name in enumerate(("red", "green")):
        store.pipe(f"/bucket/{number}.tar", tar_bytes({"a.png": picture_bytes(name), "a.txt": name.encode()}))
    try:
        pattern = "memory://bucket/{0..2}.tar"
        done = embed_to_folder(ToyEncoder(), [pattern], tmp_path / "out")
        assert (done.rows, done.units_left) == (2, 1)
        assert [key for key, _ in done.failures] == ["memory://bucket/2.tar"]
        captions = [part.metadata["caption"][0].as_py() for part in read_parts(tmp_path / "out")]
        assert captions == ["red", "green"]
        store.pipe("/bucket/2.tar", tar_bytes({"a.png": picture_bytes("blue")}))
        assert embed_to_folder(ToyEncoder(), [pattern], tmp_path / "out").embedded == 1
    finally:
        store.rm("/bucket", recursive=True)
