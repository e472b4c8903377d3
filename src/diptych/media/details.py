"""What a picture's header tells without decoding it: size, format, when, where and with what, captions.

`exif` reads what cameras write and `words` what people write; here the blocks are found, whatever the format
keeps them in. Only the header is read, and damaged metadata costs nothing but itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from PIL import Image, PngImagePlugin, TiffImagePlugin

from diptych.media.exif import camera_of, place_of, sound, taken_at
from diptych.media.formats import is_raw, open_known
from diptych.media.raw import raw_header
from diptych.media.sources import Limits, Source, name_of, naming, opened
from diptych.media.words import captions_of, keywords_of

_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)  # the orientations that swap width and height
_PHOTOSHOP_IPTC = 0x0404
_TIFF_XMP, _TIFF_IPTC = 700, 33723
_PNG_HEAD = 8  # bytes before the first chunk
_MOST_CHUNKS = 100_000  # walked through in one PNG
_LARGEST_CHUNK = 2**24  # bytes of metadata read from one
_XMP_IN_PNG = b"XML:com.adobe.xmp\0\0\0"  # not compressed, as the standard has it


@dataclass(frozen=True)
class Details:
    """What a header tells of a picture.

    Attributes
    ----------
    width, height : int
        In pixels, of the picture that stands upright.
    format : str
        As Pillow names it: "JPEG", "PNG", "HEIF"; "RAW" for a camera's; "" for pixels in memory.
    taken : datetime, optional
        By the camera's clock, without a zone.
    latitude, longitude : float, optional
        In degrees, north and east above zero; both or neither.
    camera : str
        Maker and model, the maker once; "" where nothing says.
    captions, keywords : tuple of str
        What people wrote into the file, each text once.
    taken_from : str
        Which field gives the date, as "EXIF DateTimeOriginal"; "" without a date.
    rating : int, optional
        1 to 5 stars, 0 for "not rated", -1 for "rejected", as XMP has it (xmp:Rating).
    """

    width: int
    height: int
    format: str
    taken: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str = ""
    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    taken_from: str = ""
    rating: int | None = None


@dataclass(frozen=True)
class _Header:
    """A picture's size as it stands upright, its format and its blocks of metadata."""

    size: tuple[int, int]
    format: str
    exif: Image.Exif
    xmp: bytes = b""
    iptc: bytes = b""


def read_details(source: Source, name: str = "", *, limits: Limits | None = None) -> Details:
    """What the header of a picture tells; no pixel is decoded.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL.Image.Image
        As for `load_image`. Of a path only the header is read.
    name : str
        What messages call it, and whose suffix tells a camera's RAW; by default the source's own.
    limits : Limits, optional
        `max_bytes` holds; a picture of too many pixels is still described.

    Returns
    -------
    Details
        What is missing, damaged or nonsense in the metadata is left out.

    Raises
    ------
    ImageError
        Missing, a folder, empty, or no picture at all; the message names it.
    MissingExtraError
        A HEIC or camera RAW file, and the library for it is not installed.

    Notes
    -----
    Exif 2.32 (CIPA DC-008), XMP part 1 (ISO 16684-1) and IPTC's Information Interchange Model 4.2.

    Examples
    --------
    >>> read_details(Image.new("L", (40, 30)))
    Details(width=40, height=30, format='', taken=None, latitude=None, longitude=None, camera='', \
captions=(), keywords=(), taken_from='', rating=None)
    """
    name = name or name_of(source)
    with naming(name):
        if isinstance(source, Image.Image):
            return _described(_header(source, None))
        with opened(source, limits or Limits()) as file:
            return _described(_raw_header(file) if is_raw(name) else _header(open_known(file, name), file))


def _described(header: _Header) -> Details:
    latitude, longitude = sound(lambda: place_of(header.exif), (None, None))
    return Details(
        *header.size,
        format=header.format,
        taken=sound(lambda: taken_at(header.exif), None),
        latitude=latitude,
        longitude=longitude,
        camera=sound(lambda: camera_of(header.exif), ""),
        captions=sound(lambda: captions_of(header.exif, header.xmp, header.iptc), ()),
        keywords=sound(lambda: keywords_of(header.xmp, header.iptc), ()),
    )


def _header(image: Image.Image, file: BinaryIO | None) -> _Header:
    if isinstance(image, PngImagePlugin.PngImageFile) and file is not None:
        sound(lambda: _read_chunks(image, file), None)
    # Not image.getexif(): for PNG that decodes the pixels, in search of a block behind them.
    exif = sound(lambda: Image.Image.getexif(image), Image.Exif())
    size = image.size
    # Pillow's TIFF pictures say their upright size before they are turned.
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    if not is_tiff and sound(lambda: exif.get(_ORIENTATION), 1) in _QUARTER_TURNS:
        size = size[::-1]
    return _Header(size, image.format or "", exif, _xmp(image), _iptc(image))


def _raw_header(file: BinaryIO) -> _Header:
    size, exif = raw_header(file)
    blocks = sound(lambda: [exif.get(tag) for tag in (_TIFF_XMP, _TIFF_IPTC)], [])
    return _Header(size, "RAW", exif, *(block if isinstance(block, bytes) else b"" for block in blocks))


def _xmp(image: Image.Image) -> bytes:
    block = image.info.get("xmp", b"")
    return block if isinstance(block, bytes) else b""


def _iptc(image: Image.Image) -> bytes:
    """The block of a JPEG (among Photoshop's) or a TIFF (its own tag, as bytes or as numbers of four)."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        block = sound(lambda: image.tag_v2._tagdata[_TIFF_IPTC], b"")
    else:
        photoshop = image.info.get("photoshop")
        block = photoshop.get(_PHOTOSHOP_IPTC, b"") if isinstance(photoshop, dict) else b""
    return block if isinstance(block, bytes) else b""


def _read_chunks(image: Image.Image, file: BinaryIO) -> None:
    """Pillow stops before a PNG's pixels; many programs write the metadata behind them."""
    at = _PNG_HEAD
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in (b"", b"IEND"):
            return
        if kind in (b"eXIf", b"iTXt") and length <= _LARGEST_CHUNK:
            block = file.read(length)
            if kind == b"eXIf":
                image.info.setdefault("exif", b"Exif\0\0" + block)
            elif block.startswith(_XMP_IN_PNG):
                image.info.setdefault("xmp", block.removeprefix(_XMP_IN_PNG).split(b"\0", 2)[-1])
        at += length + 12
