"""All layouts of TIFF, BMP, PSD, PCX and AVIF: the original pixels, or an error that names the decoder.

If ImageMagick is installed, it must show the same pixels for the same files within rounding. In continuous
integration (`CI` is set) it must be installed.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.errors import ImageError
from diptych.media import load_image
from diptych.media.decoding.layouts import tiff_strips
from tests.media.layout_writers import DEFLATE, PACKBITS, SHORT, bmp, packed_bits, pcx_bits, psd, tiff

WIDTH, HEIGHT = 43, 26  # not a multiple of any block size
_LEVELS = np.add.outer(np.arange(HEIGHT) * 5, np.arange(WIDTH) * 2)[..., None] + np.array([0, 25, -40])
RGB = np.clip(_LEVELS, 0, 255).astype(np.uint8)  # (H, W, 3)
GREY = RGB[..., :1]  # (H, W, 1)
ALPHA = np.broadcast_to((np.arange(WIDTH) * 6).astype(np.uint8), (HEIGHT, WIDTH))[..., None]
WHITE_IS_ZERO, BLACK_IS_ZERO, COLOURS, PALETTE, INKS = 0, 1, 2, 3, 5


def as_rgb(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels


def over_white(colours: np.ndarray) -> np.ndarray:
    return np.rint(255 + (as_rgb(colours).astype(float) - 255) * ALPHA / 255).astype(np.uint8)


def multiplied(colours: np.ndarray) -> np.ndarray:
    return np.rint(colours * (ALPHA / 255)).astype(np.uint8)


def deep(levels: np.ndarray, bits: int, format: int = 1) -> np.ndarray:
    """Convert 8-bit levels to another depth; below 8 bits the highest bits are kept."""
    if format == 3:
        return (levels / 255).astype(f"f{bits // 8}")
    if bits <= 8:
        return levels >> (8 - bits)
    wide = levels.astype(np.uint64)
    full = wide << (bits - 8) | (wide << (bits - 8) >> 8)
    return full.astype("u2" if bits <= 16 else "u4")


def shallow(levels: np.ndarray, bits: int) -> np.ndarray:
    """The levels that remain with this number of bits."""
    return (levels >> (8 - bits)).astype(int) * 255 // (2**bits - 1) if bits < 8 else levels


Case = tuple[str, bytes, np.ndarray]


def tiff_cases() -> Iterator[Case]:
    for bits, format in ((8, 1), (16, 1), (24, 1), (32, 1), (16, 3), (32, 3), (64, 3)):
        for order in "<>":
            for planar in (False, True):
                data = tiff(
                    deep(RGB, bits, format), COLOURS, bits=bits, format=format, order=order, planar=planar
                )
                yield f"rgb{bits}-{format}-{order}-{planar}.tif", data, RGB
    for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 32):
        for photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
            levels = deep(GREY, bits)
            most = np.array(2**bits - 1, levels.dtype)
            data = tiff(most - levels if photometric == WHITE_IS_ZERO else levels, photometric, bits=bits)
            yield f"grey{bits}-{photometric}.tif", data, as_rgb(shallow(GREY, bits))
    for compression, predictor in ((DEFLATE, 1), (DEFLATE, 2), (PACKBITS, 1)):
        for tile, big in ((None, False), ((32, 16), False), ((16, 16), True)):
            for order in "<>":
                for planar in (False, True):
                    how: dict[str, Any] = {"compression": compression, "predictor": predictor, "tile": tile}
                    data = tiff(deep(RGB, 16), COLOURS, bits=16, order=order, planar=planar, big=big, **how)
                    yield f"c{compression}-{predictor}-{tile}-{order}-{planar}.tif", data, RGB
    yield from tiff_alpha_cases()
    yield from tiff_ink_cases()


def tiff_ink_cases() -> Iterator[Case]:
    inks = np.concatenate([255 - RGB, np.zeros_like(GREY)], axis=-1)
    for bits in (8, 16):
        for planar in (False, True):
            data = tiff(deep(inks, bits), INKS, bits=bits, planar=planar, compression=DEFLATE)
            yield f"inks{bits}-{planar}.tif", data, RGB
    five = np.concatenate([inks, ALPHA], axis=-1)
    yield "inks-alpha.tif", tiff(five, INKS, bits=8, extra=(2,)), over_white(RGB)
    for bits in (1, 2, 4, 8, 16):
        count = 2**bits
        table = np.stack([np.linspace(0, 65535, count), np.linspace(65535, 0, count), np.full(count, 9000)])
        indices = deep(GREY, min(bits, 8)).astype("u2" if bits == 16 else "u1")
        data = tiff(indices, PALETTE, bits=bits, tags={320: (SHORT, [int(v) for v in table.reshape(-1)])})
        yield f"palette{bits}.tif", data, (table.T[indices[..., 0]].astype(int) >> 8)
    for order in "<>":
        data = tiff(deep(GREY, 1), BLACK_IS_ZERO, bits=1, order=order, rows=HEIGHT)
        yield f"bits{order}.tif", data, as_rgb(shallow(GREY, 1))


def tiff_alpha_cases() -> Iterator[Case]:
    for bits, format in ((8, 1), (16, 1), (32, 3)):
        for planar in (False, True):
            for levels, photometric in ((RGB, COLOURS), (GREY, BLACK_IS_ZERO)):
                both = np.concatenate([levels, ALPHA], axis=-1)
                soft = np.concatenate([multiplied(levels), ALPHA], axis=-1)
                name = f"{photometric}-{bits}-{planar}"
                how: dict[str, Any] = {"bits": bits, "format": format, "planar": planar}
                separate = tiff(deep(both, bits, format), photometric, extra=(2,), **how)
                yield f"alpha{name}.tif", separate, over_white(levels)
                premultiplied = tiff(deep(soft, bits, format), photometric, extra=(1,), **how)
                yield f"soft{name}.tif", premultiplied, over_white(levels)


def other_cases() -> Iterator[Case]:
    yield from bmp_cases()
    for mode, planes, expected in ((3, RGB, RGB), (1, GREY, as_rgb(GREY))):
        for runs in (False, True):
            for depth in (8, 16):
                levels = np.moveaxis(deep(planes, depth), -1, 0)
                stored = levels.astype(f">u{depth // 8}")
                yield f"{mode}-{runs}-{depth}.psd", psd(stored, mode, depth=depth, runs=runs), expected
    inks = np.concatenate([255 - RGB, np.zeros_like(GREY)], axis=-1)
    yield "inks.psd", psd(255 - np.moveaxis(inks, -1, 0), 4, runs=True), RGB
    bits = deep(GREY, 1)[..., 0]
    yield "bits.psd", psd(1 - bits[None], 0, depth=1), as_rgb(shallow(GREY, 1))
    yield "bits.pcx", pcx_bits(bits, ((255, 255, 255), (0, 0, 0))), 255 - as_rgb(shallow(GREY, 1))


def bmp_cases() -> Iterator[Case]:
    size = (WIDTH, HEIGHT)
    blue_first = [row[:, ::-1].tobytes() for row in RGB]
    for header in (12, 40, 64, 108, 124):
        yield f"24-{header}.bmp", bmp(blue_first, size, 24, header=header), RGB
    yield "down.bmp", bmp(blue_first, size, 24, top_down=True), RGB
    for bits in (1, 4, 8):
        count = 2**bits
        table = np.stack([np.linspace(0, 255, count), np.linspace(255, 0, count), np.full(count, 30)], -1)
        table = table.astype(np.uint8)
        indices = deep(GREY, bits)[..., 0]
        rows = [packed_bits(row[None], bits) for row in indices]
        for header in (12, 40):
            yield (
                f"pal{bits}-{header}.bmp",
                bmp(rows, size, bits, header=header, palette=table),
                table[indices],
            )
    for masks in ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F), (0xF00, 0xF0, 0xF)):
        expected, values = np.zeros(RGB.shape, int), np.zeros(RGB.shape[:2], np.uint32)
        for channel, mask in enumerate(masks):
            depth, shift = mask.bit_count(), (mask & -mask).bit_length() - 1
            part = RGB[..., channel].astype(np.uint32) >> (8 - depth)
            values |= part << shift
            expected[..., channel] = np.rint(part * 255 / (2**depth - 1))
        rows = [row.astype("<u2").tobytes() for row in values]
        yield f"16-{masks[0]:x}.bmp", bmp(rows, size, 16, compression=3, masks=masks), expected
        if masks[0] == 0x7C00:
            yield "16-plain.bmp", bmp(rows, size, 16), expected
    for shifts in ((16, 8, 0), (24, 16, 8), (0, 8, 16)):
        wide = sum(RGB[..., i].astype(np.uint32) << shift for i, shift in enumerate(shifts))
        rows = [row.astype("<u4").tobytes() for row in wide]
        masks = tuple(255 << shift for shift in shifts)
        yield f"32-{shifts[0]}.bmp", bmp(rows, size, 32, compression=3, masks=masks, header=56), RGB
    runs = (
        b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in GREY[::-1, :, 0].tolist())
        + b"\0\1"
    )
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    yield "rle8.bmp", bmp([runs], size, 8, compression=1, palette=greys), as_rgb(GREY)


CASES = {name: (data, expected) for name, data, expected in [*tiff_cases(), *other_cases()]}


@pytest.mark.parametrize("name", CASES)
def test_the_drawn_picture_comes_out(name: str) -> None:
    data, expected = CASES[name]
    shown = np.asarray(load_image(data), int)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= (2 if "soft" in name else 1)


@lru_cache
def imagemagick() -> str:
    """The ImageMagick program; another program may also be called `convert`."""
    for name in ("magick", "convert-im6.q16", "convert", "/usr/bin/convert"):
        path = shutil.which(name)
        if path is not None:
            done = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)
            if "ImageMagick" in done.stdout:
                return path
    return ""


# Cases that ImageMagick 6 shows differently: 24 bits and masks of 4 bits; grey whose white is zero, which
# it inverts at 1, 8 and 16 bits only; grey with transparency in separate planes, whose alpha it drops.
UNLIKE = ("rgb24-", "16-f00", *(f"grey{bits}-0" for bits in (2, 4, 6, 10, 12, 14, 32)))
UNLIKE += tuple(f"{kind}1-{bits}-True" for kind in ("alpha", "soft") for bits in (8, 16, 32))


def test_imagemagick_shows_the_same(tmp_path: Path) -> None:
    program = imagemagick()
    if not program:
        if os.environ.get("CI") and "imagemagick" not in os.environ.get("DIPTYCH_MISSING_TOOLS", ""):
            pytest.fail("ImageMagick is not installed: apt-get install imagemagick")
        pytest.skip("ImageMagick is not installed")
    unlike = []
    for name, (data, _) in CASES.items():
        if name.startswith(UNLIKE):
            continue
        path = tmp_path / name.replace("<", "l").replace(">", "b")
        path.write_bytes(data)
        how = ["-background", "white", "-alpha", "remove", "-colorspace", "sRGB", "-depth", "8"]
        done = subprocess.run([program, f"{path}[0]", *how, "rgb:-"], capture_output=True, check=False)
        shown = np.asarray(load_image(path), int)
        if len(done.stdout) != shown.size:
            unlike.append(f"{name}: {done.stderr.decode()[:200]}")
            continue
        theirs = np.frombuffer(done.stdout, np.uint8).reshape(shown.shape).astype(int)
        if np.abs(theirs - shown).max() > 2:
            unlike.append(f"{name}: off by {np.abs(theirs - shown).max()}")
    assert not unlike, "\n".join(unlike)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (tiff(deep(GREY, 16).astype("i2"), BLACK_IS_ZERO, bits=16, format=2), "signed"),
        (tiff(deep(RGB, 16), 32845, bits=16), "LogLuv"),
        (tiff(RGB, COLOURS, bits=8, tags={259: (SHORT, [34712])}), "JPEG 2000"),
        (tiff(RGB, 6, bits=8, tags={530: (SHORT, [2, 2])}), "YCbCr"),
        (bmp([b"\0" * 8] * 4, (4, 4), 8, header=64, compression=3), "Huffman"),
    ],
)
def test_other_layouts_are_refused_by_name(data: bytes, named: str) -> None:
    with pytest.raises(ImageError, match=named) as caught:
        load_image(data)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("planar", [False, True])
def test_more_samples_than_pictures_have_are_refused_before_there_is_memory_for_them(
    planar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[logging.LogRecord] = []
    last = logging.Handler()
    last.emit = printed.append  # type: ignore[method-assign]
    monkeypatch.setattr(logging, "lastResort", last)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    eleven, many = np.repeat(RGB, 4, axis=-1)[..., :11], np.zeros((HEIGHT, WIDTH, 400), np.uint8)
    eleven[..., :3] = RGB
    fitting = tiff(eleven, COLOURS, bits=8, extra=(0,) * 8, planar=planar)
    assert np.array_equal(np.asarray(load_image(fitting)), RGB)
    deepest = tiff(deep(eleven, 32), COLOURS, bits=32, extra=(0,) * 8, planar=planar)
    monkeypatch.setattr(tiff_strips, "_LARGEST", WIDTH * HEIGHT * 44 - 1)
    monkeypatch.setattr(np, "empty", None)
    for data, named in (
        (tiff(many, COLOURS, bits=8, extra=(0,) * 397, planar=planar), "400 samples, expected at most 11"),
        (deepest, "of samples, over the limit"),
    ):
        with pytest.raises(ImageError, match=named):
            load_image(data)
    assert not printed


def test_samples_of_no_stated_kind_and_selections_are_no_transparency() -> None:
    four = np.concatenate([RGB, ALPHA], axis=-1)
    assert np.array_equal(np.asarray(load_image(tiff(four, COLOURS, bits=8, extra=(0,)))), RGB)
    assert np.array_equal(np.asarray(load_image(tiff(deep(four, 16), COLOURS, bits=16, extra=(0,)))), RGB)
    for runs in (False, True):
        planes = np.moveaxis(four, -1, 0)
        assert np.array_equal(np.asarray(load_image(psd(planes, 3, runs=runs))), RGB)
        assert np.array_equal(np.asarray(load_image(psd(planes[[0, 3]], 1, runs=runs))), as_rgb(GREY))


def test_a_fourth_byte_of_a_bmp_that_is_zero_everywhere_hides_nothing() -> None:
    rows = [np.concatenate([row[:, ::-1], np.zeros((WIDTH, 1), np.uint8)], axis=1).tobytes() for row in RGB]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for how in ({}, {"compression": 3, "masks": masks, "header": 56}):
        assert np.array_equal(np.asarray(load_image(bmp(rows, (WIDTH, HEIGHT), 32, **how))), RGB)  # type: ignore[arg-type]


def test_one_bit_of_a_pcx_has_the_colours_of_its_header() -> None:
    bits = deep(GREY, 1)[..., 0]
    colours = ((200, 30, 10), (20, 180, 90))
    shown = np.asarray(load_image(pcx_bits(bits, colours)))
    assert np.array_equal(shown, np.array(colours, np.uint8)[bits])
    none = load_image(pcx_bits(bits, ((0, 0, 0), (0, 0, 0))))
    assert np.array_equal(np.asarray(none), as_rgb(shallow(GREY, 1)))
