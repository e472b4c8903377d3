"""What a picture's header tells without decoding it: size, format, when, where and with what, words, stars.

`blocks` finds the blocks of metadata, whatever the format keeps them in; `exif`, `words`, `dates` and
`places` read them; here the fields are put in their order of trust. Only the header is read, and damaged
metadata costs nothing but itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from diptych.media.decoding.formats import open_known
from diptych.media.decoding.iptc import CREATED, DIGITIZED
from diptych.media.decoding.raw import NotRawError, is_raw, raw_header
from diptych.media.metadata.blocks import Blocks, blocks_of, of_tiff_tags
from diptych.media.metadata.dates import PartialDate, first_date, read_date
from diptych.media.metadata.exif import camera_of, clean, dates_of, maker_and_model, place_of, sound
from diptych.media.metadata.places import NOWHERE, Place
from diptych.media.metadata.words import captions_of, iptc_texts, keywords_of, rating_in
from diptych.media.metadata.xmp_fields import XmpFields, xmp_dates, xmp_place
from diptych.media.sources import Limits, Source, name_of, naming, opened

_ORIENTATION = 0x0112
_PNG_DATES = {"creation time": "PNG Creation Time", "time": "PNG tIME"}
_QUARTER_TURNS = (5, 6, 7, 8)  # the orientations that swap width and height


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
        By the clock of whatever wrote it, without a zone; the beginning of a date that is known in part.
    latitude, longitude : float, optional
        In degrees, north and east above zero; both or neither.
    camera : str
        Maker and model, the maker once; "" where nothing says.
    captions, keywords : tuple of str
        What people wrote into the file, each text once: descriptions, then titles. A keyword that is a path
        stands there with each of its levels: "places|sea", "places" and "sea".
    taken_from : str
        Which field gives the date, as `diptych.media.metadata.dates.SOURCES` names them, with " (day only)",
        " (month only)" or " (year only)" behind it for a date in part; "" without a date.
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
    blocks: Blocks


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
            return _described(_header_of(file, name))


def _header_of(file: BinaryIO, name: str) -> _Header:
    if is_raw(file, name):
        try:
            return _raw_header(file)
        except NotRawError:
            pass
    return _header(open_known(file, name), file)


def _described(header: _Header) -> Details:
    blocks = header.blocks
    xmp = sound(lambda: XmpFields(blocks.xmp), XmpFields())
    taken, taken_from = sound(lambda: first_date(_dates(blocks, xmp)), (None, ""))
    latitude, longitude = sound(lambda: _place(blocks, xmp), NOWHERE)
    return Details(
        *header.size,
        format=header.format,
        taken=taken,
        latitude=latitude,
        longitude=longitude,
        camera=sound(lambda: _camera(blocks, xmp), ""),
        captions=sound(lambda: captions_of(blocks, xmp), ()),
        keywords=sound(lambda: keywords_of(blocks, xmp), ()),
        taken_from=taken_from,
        rating=sound(lambda: rating_in(blocks, xmp), None),
    )


def _dates(blocks: Blocks, xmp: XmpFields) -> Iterator[tuple[str, PartialDate | None]]:
    """Every date of the picture, in any order."""
    yield from dates_of(blocks.exif)
    yield from xmp_dates(xmp)
    press = dict(reversed([(key, text) for key, text in iptc_texts(blocks) if text]))  # the first of each
    for source, (date, time) in (("IPTC DateCreated", CREATED), ("IPTC DigitalCreationDate", DIGITIZED)):
        if date in press:
            yield source, read_date(f"{press[date]} {press.get(time, '')}")
    for name, text in blocks.texts:
        if (field := _PNG_DATES.get(name.strip().casefold())) is not None:
            yield field, read_date(text)


def _place(blocks: Blocks, xmp: XmpFields) -> Place:
    place = place_of(blocks.exif)
    return xmp_place(xmp) if place == NOWHERE else place


def _camera(blocks: Blocks, xmp: XmpFields) -> str:
    maker, model = maker_and_model(blocks.exif)
    return camera_of(maker or clean(xmp.text("tiff:Make")), model or clean(xmp.text("tiff:Model")))


def _header(image: Image.Image, file: BinaryIO | None) -> _Header:
    blocks = blocks_of(image, file)
    # What Pillow itself takes for the picture's EXIF turns it when it is loaded; other blocks do not.
    exif = sound(lambda: Image.Image.getexif(image), Image.Exif())
    size = image.size
    # Pillow's TIFF pictures say their upright size before they are turned.
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    if not is_tiff and sound(lambda: exif.get(_ORIENTATION), 1) in _QUARTER_TURNS:
        size = size[::-1]
    return _Header(size, image.format or "", blocks)


def _raw_header(file: BinaryIO) -> _Header:
    size, exif = raw_header(file)
    blocks = Blocks(exif)
    return _Header(size, "RAW", sound(lambda: of_tiff_tags(blocks), blocks))
