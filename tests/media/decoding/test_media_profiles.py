"""Colour management: pictures are converted to sRGB by their ICC profile or by colour values of the file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from diptych.embedding.batches import embed_images
from diptych.media import load_image, read_details
from diptych.media.decoding.profiles import to_srgb
from tests.media.layout_writers import bmp, psd
from tests.media.profiles import P3, PROPHOTO, grey_profile, ink_profile, rgb_profile, srgb_profile

COLOUR = (200, 60, 40)  # in sRGB, and below the same colour in other spaces:
IN_P3, IN_PROPHOTO = (185, 71, 50), (136, 70, 39)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colour_of(data: bytes, **options: Any) -> np.ndarray:
    return np.asarray(load_image(data, **options), int)[8, 8]


def near(found: np.ndarray, expected: tuple[int, ...], within: int = 2) -> bool:
    return bool(np.abs(found - np.array(expected)).max() <= within)


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100}),
    ],
)
@pytest.mark.parametrize("target", [None, 8])
def test_every_format_with_a_profile_is_converted(
    kind: str, options: dict[str, Any], target: int | None
) -> None:
    for stored, columns, gamma in ((IN_P3, P3, None), (IN_PROPHOTO, PROPHOTO, 1.8)):
        picture = Image.new("RGB", (32, 32), stored)
        data = encoded(picture, kind, icc_profile=rgb_profile(columns, gamma), **options)
        assert near(colour_of(data, target=target), COLOUR, 3), kind
        assert near(colour_of(data, target=target, srgb=False), stored), kind


def test_profiles_that_pillow_does_not_tell() -> None:
    """In JPEG 2000 it is a box of the header, in BMP it follows the pixels, in PSD it is a resource."""
    picture, profile = Image.new("RGB", (16, 16), IN_P3), rgb_profile(P3)
    jp2 = encoded(picture, "JPEG2000")
    at = jp2.index(b"colr") - 4
    old = int.from_bytes(jp2[at : at + 4], "big")
    box = struct.pack(">I", 11 + len(profile)) + b"colr\2\0\0" + profile
    header = jp2.index(b"jp2h") - 4
    size = struct.pack(">I", int.from_bytes(jp2[header : header + 4], "big") + len(box) - old)
    changed = jp2[:header] + size + jp2[header + 4 : at] + box + jp2[at + old :]
    assert near(colour_of(changed), COLOUR)
    rows = [np.asarray(picture)[0, :, ::-1].tobytes()] * 16
    plain = bmp(rows, (16, 16), 24, header=124, tail=profile)
    start = struct.pack("<II", len(plain) - len(profile) - 14, len(profile))
    embedded = plain[:70] + b"DEBM" + plain[74:126] + start + plain[134:]
    assert near(colour_of(embedded), COLOUR)
    resource = b"8BIM" + struct.pack(">HHI", 1039, 0, len(profile)) + profile + bytes(len(profile) % 2)
    whole = psd(np.moveaxis(np.asarray(picture), -1, 0), 3)
    assert near(colour_of(whole[:30] + struct.pack(">I", len(resource)) + resource + whole[34:]), COLOUR)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_photoshop_s_large_and_deep_files_keep_profile_and_metadata(depth: int, large: bool) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Hasselblad"
    packet = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
        xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"/></rdf:RDF></x:xmpmeta>"""
    blocks = {
        1039: rgb_profile(PROPHOTO, 1.8),
        0x0422: exif.tobytes(),
        0x0424: packet,
        0x0404: b"\x1c\x02\x19\0\x04lion",
    }
    resources = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)
        for number, data in blocks.items()
    )
    planes = np.broadcast_to(np.array(IN_PROPHOTO)[:, None, None], (3, 16, 16))
    samples = planes.astype(np.uint8) if depth == 8 else (planes * 257).astype(">u2")
    plain = psd(samples, 3, depth=depth)
    version = b"\0\2" if large else b"\0\1"
    layers = bytes(8 if large else 4)  # the length of the section
    data = plain[:4] + version + plain[6:30] + struct.pack(">I", len(resources)) + resources
    data += layers + plain[38:]
    assert near(colour_of(data), COLOUR)
    details = read_details(data)
    assert (details.camera, details.keywords, details.rating) == ("Hasselblad", ("lion",), 4)
    assert not large or read_details(data[:27]).width == 16  # truncated before all sections


def test_palettes_transparency_and_pictures_in_memory_are_converted() -> None:
    profile = rgb_profile(P3)
    palette = Image.new("RGB", (16, 16), IN_P3).quantize(4)
    assert near(colour_of(encoded(palette, icc_profile=profile)), COLOUR)
    half = Image.new("RGBA", (16, 16), (*IN_P3, 128))
    half.putpixel((0, 0), (0, 0, 0, 255))
    # Converted first, then composited over white: white is white in both spaces.
    over = tuple(round(255 + (value - 255) * 128 / 255) for value in COLOUR)
    assert near(colour_of(encoded(half, icc_profile=profile)), over)
    mine = Image.new("RGB", (16, 16), IN_P3)
    mine.info["icc_profile"] = profile
    assert near(np.asarray(load_image(mine), int)[8, 8], COLOUR)
    assert mine.getpixel((8, 8)) == IN_P3


def test_grey_and_ink_profiles() -> None:
    grey = encoded(Image.new("L", (16, 16), 55), icc_profile=grey_profile(1.0))
    assert near(colour_of(grey), (128, 128, 128))
    assert near(colour_of(grey, srgb=False), (55, 55, 55))
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(ink, "JPEG", icc_profile=ink_profile())
    assert near(colour_of(data), (255, 255, 255), 3)
    assert near(colour_of(data, srgb=False), (255, 0, 0), 3)


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"no profile at all" * 20,
        rgb_profile(P3)[:300],
        rgb_profile(P3).replace(b"acsp", b"xxxx"),
        grey_profile(1.0),
        ink_profile(),
        srgb_profile(),
    ],
    ids=["empty", "text", "cut", "unsigned", "grey", "ink", "srgb"],
)
def test_profiles_that_say_nothing_of_these_pixels_change_none(profile: bytes) -> None:
    noise = Image.effect_noise((32, 32), 90).convert("RGB")
    assert load_image(encoded(noise, icc_profile=profile)).tobytes() == noise.tobytes()


def test_a_profile_of_srgb_costs_no_conversion() -> None:
    assert to_srgb(Image.new("RGB", (4, 4)), srgb_profile()) is None


def test_a_transform_is_built_once_for_each_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    built, real = [], ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *given: built.append(1) or real(*given))
    data = encoded(Image.new("RGB", (16, 16), IN_P3), icc_profile=rgb_profile(P3, 2.345))
    counts = []
    for number in (4, 8):
        for _ in range(number):
            load_image(data)
        counts.append(len(built))
    assert counts == [1, 1]


def test_png_gamma_and_chromaticities() -> None:
    dark = encoded(Image.new("RGB", (16, 16), (55, 55, 55)))
    assert near(colour_of(with_chunk(dark, b"gAMA", struct.pack(">I", 100_000))), (128, 128, 128))
    for same in (b"gAMA", struct.pack(">I", 45_455)), (b"gAMA", b"\0\0\0\0"), (b"gAMA", b"\0\0"):
        assert near(colour_of(with_chunk(dark, *same)), (55, 55, 55), 0)
    both = with_chunk(with_chunk(dark, b"gAMA", struct.pack(">I", 100_000)), b"sRGB", b"\0")
    assert near(colour_of(both), (55, 55, 55), 0)
    p3 = encoded(Image.new("RGB", (16, 16), IN_P3))
    points = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    wide = with_chunk(with_chunk(p3, b"cHRM", points), b"gAMA", struct.pack(">I", 45_455))
    assert near(colour_of(wide), COLOUR)
    nonsense = with_chunk(with_chunk(p3, b"cHRM", bytes(32)), b"gAMA", struct.pack(">I", 45_455))
    assert near(colour_of(nonsense), IN_P3, 0)


@pytest.mark.parametrize(
    ("mode", "stored"), [("L", 55), ("LA", (55, 255)), ("I;16", 55 << 8), ("RGB", (55,) * 3)]
)
def test_gamma_and_colour_numbers_hold_for_greys_too(mode: str, stored: Any) -> None:
    dark = encoded(Image.new(mode, (16, 16), stored))
    assert near(colour_of(dark), (55, 55, 55), 0)
    for kind, data in ((b"gAMA", struct.pack(">I", 100_000)), (b"cICP", bytes([1, 8, 0, 1]))):
        linear = with_chunk(dark, kind, data)
        assert near(colour_of(linear), (128, 128, 128)), kind
        assert near(colour_of(linear, srgb=False), (55, 55, 55), 0)


def test_png_colour_numbers_outrank_all() -> None:
    p3 = encoded(Image.new("RGB", (16, 16), IN_P3))
    assert near(colour_of(with_chunk(p3, b"cICP", bytes([12, 13, 0, 1]))), COLOUR)
    for numbers in ([1, 13, 0, 1], [9, 16, 0, 1], [200, 13, 0, 1]):  # sRGB; PQ, without one rendering; none
        assert near(colour_of(with_chunk(p3, b"cICP", bytes(numbers))), IN_P3, 0)


@settings(max_examples=100)
@given(st.integers(0, 500), st.binary(min_size=1, max_size=8))
def test_damaged_profiles_never_refuse_a_picture(at: int, data: bytes) -> None:
    profile = rgb_profile(P3)
    damaged = profile[:at] + data + profile[at + len(data) :]
    assert load_image(encoded(Image.new("RGB", (4, 4), IN_P3), icc_profile=damaged)).size == (4, 4)


class Colours:
    """An encoder that stores the pictures that it receives."""

    identity, dim, input_size, logit_scale, logit_bias = "colours", 1, 8, 1.0, 0.0

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        self.seen.extend(np.asarray(image, int)[8, 8] for image in images)
        return np.ones((len(images), 1), np.float32)


@pytest.mark.parametrize(("exact", "expected"), [(False, COLOUR), (True, IN_P3)])
def test_exact_embedding_keeps_the_colours_that_are_stored(exact: bool, expected: tuple[int, ...]) -> None:
    encoder = Colours()
    data = encoded(Image.new("RGB", (16, 16), IN_P3), icc_profile=rgb_profile(P3))
    list(embed_images(encoder, [("a", data)], exact=exact))  # type: ignore[arg-type]
    assert near(encoder.seen[0], expected)
