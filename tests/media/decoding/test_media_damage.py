"""Damaged pictures: faulty metadata is ignored; pictures without their last bytes are still decoded."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diptych.errors import ImageError
from diptych.media import load_image, read_details
from diptych.media.decoding import native, pillow, png
from diptych.media.metadata import blocks

GREEN = (10, 200, 30)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def scene(width: int = 320, height: int = 240) -> Image.Image:
    corners = np.array([[[220, 30, 30], [30, 200, 60]], [[40, 60, 210], [240, 220, 90]]], np.uint8)
    smooth = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(smooth, Image.effect_noise((width, height), 60).convert("RGB"), 0.3)


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    right = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", right)


def in_front(png: bytes, extra: bytes) -> bytes:
    return png[:33] + extra + png[33:]


def behind(png: bytes, extra: bytes) -> bytes:
    return png[:-12] + extra + png[-12:]


# ------------------------------------------------------------------------------------------ JPEG's end


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("target", [None, 40])
def test_a_jpeg_without_its_end_has_all_its_pixels(progressive: bool, mode: str, target: int | None) -> None:
    whole = encoded(scene().convert(mode), "JPEG", quality=90, progressive=progressive)
    expected = load_image(whole, target=target).tobytes()
    for cut in (1, 2):
        assert load_image(whole[:-cut], target=target).tobytes() == expected
    assert load_image(whole[:-2] + b"\xff", target=target).tobytes() == expected


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.03, 0.1, 0.25, 0.5, 0.75, 0.9])
def test_a_jpeg_that_lacks_more_than_two_percent_is_refused(progressive: bool, share: float) -> None:
    whole = encoded(scene(), "JPEG", quality=90, progressive=progressive)
    end = whole.rindex(b"\xff\xda") if progressive else len(whole)
    for data in {whole[: int(len(whole) * (1 - share))], whole[:end]} - {whole}:
        for target in (None, 40):
            with pytest.raises(ImageError, match="truncated"):
                load_image(data, target=target)


def test_a_jpeg_that_lacks_its_last_corner_is_used() -> None:
    whole = encoded(scene(1600, 1200), "JPEG", quality=90)
    cut = whole[: int(len(whole) * 0.995)]
    before, after = np.asarray(load_image(whole), int), np.asarray(load_image(cut), int)
    assert np.array_equal(before[:1150], after[:1150])
    assert not np.array_equal(before, after)


def test_a_second_picture_that_is_cut_off_hides_no_first(tmp_path: Any) -> None:
    first, second = scene(64, 64), scene(64, 64).rotate(180)
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    for cut in (10, 500, 2000):
        loaded = np.asarray(load_image(data[:-cut]), int)
        assert np.abs(loaded - np.asarray(first, int)).mean() < 20


# ------------------------------------------------------------------------------------------------- PNG


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2_000_000)),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 1_500_000)),
        chunk(b"iTXt", b"workflow\0\0\0\0\0" + b"x" * 1_500_000),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 1_000_000)) * 70,
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"x" * 1_500_000)),
        chunk(b"iCCP", b"icc\0\7" + zlib.compress(b"x" * 100)),
        chunk(b"tEXt", b"Comment\0hello", checksum=1),
        chunk(b"pHYs", b"\0\0"),
        chunk(b"gAMA", b""),
        chunk(b"sRGB", b""),
        chunk(b"eXIf", b"nonsense"),
        chunk(b"eXIf", b"nonsense", checksum=1),
        chunk(b"tIME", b"\0" * 7, checksum=1),
    ],
    ids=lambda data: f"{data[4:8].decode()}-{len(data)}",
)
@pytest.mark.parametrize("place", [in_front, behind])
def test_metadata_refuses_no_png(extra: bytes, place: Any) -> None:
    data = place(encoded(Image.new("RGB", (32, 32), GREEN)), extra)
    assert np.unique(np.asarray(load_image(data)).reshape(-1, 3), axis=0).tolist() == [list(GREEN)]
    assert (read_details(data).width, read_details(data).format) == (32, "PNG")


def unpacked_by(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """Measure the decompressed bytes, by this package and by Pillow; damaged streams count as the limit."""
    total, make = 0, zlib.decompressobj

    class Counting:
        def __init__(self) -> None:
            self.inner = make()

        def decompress(self, data: bytes, most: int = 0) -> bytes:
            nonlocal total
            try:
                result = self.inner.decompress(data, most)
            except zlib.error:
                total += most
                raise
            total += len(result)
            return result

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    with monkeypatch.context() as changed:
        changed.setattr(zlib, "decompressobj", Counting)
        work()
    return total


@pytest.mark.parametrize(
    ("extra", "times"),
    [
        (chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**22))), 1),
        (chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**22))[:-9] + b"\xff" * 9), 1),
        (chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**23))), 2 * 4),
        (chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**23))[:-9] + b"\xff" * 9), 2 * 4),
        (chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(2**20))), 3 * 4),
    ],
    ids=["profile", "damaged profile", "text", "damaged text", "text of a megabyte"],
)
def test_what_is_left_out_of_a_png_is_counted_as_unpacked(
    extra: bytes, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes can contain many chunks of 16 MB each."""
    monkeypatch.setattr(png, "_ALL_TEXTS", 2**24)  # a quarter of the real limits
    monkeypatch.setattr(blocks, "_MOST_UNPACKED", 2**24)
    data = in_front(encoded(Image.new("RGB", (32, 32), GREEN)), extra * 100)
    for read in (load_image, read_details):  # Pillow decompresses the retained chunks again
        with_all = unpacked_by(lambda read=read: read(data), monkeypatch)  # type: ignore[misc]
        assert with_all <= times * 2**22 + 2**16, read


def test_what_is_sound_in_a_png_is_still_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Camera"
    data = in_front(encoded(scene(40, 20), exif=exif), chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000))
    assert load_image(data).size == (20, 40)
    assert read_details(data).camera == "Camera"


@pytest.mark.parametrize("interlace", [False, True])
def test_a_png_without_its_last_bytes(interlace: bool) -> None:
    picture = scene(64, 64)
    whole = interlaced(picture) if interlace else encoded(picture)
    expected = picture.tobytes()
    for cut in (1, 4, 12, 14, 16, 20):  # the end chunk, the checksums of the pixel chunk and stream
        assert load_image(whole[:-cut]).tobytes() == expected, cut
    assert load_image(whole[:-30] + b"\0" * 4).size == (64, 64)
    for cut in (int(len(whole) * share) for share in (0.1, 0.5, 0.9)):
        with pytest.raises(ImageError, match=r"truncated|broken"):
            load_image(whole[:-cut])


def interlaced(picture: Image.Image) -> bytes:
    """Adam7 interlacing, which Pillow cannot write."""
    pixels, rows = np.asarray(picture), b""
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::across])
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 1)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------ libraries' settings


@pytest.mark.parametrize(
    ("module", "name", "state"),
    [(native, "_install_handlers", ("_kept", [])), (pillow, "_install_check", ("_installed", None))],
)
def test_threads_that_begin_together_change_a_library_once(
    module: Any, name: str, state: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second set of libtiff handlers would be freed while libtiff still points to it."""
    calls: list[int] = []
    inside = threading.Event()

    def install() -> object:
        calls.append(1)
        inside.wait(0.05)  # meanwhile the other threads advance as far as they can
        return object()

    monkeypatch.setattr(module, state[0], threading.Event() if state[1] is None else state[1])
    monkeypatch.setattr(module, name, install)
    start = threading.Barrier(16)

    def begin() -> None:
        start.wait()
        module._install()

    threads = [threading.Thread(target=begin) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    module._install()
    assert len(calls) == 1
