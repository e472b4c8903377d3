"""Detection of files with several pictures: animations, pages, and auxiliary images that do not count."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from diptych.errors import ImageError
from diptych.media.frames import has_multiple_frames


def saved(kind: str, *images: Image.Image, **how: object) -> bytes:
    buffer = io.BytesIO()
    images[0].save(
        buffer, kind, **({"save_all": True, "append_images": images[1:]} if images[1:] else {}), **how
    )
    return buffer.getvalue()


def noise(side: int) -> Image.Image:
    return Image.effect_noise((side, side), 90).convert("RGB")


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG", "MPO", "AVIF"])
def test_frames_and_pages(kind: str) -> None:
    assert has_multiple_frames(saved(kind, noise(32), noise(32)))
    assert not has_multiple_frames(saved("JPEG" if kind == "MPO" else kind, noise(32)))


def test_what_telephones_put_beside_a_picture_is_no_other() -> None:
    assert not has_multiple_frames(saved("MPO", noise(64), noise(32)))
    assert has_multiple_frames(saved("MPO", noise(64), noise(32), noise(64)))


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    preview = noise(32)
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    path = tmp_path / "a.tif"
    for pages, several in (([preview], False), ([preview, noise(64)], True)):
        path.write_bytes(saved("TIFF", noise(64), *pages))
        assert has_multiple_frames(path) is several


def test_a_raw_is_one_and_what_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(saved("TIFF", noise(32), noise(32)))
    assert not has_multiple_frames(tmp_path / "a.dng")
    with pytest.raises(ImageError, match=r"b\.tif: .*truncated or damaged"):
        has_multiple_frames(b"II*\0", "b.tif")
