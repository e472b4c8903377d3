"""HEIC and camera RAW: orientation, metadata, and embedded previews in place of developing."""

from __future__ import annotations

import base64
import contextlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pi_heif
import pytest
import rawpy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from diptych.errors import ImageError, MissingExtraError
from diptych.media import Limits, load_image, read_details
from tests.media.raw_files import dng

# 64 x 32, black with a white top left quarter, stored rotated as phones do: the box "irot" rotates it,
# and the EXIF orientation 6 describes the same rotation again. pillow_heif 1.8.1, quality 50.
PHONE = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA"
    "AAAAADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAFUAAgAAAAACQQABAAAAAAAAAH4AAAA4aWluZgAAAAAAAgAAABVp"
    "bmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZo"
    "dmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAA"
    "AwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAA"
    "AAAAQAAAAEAAAAAoY2xhcAAAACAAAAABAAAAQAAAAAH////gAAAAAgAAAAAAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90"
    "AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAANttZGF0AAAAUSgBrxOA+FDQ"
    "p///dch8G2uEZF/0gIJcoosyKklSB5uIxYPeZtxlGxcma9mxes2+syEzfT1qnatryU8aM1YektarXyrXpqfHvvC+++4SNn6N"
    "twAAAAZFeGlmAABNTQAqAAAACAAEAQ8AAgAAAAYAAAA+ARAAAgAAAAkAAABEARIAAwAAAAEABgAAh2kABAAAAAEAAABOAAAA"
    "AEFwcGxlAGlQaG9uZSA3AAAAAZADAAIAAAAUAAAAYAAAAAAyMDIxOjAzOjA0IDA1OjA2OjA3AA=="
)


def quarter(image: Image.Image) -> None:
    """White in the top left quarter, black elsewhere."""
    values = np.asarray(image.convert("L"))
    height, width = values.shape
    assert values[: height // 2 - 3, : width // 2 - 3].min() > 200
    assert values[height // 2 + 3 :].max() < 60
    assert values[:, width // 2 + 3 :].max() < 60


# ------------------------------------------------------------------------------------------------- HEIC


def test_a_phones_picture_stands_upright_once() -> None:
    image = load_image(PHONE)
    assert (image.size, image.mode, image.info) == ((64, 32), "RGB", {})
    quarter(image)
    quarter(load_image(PHONE, target=8))


@pytest.mark.parametrize("turns", range(4))
def test_the_box_turns_it_and_the_exif_does_not(turns: int) -> None:
    at = PHONE.index(b"irot") + 4
    image = load_image(PHONE[:at] + bytes([turns]) + PHONE[at + 1 :])
    assert image.size == ((32, 64) if turns % 2 == 0 else (64, 32))
    quarter(image.rotate(90 * (3 - turns), expand=True))


def test_what_a_phone_tells() -> None:
    details = read_details(PHONE)
    assert (details.width, details.height, details.format) == (64, 32, "HEIF")
    assert details.camera == "Apple iPhone 7"
    assert str(details.taken) == "2021-03-04 05:06:07"


def test_heic_is_refused_by_size_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with pytest.raises(ImageError, match="64 x 32 = 2,048 pixels"):
        load_image(PHONE, limits=Limits(max_pixels=100))
    assert read_details(PHONE).width == 64


def test_either_library_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that only decodes comes first; a fake replaces the other, which is no dependency."""
    used = []

    def opened(file: Any, name: str) -> Any:
        used.append(name)
        return pi_heif.HeifImageFile(file, name)

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(HeifImageFile=opened))
    quarter(load_image(PHONE))
    assert not used
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    quarter(load_image(PHONE))
    assert len(used) == 1
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r"pi_heif is needed to read HEIC .*diptych\[media\]"):
        read_details(PHONE)


@settings(max_examples=200)
@given(st.integers(0, len(PHONE) - 1), st.binary(min_size=1, max_size=4), st.integers(0, len(PHONE)))
def test_damaged_heic_raises_nothing_else(at: int, data: bytes, end: int) -> None:
    damaged = (PHONE[:at] + data + PHONE[at + len(data) :])[: max(end, 12)]
    for read in (load_image, read_details):
        try:
            read(damaged, limits=Limits(max_pixels=100_000))  # type: ignore[operator]
        except ImageError:
            continue


# -------------------------------------------------------------------------------------------------- RAW


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "shot.DNG"
    path.write_bytes(data)
    return path


def preview(size: tuple[int, int], orientation: int | None = None) -> bytes:
    """White on the left, grey on the right: different from the sensor's picture."""
    image = Image.new("RGB", size, "grey")
    image.paste("white", (0, 0, size[0] // 2, size[1]))
    exif, file = Image.Exif(), io.BytesIO()
    if orientation:
        exif[0x0112] = orientation
    image.save(file, "JPEG", quality=95, exif=exif)
    data = file.getvalue()
    return data[:2] + data[20:] if orientation else data  # with EXIF first, as cameras write it, without JFIF


def bright_side(image: Image.Image) -> str:
    values = np.asarray(image.convert("L").resize((2, 2), Image.Resampling.BOX), int)
    across, down = values[:, 0].sum() - values[:, 1].sum(), values[0].sum() - values[1].sum()
    if abs(across) > abs(down):
        return "left" if across > 0 else "right"
    return "top" if down > 0 else "bottom"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("target", [None, 8, 100])
def test_developed_pictures_stand_upright(tmp_path: Path, orientation: int, target: int | None) -> None:
    path = saved(tmp_path, dng((64, 48), orientation=orientation))
    image = load_image(path, target=target)
    size = (48, 64) if orientation in (6, 8) else (64, 48)
    assert image.size == (size if target != 8 else (size[0] // 2, size[1] // 2))
    quarter(image)
    details = read_details(path)
    assert (details.width, details.height, details.format) == (*size, "RAW")


@pytest.mark.parametrize(("orientation", "side"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_a_preview_without_orientation_lies_as_the_sensor_does(
    tmp_path: Path, orientation: int, side: str
) -> None:
    path = saved(tmp_path, dng(orientation=orientation, preview=preview((400, 300))))
    image = load_image(path, target=100)
    assert image.size == ((300, 400) if orientation in (6, 8) else (400, 300))
    assert bright_side(image) == side


def test_a_preview_says_how_it_lies_by_its_exif_or_its_shape(tmp_path: Path) -> None:
    own = load_image(saved(tmp_path, dng(orientation=6, preview=preview((400, 300), 8))), target=100)
    assert (own.size, bright_side(own)) == ((300, 400), "bottom")
    already = load_image(saved(tmp_path, dng(orientation=6, preview=preview((300, 400)))), target=100)
    assert (already.size, bright_side(already)) == ((300, 400), "left")


def test_previews_that_are_too_small_or_broken_are_passed_over(tmp_path: Path) -> None:
    path = saved(tmp_path, dng((640, 480), preview=preview((320, 240))))
    assert bright_side(load_image(path, target=120)) == "left"
    assert load_image(path, target=120).size == (320, 240)
    assert load_image(path, target=121).size == (640, 480)  # developed: half size is too small too
    assert load_image(path, target=100).size == (320, 240)
    quarter(load_image(path, target=121))
    quarter(load_image(path))  # exact mode
    whole = preview((320, 240))
    broken = saved(tmp_path, dng((640, 480), preview=whole).replace(whole, whole[:2] + bytes(len(whole) - 2)))
    quarter(load_image(broken, target=100))


def test_a_preview_as_plain_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:, :200] = 255
    thumb = SimpleNamespace(format=rawpy.ThumbFormat.BITMAP, data=pixels)
    path = saved(tmp_path, dng(orientation=6))

    @contextlib.contextmanager
    def opened(file: Any) -> Any:
        with real(file) as raw:
            yield SimpleNamespace(sizes=raw.sizes, extract_thumb=lambda: thumb)

    real = rawpy.imread
    monkeypatch.setattr(rawpy, "imread", opened)
    image = load_image(path, target=100)
    assert (image.size, bright_side(image)) == ((300, 400), "top")


def test_a_preview_is_decoded_at_the_scale_that_will_do(tmp_path: Path) -> None:
    path = saved(tmp_path, dng(preview=preview((1600, 1200))))
    assert load_image(path, target=100).size == (400, 300)


def test_what_a_camera_tells(tmp_path: Path) -> None:
    details = read_details(saved(tmp_path, dng(preview=preview((160, 120)))))
    assert (details.camera, str(details.taken)) == ("Handmade One", "2021-03-04 05:06:07")
    assert (details.width, details.height) == (64, 48)


def test_raw_is_refused_by_size(tmp_path: Path) -> None:
    path = saved(tmp_path, dng())
    for target in (None, 8):
        with pytest.raises(ImageError, match=r"shot\.DNG: 64 x 48"):
            load_image(path, target=target, limits=Limits(max_pixels=100))


@settings(max_examples=100)
@given(st.integers(0, 600), st.binary(min_size=1, max_size=4), st.integers(100, 8000))
def test_damaged_raw_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, at: int, data: bytes, end: int
) -> None:
    whole = dng(orientation=6, preview=preview((160, 120)))
    path = saved(tmp_path_factory.getbasetemp(), (whole[:at] + data + whole[at + len(data) :])[:end])
    for read in (load_image, read_details):
        try:
            read(path, limits=Limits(max_pixels=100_000))  # type: ignore[operator]
        except ImageError:
            continue
