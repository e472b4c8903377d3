"""TIFF with any layout of samples under lossless compression; other layouts are refused by name.

Pillow has a table of layouts. Some it decodes wrongly (16-bit planes), others it rejects as damaged (floats,
three samples of 32 bits, CMYK with alpha). Its libtiff can decompress them all: given a directory that
declares the pixels as plain bytes, it returns them, and they are interpreted here. Big-endian BigTIFF, which
Pillow cannot read, is first converted to a classic TIFF with the same pixels.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

from PIL import Image, TiffImagePlugin

from diptych.errors import ImageError
from diptych.media.decoding.layouts.tiff_samples import Layout, image_of_samples
from diptych.media.decoding.layouts.tiff_strips import read_samples
from diptych.media.decoding.native import libtiff_messages

_COMPRESSION, _PHOTOMETRIC, _PLANAR = 259, 262, 284
_BITS, _SAMPLES, _FORMAT, _EXTRA = 258, 277, 339, 338
_FILL_ORDER, _PREDICTOR = 266, 317
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}
_NAMES = {
    2: "CCITT", 3: "CCITT fax 3", 4: "CCITT fax 4", 6: "old JPEG", 7: "JPEG", 32766: "NeXT", 32771: "CCITT",
    32809: "ThunderScan", 34661: "JBIG", 34676: "LogLuv", 34677: "LogLuv of 24 bits", 34712: "JPEG 2000",
    33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG of DNG",
    34926: "old Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_FAX = {2, 3, 4, 32771, 32809}


class TiffImage(TiffImagePlugin.TiffImageFile):
    """A TIFF whose pixels are decoded by this package unless Pillow decodes the layout correctly."""

    layout: Layout | None = None

    def _setup(self) -> None:
        self.layout = _layout(self)
        try:
            super()._setup()
        except (SyntaxError, LookupError, ValueError):
            # Only the size is needed now; an unsupported layout is reported when the pixels are loaded.
            self._mode = "RGB"
            tags = self.tag_v2
            size = (int(tags[256]), int(tags[257]))
            self._tile_size = size
            self._size = size[::-1] if tags.get(274) in (5, 6, 7, 8) else size
            self.tile = []
            self.use_load_libtiff = True

    def load(self) -> Any:
        """Load the pixels by Pillow or by this package; libtiff's messages become part of the error.

        Raises
        ------
        ImageError
            The layout is not supported.
        OSError
            The pixels are damaged.
        """
        layout, self.layout = self.layout, None
        with libtiff_messages() as messages:
            try:
                if layout is None or self._im is not None or _pillow_reads(layout):
                    return super().load()
                self._load_layout(layout)
            except ImageError:
                raise
            except Exception as error:
                reason = "; ".join(dict.fromkeys(messages)) or str(error)
                raise OSError(f"{reason} (libtiff)" if messages else reason) from error
        return Image.Image.load(self)

    def _load_layout(self, layout: Layout) -> None:
        if layout.compression not in _LOSSLESS:
            name = _NAMES.get(layout.compression, f"compression {layout.compression}")
            raise ImageError(
                f"a TIFF of {layout.described}, {name}: Pillow's libtiff does not read this layout"
            )
        assert self.fp is not None
        self.fp.seek(0)
        decoded = image_of_samples(layout, read_samples(self.fp.read(), layout))
        self.im, self._mode, self.palette = decoded.im, decoded.mode, decoded.palette
        self._size = decoded.size
        self.tile, self.readonly = [], 0
        self.load_end()  # applies the orientation


def open_tiff(file: BinaryIO, name: str) -> Image.Image:
    """Open a TIFF of any layout; no pixels are decoded."""
    file.seek(0)
    if file.read(4) == BIG_ENDIAN:
        file.seek(0)
        return TiffImage(io.BytesIO(to_classic_tiff(file.read())), "")
    file.seek(0)
    return TiffImage(file, name)


def _layout(image: TiffImagePlugin.TiffImageFile) -> Layout | None:
    """The layout that the directory declares; None if it is invalid, which Pillow will report."""
    tags = image.tag_v2
    try:
        samples = int(tags.get(_SAMPLES, 1))
        bits = {int(value) for value in _as_tuple(tags.get(_BITS, (1,)))[:samples]}
        formats = {int(value) for value in _as_tuple(tags.get(_FORMAT, (1,)))[:samples]}
        size = int(tags[256]), int(tags[257])
        extra = tuple(int(value) for value in _as_tuple(tags.get(_EXTRA, ())))
        # The photometric interpretation is mandatory; if it is missing, 0 is assumed.
        return Layout(
            size=size,
            bits=bits.pop() if len(bits) == 1 else 0,
            format=formats.pop() if len(formats) == 1 else 0,
            samples=samples,
            photometric=int(tags.get(_PHOTOMETRIC, 0)),
            planar=int(tags.get(_PLANAR, 1)) == 2 and samples > 1,
            extra=extra,
            compression=int(tags.get(_COMPRESSION, 1)),
            fill_order=int(tags.get(_FILL_ORDER, 1)),
            predictor=int(tags.get(_PREDICTOR, 1)),
            order=">" if tags.prefix[:2] == b"MM" else "<",
            tags=tags,
        )
    except (KeyError, TypeError, ValueError, struct.error):
        return None


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _pillow_reads(layout: Layout) -> bool:
    """Whether Pillow decodes this layout correctly: plain layouts, fax and JPEG compression."""
    plain = not layout.planar and not layout.extra
    if layout.compression in _FAX:
        return plain and layout.samples == 1 and layout.bits in (1, 4)
    if layout.compression in (6, 7):
        readable = {(0, 1), (1, 1), (2, 3), (5, 4), (6, 3), (6, 1)} if plain else {(2, 4), (1, 2)}
        return layout.bits == 8 and not layout.planar and (layout.photometric, layout.samples) in readable
    if layout.compression == 50001:
        return plain and layout.bits == 8 and (layout.photometric, layout.samples) == (2, 3)
    if layout.photometric == 6:  # YCbCr: libtiff undoes the chroma subsampling
        return plain and layout.samples == 3 and layout.bits == 8 and layout.compression != 1
    return (
        plain
        and layout.compression in _LOSSLESS
        and layout.format == 1
        and layout.fill_order == 1
        and layout.predictor in (1, 2)
        and (layout.bits, layout.photometric, layout.samples)
        in {(1, 0, 1), (1, 1, 1), (8, 0, 1), (8, 1, 1), (8, 2, 3), (8, 3, 1)}
    )


BIG_ENDIAN = b"MM\0+"
_LONG, _LONG8, _SLONG8, _IFD8 = 4, 16, 17, 18
_SIZES = (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 8, 8, 8)  # bytes of a value of each type
_WIDTHS = dict(zip((*range(1, 14), _LONG8, _SLONG8, _IFD8), _SIZES, strict=True))
_MOST_PAGES, _MOST_TAGS, _MOST_VALUES = 1000, 4096, 2**24


def to_classic_tiff(data: bytes) -> bytes:
    """Rewrite the directories with 4-byte offsets; all other data stays at its position.

    Raises
    ------
    SyntaxError
        Not a BigTIFF, or too long for 4-byte offsets.
    struct.error
        The file is truncated.
    """
    if len(data) >= 2**32:
        raise SyntaxError("a big-endian BigTIFF of more than 4 GB: Pillow reads only little-endian ones")
    result = bytearray(data)
    (at,) = struct.unpack_from(">Q", data, 8)
    link, visited = 4, set[int]()  # link: position at which the offset of the next directory is written
    while at and at not in visited and len(visited) < _MOST_PAGES:
        visited.add(at)
        entries, at = _directory(data, at, result)
        start = len(result) + len(result) % 2
        result = result.ljust(start, b"\0")
        result += struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)
        struct.pack_into(">I", result, link, start)
        link = len(result) - 4
    result[:4] = b"MM\0*"
    return bytes(result)


def _directory(data: bytes, at: int, result: bytearray) -> tuple[list[bytes], int]:
    """Entries of a directory in classic form, and the next offset; long values are appended to `result`.

    A BigTIFF entry has 20 bytes: tag (2), type (2), count (8), value or its offset (8). A classic one has 12.
    """
    (count,) = struct.unpack_from(">Q", data, at)
    if count > _MOST_TAGS:
        raise SyntaxError(f"a directory of {count:,} tags")
    entries = []
    for position in range(at + 8, at + 8 + 20 * count, 20):
        tag, kind, number = struct.unpack_from(">HHQ", data, position)
        width = _WIDTHS.get(kind)
        if width is None or number > _MOST_VALUES:
            continue
        start = position + 12 if width * number <= 8 else struct.unpack_from(">Q", data, position + 12)[0]
        value = data[start : start + width * number]
        if kind in (_LONG8, _SLONG8, _IFD8):
            numbers = struct.unpack(f">{number}Q", value)
            kind = _LONG
            value = struct.pack(f">{number}I", *(min(offset, 2**32 - 1) for offset in numbers))
        if len(value) > 4:
            result += value + bytes(len(value) % 2)
            value = struct.pack(">I", len(result) - len(value) - len(value) % 2)
        entries.append(struct.pack(">HHI", tag, kind, number) + value.ljust(4, b"\0"))
    (after,) = struct.unpack_from(">Q", data, at + 8 + 20 * count)
    return entries, after
