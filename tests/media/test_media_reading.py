"""Reading pictures: type by content, limits set by the user, silent libraries, alternative decoders."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rawpy
from PIL import Image

from diptych.errors import ImageError, InputError, MissingExtraError
from diptych.media import IMAGE_SUFFIXES, Limits, load_image, read_details
from diptych.media.frames import has_multiple_frames
from diptych.media.sources import read_pixels
from tests.media.layout_writers import tiff
from tests.media.raw_files import dng


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(side: int = 64) -> Image.Image:
    return Image.effect_noise((side, side), 90).convert("RGB")


# --------------------------------------------------------------------------------------- type by content


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("target", [None, 8])
def test_a_picture_under_a_cameras_suffix_is_what_it_is(
    tmp_path: Path, kind: str, target: int | None
) -> None:
    path = tmp_path / "a.nef"
    path.write_bytes(encoded(noise(), kind))
    assert load_image(path, target=target).tobytes() == load_image(path.read_bytes(), target=target).tobytes()
    assert read_details(path).format == kind
    assert not has_multiple_frames(path)


def test_a_raw_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(dng((64, 48)))
    assert read_details(path).format == read_details(path.read_bytes()).format == "RAW"
    assert load_image(path).tobytes() == load_image(dng((64, 48))).tobytes()
    assert np.asarray(load_image(path))[:20, :28].min() > 100


def test_a_plain_tiff_under_a_cameras_suffix_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.nef"
    path.write_bytes(encoded(noise(), "TIFF"))
    assert load_image(path).tobytes() == noise_of(path).tobytes()
    assert read_details(path).format == "TIFF"


def noise_of(path: Path) -> Image.Image:
    return load_image(path.read_bytes())


def test_suffixes_of_cameras_are_known() -> None:
    assert {".crw", ".rwl", ".iiq", ".mef", ".mos", ".fff", ".gpr", ".dcr", ".nef", ".jxl"} <= IMAGE_SUFFIXES


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_raw_that_ends_too_early_is_refused(tmp_path: Path, share: float) -> None:
    whole = dng((640, 480))
    path = tmp_path / "a.dng"
    path.write_bytes(whole[: int(len(whole) * share)])
    for target in (None, 64):
        with pytest.raises(ImageError, match=r"a\.dng: a camera RAW file, truncated or damaged"):
            load_image(path, target=target)


@pytest.mark.parametrize("kind", ["MPO", "GIF", "TIFF"])
def test_a_broken_later_picture_hides_no_first(kind: str) -> None:
    data = bytearray(encoded(noise(), kind, save_all=True, append_images=[noise(), noise()]))
    assert has_multiple_frames(bytes(data))
    for cut in range(20, len(data) // 2, len(data) // 40):
        shorter = bytes(data[:-cut])
        with contextlib.suppress(ImageError):
            load_image(shorter)
            assert has_multiple_frames(shorter) in (True, False)


# ------------------------------------------------------------------------------------------- the limits


@pytest.mark.parametrize("kind", ["GIF", "ICO", "WEBP", "TIFF", "MPO", "PNG"])
def test_pillows_own_limit_does_not_count(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    more: dict[str, Any] = {"save_all": True, "append_images": [noise()]} if kind in ("GIF", "MPO") else {}
    data = encoded(noise(), kind, **more)
    for most in (10, 3000):  # below this limit Pillow raises an error, or warns
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_image(data).size == (64, 64)
            assert has_multiple_frames(data) == bool(more)
            assert read_details(data).width == 64
        with pytest.raises(ImageError, match="--max-pixels 1MP"):
            load_image(data, limits=Limits(max_pixels=100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data)).load()


def test_an_icon_is_as_large_as_the_picture_inside() -> None:
    large = encoded(Image.new("1", (20_000, 20_000)))
    head = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(large), 22)
    with pytest.raises(ImageError, match="20,000 x 20,000"):
        load_image(head + large)


def test_the_limit_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise())
    monkeypatch.setenv("DIPTYCH_MAX_PIXELS", "0.004MP")
    with pytest.raises(ImageError, match="64 x 64 = 4,096 pixels, over the limit of 4,000: --max-pixels 1MP"):
        load_image(data)
    assert load_image(data, limits=Limits(max_pixels=5000)).size == (64, 64)
    monkeypatch.setenv("DIPTYCH_MAX_PIXELS", "1GP")
    assert (Limits().max_pixels, Limits().max_bytes) == (10**9, 4 * 10**9)
    monkeypatch.setenv("DIPTYCH_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="'many' is no number of pixels"):
        load_image(data)
    monkeypatch.delenv("DIPTYCH_MAX_PIXELS")
    assert Limits().max_pixels >= 200_000_000
    with pytest.raises(InputError):
        read_pixels("0MP")


# -------------------------------------------------------------------------------------- what is printed


def damaged_tiff() -> bytes:
    data = bytearray(encoded(noise(), "TIFF", compression="tiff_lzw"))
    data[2000:2300] = bytes(300)
    return bytes(data)


def test_libtiff_prints_nothing_and_its_reason_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    data, reasons = damaged_tiff(), []

    def read() -> None:
        for _ in range(5):
            with pytest.raises(ImageError, match="libtiff") as caught:
                load_image(data)
            reasons.append(str(caught.value))

    workers = [threading.Thread(target=read) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(set(reasons)) == 1
    assert "(libtiff)" in reasons[0]  # the words of libtiff depend on the lost bytes
    assert capfd.readouterr().err == ""


def test_libtiff_still_speaks_to_others(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError):
        load_image(damaged_tiff())
    with pytest.raises(OSError, match="decoder error"):
        Image.open(io.BytesIO(damaged_tiff())).load()
    assert "LZWDecode" in capfd.readouterr().err


def test_libraw_prints_nothing_and_what_others_print_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = rawpy.imread

    @contextlib.contextmanager
    def opened(file: Any) -> Iterator[Any]:
        with real(file) as raw:
            os.write(2, b"progress of somebody else\nunknown file: data corrupted at 12345\n")
            yield raw

    path = tmp_path / "a.dng"
    path.write_bytes(dng((64, 48)))
    assert load_image(path).size == (64, 48)
    monkeypatch.setattr(rawpy, "imread", opened)
    monkeypatch.setattr(
        "diptych.media.decoding.raw._developed",
        lambda raw, half_size: os.write(2, b"x.dng: data corrupted at 9\n") and noise(),
    )
    with pytest.raises(ImageError, match=r"damaged: data corrupted at 12345; data corrupted at 9 \(LibRaw\)"):
        load_image(path)
    assert capfd.readouterr().err == "progress of somebody else\n"


def test_the_command_line_prints_no_librarys_messages(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(damaged_tiff())
    (tmp_path / "b.dng").write_bytes(dng((640, 480))[:9000])
    command = [sys.executable, "-m", "diptych", "classify", str(tmp_path), "dog", "cat", "--json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert [
        line for line in lines if ("LZWDecode" in line or "unknown file" in line) and ".tif" not in line
    ] == []
    assert "a.tif" in done.stderr + done.stdout


# ---------------------------------------------------------------------------------------- other decoders


class FakeVips:
    """The part of pyvips that is used here."""

    Error = ValueError

    class Image:
        width, height = 2, 1

        @classmethod
        def new_from_buffer(cls, data: bytes, options: str) -> FakeVips.Image:
            if b"unreadable" in data:
                raise ValueError("no known loader\n")
            return cls()

        def __getattr__(self, name: str) -> Any:
            return lambda *given, **named: False if name == "hasalpha" else self

        def numpy(self) -> np.ndarray:
            return np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)


SIGNED = tiff(np.zeros((2, 1, 1), "i2"), 1, bits=16, format=2)


def test_libvips_is_tried_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(ImageError, match=r"signed.*pip install 'diptych\[vips\]'"):
        load_image(SIGNED)
    monkeypatch.setitem(sys.modules, "pyvips", FakeVips)
    assert np.asarray(load_image(SIGNED)).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    with pytest.raises(ImageError, match=r"signed.*nor does libvips: no known loader"):
        load_image(SIGNED + b"unreadable")
    with pytest.raises(ImageError, match="1 x 2 = 2 pixels"):
        load_image(SIGNED, limits=Limits(max_pixels=1))


@pytest.mark.parametrize("start", [b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_jpeg_xl_names_its_extra(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(MissingExtraError, match=r"read JPEG XL .*diptych\[jxl\]"):
        load_image(start + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_jxl", SimpleNamespace())
    monkeypatch.setitem(Image.OPEN, "JXL", (lambda file, name: noise(), None))
    assert load_image(start + bytes(100)).size == (64, 64)


def test_what_a_decoder_says_against_a_file_is_told() -> None:
    with pytest.raises(ImageError, match=r"damaged \(PNG: .*\)"):
        load_image(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0\0\0\0\0" + bytes(30))


# ------------------------------------------------------------------------------------------------- AVIF


def with_shown_part(avif: bytes, part: tuple[int, int, int, int], size: tuple[int, int]) -> bytes:
    """Insert a "clap" box that crops to (left, top, right, bottom)."""
    left, top, right, bottom = part
    across, down = right - left, bottom - top
    offsets = (2 * left + across - size[0], 2, 2 * top + down - size[1], 2)
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", across, 1, down, 1, *offsets)
    data = bytearray(avif)

    def grow(name: bytes, by: int) -> int:
        at = data.index(name) - 4
        data[at : at + 4] = struct.pack(">I", struct.unpack_from(">I", data, at)[0] + by)
        return at

    for name, by in ((b"meta", 41), (b"iprp", 41), (b"ipma", 1)):
        grow(name, by)
    ipco = data.index(b"ipco") - 4
    end, number, at = ipco + struct.unpack_from(">I", data, ipco)[0], 0, ipco + 8
    while at < end:
        number, at = number + 1, at + struct.unpack_from(">I", data, at)[0]
    ipma = data.index(b"ipma") - 4
    assert (data[ipma + 8], data[ipma + 11]) == (0, 0)  # 16-bit item numbers and 8-bit property numbers
    places = ipma + 18  # number of properties of the first item
    data[places] += 1
    data[places + 1 : places + 1] = bytes([0x80 | number + 1])
    grow(b"ipco", 40)
    data[end:end] = clap
    iloc = data.index(b"iloc")
    assert (data[iloc + 4], data[iloc + 8], data[iloc + 9]) == (0, 0x44, 0)
    for item in range(struct.unpack_from(">H", data, iloc + 10)[0]):
        place = iloc + 12 + 14 * item + 6
        data[place : place + 4] = struct.pack(">I", struct.unpack_from(">I", data, place)[0] + 41)
    return bytes(data)


def test_an_avif_is_cropped_where_it_says_so() -> None:
    picture = noise()
    avif = encoded(picture, "AVIF", quality=100, subsampling="4:4:4")
    whole, part = load_image(avif), (10, 20, 50, 40)
    cropped = with_shown_part(avif, part, (64, 64))
    assert load_image(cropped).tobytes() == whole.crop(part).tobytes()
    assert (read_details(cropped).width, read_details(cropped).height) == (40, 20)
    assert not has_multiple_frames(cropped)
    outside = with_shown_part(avif, (10, 20, 90, 40), (64, 64))
    assert load_image(outside).size == (64, 64)
