"""Pictures in archives: the same members in every kind; damaged archives and zip bombs refused by name."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import struct
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import ImageError
from diptych.media import Limits, is_archive, iter_members, list_archive, load_image, read_member
from diptych.media.folders import archives

NOISE = os.urandom(5000)
FILES = {
    "b/2.jpg": NOISE,
    "b/2.txt": b"a dog",
    "b/2.json": b"{}",
    "1.PNG": b"one",
    "notes.txt": b"no picture",
    "0.a.jpg": b"two dots",
    "0.txt": b"by its key",
    "c.jpg": b"",
    "../../up.jpg": b"up",
    "/etc/root.jpg": b"root",
    "x/.hidden/3.jpg": b"hidden",
    "x/._2.jpg": b"shadow",
    "__MACOSX/x/4.jpg": b"shadow",
    "./here.jpg": b"here",
}
PICTURES = ["b/2.jpg", "1.PNG", "0.a.jpg", "c.jpg", "../../up.jpg", "/etc/root.jpg", "./here.jpg"]
TIME = 1_600_000_000  # an even second: zip cannot store odd ones


def tar_of(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        folder = tarfile.TarInfo("b")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), TIME
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return file.getvalue()


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.mkdir("b.jpg")
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40)), data, method)
    return file.getvalue()


MAKERS = {
    "a.tar": tar_of,
    "a.tar.gz": lambda files: gzip.compress(tar_of(files)),
    "a.tar.bz2": lambda files: bz2.compress(tar_of(files)),
    "a.tar.xz": lambda files: lzma.compress(tar_of(files)),
    "a.zip": zip_of,
    "a.cbz": lambda files: zip_of(files, zipfile.ZIP_STORED),
    "b.zip": lambda files: zip_of(files, zipfile.ZIP_LZMA),
    "c.zip": lambda files: b"#!/bin/sh\n" + zip_of(files),  # a self-extracting archive
    "tar named.zip": tar_of,
}
kinds = pytest.mark.parametrize("kind", list(MAKERS))


def made(folder: Path, kind: str, files: dict[str, bytes] = FILES) -> Path:
    path = folder / kind
    path.write_bytes(MAKERS[kind](files))
    return path


@kinds
def test_the_same_pictures_in_every_kind(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind)
    entries = list_archive(path)
    assert [entry.name for entry in entries] == PICTURES
    assert [entry.size for entry in entries] == [len(FILES[name]) for name in PICTURES]
    assert {entry.modified for entry in entries} == {TIME}
    assert {entry.offset is None for entry in entries} == {kind.startswith("a.tar.")}
    assert [caption.name for caption in entries[0].captions] == ["b/2.txt", "b/2.json"]
    assert [caption.name for caption in entries[2].captions] == ["0.txt"]
    assert not entries[1].captions
    for entry in (*entries, *entries[0].captions):
        assert read_member(path, entry) == read_member(str(path), entry.name) == FILES[entry.name]


@kinds
def test_one_pass_gives_what_is_asked_for(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind)
    assert list(iter_members(path)) == [(name, FILES[name]) for name in PICTURES]
    query = ["c.jpg", "b/2.txt", "gone.jpg", "1.PNG"]
    result = [("b/2.txt", b"a dog"), ("1.PNG", b"one"), ("c.jpg", b"")]
    assert list(iter_members(path, iter(query))) == result
    assert list(iter_members(path, [])) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [kind]


def test_the_first_of_two_members_of_a_name_counts(tmp_path: Path) -> None:
    tar, double = tar_of({"a.jpg": b"first"}), io.BytesIO()
    tar = tar[: tar.index(b"link.jpg")] + tar_of({"a.jpg": b"second"})
    (tmp_path / "a.tar").write_bytes(tar)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar))
    with zipfile.ZipFile(double, "w") as archive:
        archive.writestr("a.jpg", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.jpg", b"second")
    (tmp_path / "a.zip").write_bytes(double.getvalue())
    for name in ("a.tar", "a.tar.gz", "a.zip"):
        assert len(list_archive(tmp_path / name)) == 1
        assert list(iter_members(tmp_path / name)) == [("a.jpg", b"first")]
        assert read_member(tmp_path / name, "a.jpg") == b"first"


def test_names_tell_archives() -> None:
    assert all(is_archive(f"x/{kind}") for kind in MAKERS)
    assert is_archive(Path("A.TGZ"))
    assert not is_archive("zip")
    assert not is_archive("a.tar.jpg")


@kinds
def test_what_is_not_there_is_named(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind)
    with pytest.raises(ImageError, match=rf"{kind}: it holds no gone\.jpg"):
        read_member(path, "gone.jpg")
    for read in (
        list_archive,
        lambda path: read_member(path, "a.jpg"),
        lambda path: list(iter_members(path)),
    ):
        with pytest.raises(ImageError, match=r"none\.zip: there is no such file"):
            read(tmp_path / "none.zip")
        with pytest.raises(ImageError, match="a folder"):
            read(tmp_path)


@kinds
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.95])
def test_a_damaged_archive_is_named(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / kind
    whole = MAKERS[kind]({"a.jpg": NOISE, "b.jpg": NOISE})
    size = whole.index(b"link.jpg") if "tar" in kind and b"link.jpg" in whole else len(whole)
    path.write_bytes(whole[: int(size * share)])
    with pytest.raises(ImageError, match=f"{kind}: "):
        list_archive(path)
    with pytest.raises(ImageError, match=f"{kind}: "):
        assert len(list(iter_members(path))) < 2
    path.write_bytes(b"these are words, no archive " * 100)
    with pytest.raises(ImageError, match=f"{kind}: "):
        list_archive(path)


@kinds
def test_limits_hold_before_anything_is_unpacked(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind)
    small = Limits(max_bytes=100)
    with pytest.raises(ImageError, match=rf"{kind}: b/2\.jpg: 5,000 bytes, over the limit of 100"):
        read_member(path, list_archive(path)[0], small)
    given = dict(iter_members(path, ["b/2.jpg", "1.PNG"], small))
    assert given["1.PNG"] == b"one"
    assert isinstance(given["b/2.jpg"], ImageError)
    assert f"{kind}: b/2.jpg: 5,000 bytes" in str(given["b/2.jpg"])


def test_a_zip_that_lies_about_sizes(tmp_path: Path) -> None:
    """2 MB of zeros declared as 10 bytes: only 10 bytes are read, and the checksum is wrong."""
    path = tmp_path / "liar.zip"
    whole = zip_of({"a.jpg": bytes(2**21)})
    path.write_bytes(whole.replace(struct.pack("<I", 2**21), struct.pack("<I", 10)))
    assert list_archive(path)[0].size == 10
    with pytest.raises(ImageError, match=r"liar\.zip: a\.jpg: .*Bad CRC"):
        read_member(path, "a.jpg", Limits(max_bytes=1000))


def test_members_that_share_their_bytes_are_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    whole = bytearray(zip_of({"a.jpg": NOISE, "b.jpg": NOISE}))
    second = whole.rindex(b"PK\1\2")
    whole[second + 42 : second + 46] = struct.pack("<I", 40)  # starts inside the first member
    path.write_bytes(whole)
    with pytest.raises(ImageError, match=r"bomb\.zip: a bomb: b\.jpg overlaps"):
        list_archive(path)


def test_a_compressed_tar_that_grows_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_BYTES", 10_000)
    path = made(tmp_path, "a.tar.gz", {"movie.bin": bytes(10**7), "a.jpg": NOISE})
    for read in (
        list_archive,
        lambda path: read_member(path, "a.jpg"),
        lambda path: list(iter_members(path)),
    ):
        with pytest.raises(ImageError, match=r"a\.tar\.gz: a bomb: it unpacks to more than"):
            read(path)
    made(tmp_path, "a.tar", {"movie.bin": bytes(10**7), "a.jpg": NOISE})
    assert read_member(tmp_path / "a.tar", "a.jpg") == NOISE


def header(kind: bytes, size: int, name: str = "a.jpg") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse_map(blocks: int) -> bytes:
    """A member in GNU's old sparse format whose map continues in `blocks` blocks after the header."""
    block = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    block[482] = 1  # the map continues
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * blocks


def globals_of(number: int) -> bytes:
    """A global header that applies to all following members, and a file."""
    text = b"%d %05d=" % (2**18, number)
    text += b"x" * (2**18 - len(text) - 1) + b"\n"
    return header(tarfile.XGLTYPE, 2**18) + text + tarfile.TarInfo(f"{number}.jpg").tobuf()


SIZE = 2**23
LONG = {
    "pax": lambda: header(tarfile.XHDTYPE, SIZE) + bytes(SIZE),
    "global": lambda: header(tarfile.XGLTYPE, SIZE) + bytes(SIZE),
    "name": lambda: header(tarfile.GNUTYPE_LONGNAME, SIZE) + b"x" * SIZE,
    "link": lambda: header(tarfile.GNUTYPE_LONGLINK, SIZE) + b"x" * SIZE,
    "chain": lambda: (header(tarfile.GNUTYPE_LONGNAME, 2**18) + b"x" * 2**18) * 32,
    "sparse": lambda: sparse_map(SIZE // 512),
    "lie": lambda: header(tarfile.XHDTYPE, -(2**20)) + bytes(SIZE),
    "many": lambda: b"".join(map(globals_of, range(32))),
}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("kind", list(LONG))
@pytest.mark.parametrize("first", [True, False])
def test_headers_without_end_are_not_read(tmp_path: Path, name: str, kind: str, first: bool) -> None:
    """tarfile reads extended headers completely, and a `.tar.gz` can compress them a thousandfold."""
    whole = (b"" if first else tarfile.TarInfo("0.jpg").tobuf()) + LONG[kind]()
    whole += tarfile.TarInfo("a.jpg").tobuf() + bytes(1024)
    (tmp_path / name).write_bytes(gzip.compress(whole, 1) if name.endswith("gz") else whole)
    del whole
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=rf"{name}: .*the headers? .*more than 1,048,576 bytes"):
            list_archive(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
    finally:
        tracemalloc.stop()


def test_headers_of_some_length_are_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", pax_headers={"comment": "c" * 50_000}) as tar:
        for number in range(40):
            info = tarfile.TarInfo("d/" * 2000 + f"{number}.jpg")
            info.pax_headers = {"SCHILY.xattr.user.note": "x" * 60_000}
            tar.addfile(info)
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    assert len(list_archive(tmp_path / "a.tar")) == 40


def test_encrypted_members_are_told(tmp_path: Path) -> None:
    path = tmp_path / "locked.zip"
    whole = bytearray(zip_of({"a.jpg": NOISE}))
    for mark, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        whole[whole.rindex(mark) + flags] |= 1
    path.write_bytes(whole)
    assert [entry.name for entry in list_archive(path)] == ["a.jpg"]
    with pytest.raises(ImageError, match=r"locked\.zip: a\.jpg: encrypted: unpack"):
        read_member(path, "a.jpg")


def test_an_unknown_method_is_told(tmp_path: Path) -> None:
    path = tmp_path / "new.zip"
    whole = bytearray(zip_of({"a.jpg": NOISE}))
    for mark, method in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        whole[whole.rindex(mark) + method] = 9  # Deflate64
    path.write_bytes(whole)
    with pytest.raises(ImageError, match=r"new\.zip: a\.jpg: .*compression"):
        read_member(path, "a.jpg")


def test_a_tar_that_changed_since_it_was_listed(tmp_path: Path) -> None:
    path = made(tmp_path, "a.tar", {"a.jpg": NOISE, "b.jpg": b"bb"})
    entries = list_archive(path)
    made(tmp_path, "a.tar", {"z.jpg": b"z", "a.jpg": NOISE, "b.jpg": b"bb"})
    for entry in entries:
        with pytest.raises(ImageError, match=r"a\.tar: [ab]\.jpg: it is not at its position"):
            read_member(path, entry)


def test_a_zip_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = made(tmp_path, "a.zip", {"a.jpg": b"old"})
    assert read_member(path, "a.jpg") == b"old"
    made(tmp_path, "a.zip", {"b.jpg": b"b", "a.jpg": b"newer"})
    assert read_member(path, "a.jpg") == b"newer"


@pytest.mark.parametrize("size", [-1, -512, -1024])
def test_a_tar_that_leads_back_ends(tmp_path: Path, size: int) -> None:
    """A negative size makes a reader return to the same header for ever (CVE-2025-8194)."""
    info = tarfile.TarInfo("a.jpg")
    block = bytearray(info.tobuf())
    block[124:136] = b"\xff" * 10 + struct.pack(">h", size)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = tmp_path / "back.tar"
    path.write_bytes(tarfile.TarInfo("first.jpg").tobuf() + bytes(block) + bytes(2048))
    with pytest.raises(ImageError, match=r"back\.tar: .*below zero"):
        list_archive(path)


def test_long_and_odd_names(tmp_path: Path) -> None:
    names = ["x" * 300 + ".jpg", "größe/日本.jpg", "a\nb.jpg", "d" * 90 + "/" + "e" * 90 + "/f.jpg"]
    for kind in MAKERS:
        path = made(tmp_path, kind, {name: name.encode() for name in names})
        assert list(iter_members(path)) == [(name, name.encode()) for name in names]
        assert [read_member(path, entry) for entry in list_archive(path)] == [name.encode() for name in names]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg") if sys.platform != "win32" else "caf.jpg"
    path = made(tmp_path, "a.tar", {name: b"x"})
    (entry,) = list_archive(path)
    assert entry.name == ("caf\\udce9.jpg" if sys.platform != "win32" else "caf.jpg")
    for member in (entry, entry.name, name):
        assert read_member(path, member) == b"x"
    assert list(iter_members(path, [entry.name])) == [(entry.name, b"x")]
    with pytest.raises(ImageError) as caught:
        read_member(path, name, Limits(max_bytes=0))
    str(caught.value).encode()  # can be printed


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders on Windows")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(ImageError, match="not a plain file"):
        list_archive(tmp_path / "a.zip")


SAMPLES = {
    kind: MAKERS[kind]({"a.jpg": b"1234", "b/c.png": b"567", "a.txt": b"dog"})
    for kind in ("a.tar", "a.tar.gz", "a.tar.xz", "a.zip", "b.zip")
}


@settings(max_examples=300)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damage_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    whole = bytearray(SAMPLES[kind])
    top = min(len(whole), 2600)  # the rest of the tar is zeros
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, top - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(top // 2, len(whole))) :]
    path = tmp_path_factory.getbasetemp() / f"damaged-{kind}"
    path.write_bytes(whole)
    small = Limits(max_bytes=1000)
    with contextlib.suppress(ImageError):
        for entry in list_archive(path):
            for member in (entry, *entry.captions):
                read_member(path, member, small)
    with contextlib.suppress(ImageError):
        for _, content in iter_members(path, limits=small):
            assert isinstance(content, bytes | ImageError)


@pytest.mark.shared
def test_a_shard_of_pairs(shared) -> None:
    path = shared / "data" / "flickr8k-val.tar"
    entries = list_archive(path)
    assert len(entries) > 100
    assert all(len(entry.captions) >= 1 for entry in entries)
    assert load_image(read_member(path, entries[7]), target=64).mode == "RGB"
