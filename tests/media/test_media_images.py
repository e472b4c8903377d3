"""Loading pictures: upright and in RGB, or an ImageError that names the file."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from diptych.errors import ImageError, MissingExtraError
from diptych.media import Limits, load_image, to_rgb

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
MODES += ["I;16", "I;16L", "I;16B", "I", "F"]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corner(orientation: int, kind: str = "PNG", size: tuple[int, int] = (40, 20)) -> bytes:
    """A black picture with a white top left corner when upright, stored with an orientation."""
    upright = Image.new("RGB", size, "black")
    upright.paste("white", (0, 0, size[0] // 2, size[1] // 2))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose values that give the stored picture
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation: int, kind: str) -> None:
    image = load_image(corner(orientation, kind))
    assert image.size == (40, 20)
    values = np.asarray(image.convert("L"))
    assert values[:8, :18].min() > 200
    assert values[12:, :].max() < 60
    assert values[:, 22:].max() < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_decoding_stands_upright_too(orientation: int) -> None:
    image = load_image(corner(orientation, "JPEG", (1600, 800)), target=50)
    assert image.size == (200, 100)
    values = np.asarray(image.convert("L"))
    assert values[:48, :98].min() > 200
    assert values[52:].max() < 60


def test_a_picture_is_not_turned_twice() -> None:
    once = load_image(corner(6, "JPEG"))
    assert load_image(once).size == once.size == (40, 20)
    assert not once.info
    handed = Image.open(io.BytesIO(corner(6, "JPEG")))
    assert load_image(handed).size == (40, 20)
    assert handed.size == (20, 40)  # the caller's picture is unchanged


def test_an_rgb_picture_comes_back_as_another() -> None:
    mine = Image.new("RGB", (3, 3), RED)
    mine.info["note"] = "kept"
    theirs = load_image(mine)
    theirs.putpixel((0, 0), BLUE)
    assert mine.getpixel((0, 0)) == RED
    assert mine.info == {"note": "kept"}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = to_rgb(Image.new(mode, (5, 4)))
    assert image.mode == "RGB"
    assert image.size == (5, 4)


def test_transparency_lies_over_white() -> None:
    assert to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == WHITE
    assert to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 51))).getpixel((0, 0)) == (255, 204, 204)
    assert to_rgb(Image.new("LA", (1, 1), (0, 51))).getpixel((0, 0)) == (204, 204, 204)


@pytest.mark.parametrize(
    ("mode", "fill", "key"), [("P", 7, 7), ("P", 7, bytes([255] * 7 + [0])), ("L", 9, 9), ("RGB", RED, RED)]
)
def test_colour_keys_and_palettes_are_transparent_too(mode: str, fill: Any, key: Any) -> None:
    image = Image.new(mode, (2, 1), fill)
    image.putpixel((1, 0), BLUE if mode == "RGB" else 3)
    if mode == "P":
        image.putpalette([channel for i in range(256) for channel in (i, i, 0)])
    loaded = load_image(encoded(image, transparency=key))
    assert loaded.getpixel((0, 0)) == WHITE
    assert loaded.getpixel((1, 0)) != WHITE


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    for image in (Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert np.asarray(load_image(encoded(Image.fromarray(values))))[0, :, 1].tolist() == [0, 0, 1, 128, 255]
    big_endian = encoded(Image.fromarray(values.astype(">u2")), "TIFF")
    assert np.asarray(load_image(big_endian))[0, :, 2].tolist() == [0, 0, 1, 128, 255]


def test_float_pictures_are_scaled_or_clipped() -> None:
    share = Image.fromarray(np.array([[0, 0.2, 1, np.nan]], dtype=np.float32))
    assert np.asarray(to_rgb(share))[0, :, 0].tolist() == [0, 51, 255, 0]
    over = Image.fromarray(np.array([[0, 0.2, 0.9, 1.02]], dtype=np.float32))  # a highlight, or an overshoot
    assert np.asarray(load_image(over))[0, :, 0].tolist() == [0, 51, 230, 255]
    stars = Image.fromarray(np.array([[0, 0, 0, 254]], dtype=np.float32))
    assert np.asarray(load_image(stars))[0, :, 0].tolist() == [0, 0, 0, 254]
    levels = Image.fromarray(np.array([[-4, 51, 254.6, np.inf]], dtype=np.float32))
    assert np.asarray(to_rgb(levels))[0, :, 0].tolist() == [0, 51, 255, 255]


def test_cmyk_and_grey_jpegs() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = load_image(encoded(ink, "JPEG", quality=95)).getpixel((8, 8))
    assert np.abs(np.array(red) - RED).max() <= 3
    assert load_image(encoded(Image.new("L", (1000, 900), 90), "JPEG"), target=30).mode == "RGB"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert load_image(data).getpixel((3, 3)) == RED


@pytest.mark.parametrize(
    ("side", "target"), [(1000, 224), (448, 224), (447, 224), (1799, 224), (400, 1), (50, 336)]
)
def test_scaled_decoding_never_goes_below_twice_the_target(side: int, target: int) -> None:
    data = encoded(Image.new("RGB", (side, side * 3 // 2), RED), "JPEG")
    loaded = load_image(data, target=target)
    assert min(loaded.size) >= min(side, 2 * target)
    assert loaded.size[0] in [-(-side // scale) for scale in (1, 2, 4, 8)]
    if side >= 4 * target:
        assert loaded.size[0] < side
    assert load_image(data).size == (side, side * 3 // 2)


def test_every_kind_of_source(tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (4, 3), RED))
    path = tmp_path / "spaß.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        for source in (path, str(path), data, io.BytesIO(data), file, Image.new("RGB", (4, 3), RED)):
            assert load_image(source).getpixel((0, 0)) == RED
        assert not file.closed


JPEG = encoded(Image.effect_noise((64, 64), 90), "JPEG")
PNG = encoded(Image.effect_noise((64, 64), 90))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.jpg", b"", r"empty \(0 bytes\)"),
        ("words.jpg", b"these are words\n", "not a picture: the bytes are text"),
        ("long.jpg", "größer ".encode() * 400, "not a picture: the bytes are text"),
        ("page.png", b"\n<!DOCTYPE html><html></html>", "an HTML page"),
        ("drawing.png", b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        ("paper.jpg", b"%PDF-1.7\n", "a PDF document"),
        ("post.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        ("random.jpg", bytes(range(256)), "not a picture of a known format"),
        ("header.jpg", JPEG[:20], "truncated or damaged"),
        ("cut.jpg", JPEG[:-300], "truncated"),
        ("cut.png", PNG[:-300], "truncated|broken"),
        ("head.png", PNG[:20], "truncated|broken"),
        ("flipped.png", PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "cannot be decoded"),
    ],
)
@pytest.mark.parametrize("target", [None, 16])
def test_bad_files_are_named_with_the_reason(
    tmp_path: Path, name: str, data: bytes, reason: str, target: int | None
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError, match=f"{name}: .*({reason})"):
        load_image(path, target=target)
    with pytest.raises(ImageError, match=reason):
        load_image(data, target=target)


def test_bad_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg: there is no such file"):
        load_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="a folder, not a picture"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be read: "):
        load_image("a\0b.jpg")
    with pytest.raises(ImageError, match="expected a path, bytes"):
        load_image(3)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="binary mode"):
        load_image(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="target must be"):
        load_image(PNG, target=0)


@pytest.mark.skipif(sys.platform == "win32", reason="no such file on Windows")
def test_devices_are_not_read() -> None:
    with pytest.raises(ImageError, match="/dev/zero: not a plain file"):
        load_image("/dev/zero")


@lru_cache
def huge_png() -> bytes:
    """20,000 x 20,000 black pixels of one bit: 50 kB that decode to 1.2 GB."""
    return encoded(Image.new("1", (20_000, 20_000)))


def test_a_decompression_bomb_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = huge_png()

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with pytest.raises(
        ImageError,
        match=r"20,000 x 20,000 = 400,000,000 pixels, over the limit of 300,000,000: --max-pixels 400MP",
    ):
        load_image(data)


def test_limits_are_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    assert load_image(path, limits=Limits(max_pixels=64 * 64, max_bytes=len(PNG))).size == (64, 64)
    with pytest.raises(ImageError, match=r"64 x 64 = 4,096 pixels"):
        load_image(path, limits=Limits(max_pixels=64 * 64 - 1))
    with pytest.raises(ImageError, match=r"64 x 64 = 4,096 pixels"):
        load_image(Image.new("L", (64, 64)), limits=Limits(max_pixels=10))
    for source in (path, PNG, io.BytesIO(PNG)):
        with pytest.raises(ImageError, match=r"over the limit of .* --max-pixels"):
            load_image(source, limits=Limits(max_bytes=len(PNG) - 1))


def test_pillows_own_settings_are_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(ImageError):
        load_image(huge_png())
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_remarks_of_pillow_do_not_reach_the_user() -> None:
    damaged = bytearray(corner(6, "JPEG"))
    where = damaged.index(b"Exif\0\0") + 14
    damaged[where : where + 2] = b"\xff\xff"  # the block does not contain this number of entries
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_image(bytes(damaged)).mode == "RGB"
    assert not caught


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, brand: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MissingExtraError, match=r"pi_heif is needed to read HEIC .*diptych\[media\]"):
        load_image(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(64))


def test_raw_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    path = tmp_path / "shot.NEF"
    path.write_bytes(encoded(Image.new("RGB", (8, 8)), "TIFF"))  # RAW files begin like TIFF
    with pytest.raises(MissingExtraError, match=r"rawpy is needed to read camera RAW .*diptych\[media\]"):
        load_image(path)


def test_many_threads_at_once() -> None:
    data, results = corner(6, "JPEG", (400, 200)), []

    def work() -> None:
        results.extend(load_image(data, target=20).size for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [(100, 50)] * 160


def test_a_worker_that_starts_afresh_can_load() -> None:
    """Nothing depends on a forked parent: Windows and macOS spawn their workers."""
    code = "import sys; from diptych.media import load_image; print(load_image(sys.stdin.buffer).size)"
    done = subprocess.run([sys.executable, "-c", code], input=PNG, capture_output=True, check=True)
    assert done.stdout.split() == [b"(64,", b"64)"]


@settings(max_examples=300)
@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"P6 "]
    )
    | st.sampled_from([b"RIFF\x10\0\0\0WEBPVP8 ", b"\0\0\1\0", b"8BPS", b"DDS ", b"qoif", b"\n\5\1\x08"]),
    st.binary(max_size=200),
    st.sampled_from([None, 16]),
)
def test_random_bytes_raise_nothing_else(magic: bytes, data: bytes, target: int | None) -> None:
    try:
        image = load_image(magic + data, target=target, limits=Limits(max_pixels=100_000))
    except ImageError:
        return
    assert image.mode == "RGB"


@settings(max_examples=300)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "QOI", "DDS", "JPEG2000"]),
    st.data(),
)
def test_damaged_pictures_raise_nothing_else(kind: str, data: st.DataObject) -> None:
    whole = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(1, len(whole))) :]
    try:
        image = load_image(bytes(whole), limits=Limits(max_pixels=1_000_000))
    except ImageError:
        return
    assert image.mode == "RGB"


SAMPLES = {
    kind: encoded(Image.radial_gradient("L").resize((32, 32)).convert("RGB"), kind)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "QOI", "DDS", "JPEG2000")
}


@settings(max_examples=150)
@given(
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_any_picture_gives_rgb_of_the_upright_size(
    mode: str, size: tuple[int, int], orientation: int, random: Any
) -> None:
    image = Image.frombytes("RGBA", size, random.randbytes(size[0] * size[1] * 4))
    image = Image.new(mode, size, 1234) if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(encoded(image, exif=exif))
    assert loaded.mode == "RGB"
    assert loaded.size == (size if orientation < 5 else size[::-1])


def test_a_compressed_picture_is_no_picture() -> None:
    with pytest.raises(ImageError, match="not a picture of a known format"):
        load_image(gzip.compress(PNG))
