"""Unusual files as real folders contain them, generated with the expected result of each.

    expected = make_odd_files(tmp_path)
    expected["orientation-6.jpg"].size  # (320, 240)

Files that a system cannot have (pipes on Windows, names that are not UTF-8 on macOS, files that root may not
read) are missing from the folder and from the dictionary.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (320, 240)
_STORE = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> transposition with which it is stored
_FOLDER_NAME = "deep" * 45


@dataclass(frozen=True)
class Expected:
    """The expected result for a file.

    Attributes
    ----------
    size : (int, int), optional
        Size of the upright picture; None if the file is refused.
    refused : str
        A pattern of the error message.
    found : bool
        Whether a search of the folder lists the file.
    same : str
        Files with the same word contain the same picture.
    """

    size: tuple[int, int] | None = SIZE
    refused: str = ""
    found: bool = True
    same: str = ""


def make_odd_files(folder: Path) -> dict[str, Expected]:
    """Fill a folder; the keys are paths relative to it, with forward slashes, as `os.fsdecode` gives them."""
    made: dict[str, Expected] = {}
    for name, data, expected in [*_orientations(), *_modes(), *_broken(), *_names()]:
        path = folder / name
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            made[name] = expected
    return {**made, **_links(folder), **_special(folder), **_deep(folder)}


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth colours with a different colour in every corner."""
    corners = np.array([[[220, 30, 30], [30, 200, 60]], [[40, 60, 210], [240, 220, 90]]], np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)


Made = Iterator[tuple[str, bytes, Expected]]


def _orientations() -> Made:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = scene()
        if orientation > 1:
            stored = stored.transpose(Image.Transpose(_STORE[orientation]))
        data = _encoded(stored, "JPEG", exif=exif, quality=95, subsampling=0)
        yield f"orientation-{orientation}.jpg", data, Expected(same="scene")


def _modes() -> Made:
    picture = scene()
    frames = [Image.new("RGB", SIZE, colour) for colour in ("green", "blue")]
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(SIZE))
    grey = (np.asarray(picture.convert("L")).astype(np.uint16) << 8) + 77
    moving: dict[str, Any] = {"save_all": True, "append_images": frames}
    for name, image, kind, options in (
        ("cmyk.jpg", picture.convert("CMYK"), "JPEG", {}),
        ("sixteen-bit.png", Image.fromarray(grey), "PNG", {}),
        ("palette.png", picture.quantize(64), "PNG", {"transparency": 3}),
        ("one-bit.png", picture.convert("1"), "PNG", {}),
        ("alpha.png", clear, "PNG", {}),
        ("alpha.webp", clear, "WEBP", {}),
        ("animated.gif", picture, "GIF", moving),
        ("animated.webp", picture, "WEBP", moving),
        ("animated.png", picture, "PNG", moving),
        ("sixteen-bit.tiff", Image.fromarray(grey), "TIFF", {}),
    ):
        yield name, _encoded(image, kind, **options), Expected()
    yield "line.png", _encoded(Image.new("RGB", (2000, 1), "red")), Expected((2000, 1))


def _broken() -> Made:
    jpeg, png = _encoded(scene(), "JPEG", quality=95), _encoded(scene())
    yield "truncated.jpg", jpeg[: len(jpeg) // 2], Expected(None, "truncated")
    yield "truncated.png", png[: len(png) // 2], Expected(None, "truncated|broken")
    yield "header.jpg", jpeg[:20], Expected(None, "truncated or damaged")
    yield "text.jpg", b"these are words, whatever the name says\n" * 20, Expected(None, "the bytes are text")
    yield "page.jpg", b"<!DOCTYPE html><html>404</html>", Expected(None, "an HTML page")
    yield "empty.jpg", b"", Expected(None, r"empty \(0 bytes\)")
    huge = Expected(None, "60,000 x 60,000")
    yield "huge.png", _png_of_size(png, 60_000), huge
    frame = jpeg.index(b"\xff\xc0") + 5  # after marker, length and precision
    yield "huge.jpg", jpeg[:frame] + struct.pack(">HH", 60_000, 60_000) + jpeg[frame + 4 :], huge


def _names() -> Made:
    png = _encoded(scene())
    double = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(60)
    yield "png-named.jpg", png, Expected(same="scene")
    yield "UPPER.PNG", png, Expected(same="scene")
    yield "new\nline.png", png, Expected()
    yield " spaces and %41 [1] 'quotes' \"too\".png", png, Expected()
    yield "日本 größe 🦁.png", png, Expected()
    yield os.fsdecode(b"caf\xe9.png"), png, Expected()
    yield os.fsdecode(b"gr\xfc\xdfe.jpg"), b"", Expected(None, r"empty \(0 bytes\)")
    yield "folder.jpg/inside.png", png, Expected()
    yield "._orientation-1.jpg", double, Expected(None, "not a picture", found=False)
    yield ".hidden/a.png", png, Expected(found=False)
    yield "no-suffix", png, Expected(found=False)
    yield "notes.txt", b"notes", Expected(None, "the bytes are text", found=False)


def _links(folder: Path) -> dict[str, Expected]:
    """Circular links, dangling links, and folders that contain themselves."""
    made: dict[str, Expected] = {}
    for name, to, expected in (
        ("circle-a.jpg", "circle-b.jpg", Expected(None, "symbolic links|no such file")),
        ("circle-b.jpg", "circle-a.jpg", Expected(None, "symbolic links|no such file")),
        ("dangling.jpg", "gone.jpg", Expected(None, "no such file")),
        ("link.png", "UPPER.PNG", Expected(same="scene")),
    ):
        with contextlib.suppress(OSError):
            (folder / name).symlink_to(to)
            made[name] = expected
    with contextlib.suppress(OSError):
        (folder / "itself").symlink_to(folder, target_is_directory=True)
        (folder / "up").mkdir()
        (folder / "up" / "again").symlink_to("..", target_is_directory=True)
    return made


def _special(folder: Path) -> dict[str, Expected]:
    """A pipe, and a file that its owner may not read."""
    made = {}
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        made["pipe.jpg"] = Expected(None, "not a plain file")
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root can read everything
        (folder / "unreadable.png").write_bytes(_encoded(scene()))
        (folder / "unreadable.png").chmod(0)
        made["unreadable.png"] = Expected(None, "Permission denied")
    return made


def _deep(folder: Path) -> dict[str, Expected]:
    """A path nearly as long as the system allows, created in steps because it is too long for one call."""
    if not hasattr(os, "pathconf") or os.mkdir not in os.supports_dir_fd:
        return {}
    room = os.pathconf(folder, "PC_PATH_MAX") - len(os.fsencode(folder.resolve())) - 20
    parts = [_FOLDER_NAME] * (room // (len(_FOLDER_NAME) + 1))
    here = os.open(folder, os.O_RDONLY)
    for part in parts:
        os.mkdir(part, dir_fd=here)
        below = os.open(part, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with open(os.open("deep.png", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb") as file:  # noqa: PTH123
        file.write(_encoded(scene()))
    os.close(here)
    return {"/".join([*parts, "deep.png"]): Expected(same="scene")}


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _png_of_size(png: bytes, side: int) -> bytes:
    """The same file with another size in its header."""
    header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
