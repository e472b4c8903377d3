"""Metadata of an image without decoding it: size, format, date, position, camera, captions, keywords, rating.

`metadata.blocks` extracts the metadata blocks from each format, the other modules of `metadata` parse them,
and this module chooses between their fields by priority. Damaged metadata is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from diptych.media.decoding.formats import open_non_raw
from diptych.media.decoding.iptc import CREATED, DIGITIZED
from diptych.media.decoding.raw import NotRawError, is_raw, raw_header
from diptych.media.metadata.blocks import Blocks, blocks_of, with_tiff_blocks
from diptych.media.metadata.dates import PartialDate, first_date, read_date
from diptych.media.metadata.exif import (
    camera_of,
    clean,
    dates_of,
    default_on_error,
    gps_position,
    maker_and_model,
)
from diptych.media.metadata.places import NO_POSITION, Position
from diptych.media.metadata.words import captions_of, iptc_texts, keywords_of, rating_in
from diptych.media.metadata.xmp_fields import XmpFields, xmp_dates, xmp_position
from diptych.media.sources import Limits, Source, name_of, naming, open_source

_ORIENTATION = 0x0112
_PNG_DATES = {"creation time": "PNG Creation Time", "time": "PNG tIME"}
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Details:
    """Metadata of an image.

    Attributes
    ----------
    width, height : int
        Size of the upright image in pixels.
    format : str
        Pillow's name of the format: "JPEG", "PNG", "HEIF"; "RAW" for camera RAW; "" for an image in memory.
    taken : datetime, optional
        Local time of the camera, without a time zone; the beginning of the day, month or year of a partial
        date.
    latitude, longitude : float, optional
        In degrees, positive to the north and east; both or neither.
    camera : str
        Maker and model, the maker once; "" if unknown.
    captions, keywords : tuple of str
        Unique texts written by people; of captions the descriptions first, then the titles. A hierarchical
        keyword is listed with each of its levels: "places|sea", "places" and "sea".
    taken_from : str
        Source of the date, one of `diptych.media.metadata.dates.SOURCES`, followed by " (day only)", " (month
        only)" or " (year only)" for a partial date; "" without a date.
    rating : int, optional
        1 to 5 stars, 0 for "not rated", -1 for "rejected", as in xmp:Rating.
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
    """Size of the upright image, format and metadata blocks."""

    size: tuple[int, int]
    format: str
    blocks: Blocks


def read_details(source: Source, name: str = "", *, limits: Limits | None = None) -> Details:
    """Read the metadata of an image without decoding its pixels.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL.Image.Image
        As for `load_image`. For a path only the header is read.
    name : str
        Name in messages; its suffix identifies camera RAW. By default the name of the source.
    limits : Limits, optional
        Only `max_bytes` applies.

    Returns
    -------
    Details
        Missing, damaged or invalid metadata is omitted.

    Raises
    ------
    ImageError
        The source is missing, a folder, empty, or not an image; the message names it.
    MissingExtraError
        The library for HEIC or camera RAW is not installed.

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
            return _details(_header(source, None))
        with open_source(source, limits or Limits()) as file:
            return _details(_header_of(file, name))


def _header_of(file: BinaryIO, name: str) -> _Header:
    if is_raw(file, name):
        try:
            return _raw_header(file)
        except NotRawError:
            pass
    return _header(open_non_raw(file, name), file)


def _details(header: _Header) -> Details:
    blocks = header.blocks
    xmp = default_on_error(lambda: XmpFields(blocks.xmp), XmpFields())
    taken, taken_from = default_on_error(lambda: first_date(_dates(blocks, xmp)), (None, ""))
    latitude, longitude = default_on_error(lambda: _position(blocks, xmp), NO_POSITION)
    return Details(
        *header.size,
        format=header.format,
        taken=taken,
        latitude=latitude,
        longitude=longitude,
        camera=default_on_error(lambda: _camera(blocks, xmp), ""),
        captions=default_on_error(lambda: captions_of(blocks, xmp), ()),
        keywords=default_on_error(lambda: keywords_of(blocks, xmp), ()),
        taken_from=taken_from,
        rating=default_on_error(lambda: rating_in(blocks, xmp), None),
    )


def _dates(blocks: Blocks, xmp: XmpFields) -> Iterator[tuple[str, PartialDate | None]]:
    """All dates of the image with their sources, in any order."""
    yield from dates_of(blocks.exif)
    yield from xmp_dates(xmp)
    iptc = dict(reversed([(key, text) for key, text in iptc_texts(blocks) if text]))  # the first of each key
    for source, (date, time) in (("IPTC DateCreated", CREATED), ("IPTC DigitalCreationDate", DIGITIZED)):
        if date in iptc:
            yield source, read_date(f"{iptc[date]} {iptc.get(time, '')}")
    for name, text in blocks.texts:
        if (field := _PNG_DATES.get(name.strip().casefold())) is not None:
            yield field, read_date(text)


def _position(blocks: Blocks, xmp: XmpFields) -> Position:
    position = gps_position(blocks.exif)
    return xmp_position(xmp) if position == NO_POSITION else position


def _camera(blocks: Blocks, xmp: XmpFields) -> str:
    maker, model = maker_and_model(blocks.exif)
    return camera_of(maker or clean(xmp.text("tiff:Make")), model or clean(xmp.text("tiff:Model")))


def _header(image: Image.Image, file: BinaryIO | None) -> _Header:
    blocks = blocks_of(image, file)
    # Only the EXIF that Pillow itself reads is applied when the image is loaded; other blocks are not.
    exif = default_on_error(lambda: Image.Image.getexif(image), Image.Exif())
    size = image.size
    # Pillow's TIFF images report the upright size already.
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    if not is_tiff and default_on_error(lambda: exif.get(_ORIENTATION), 1) in _QUARTER_TURNS:
        size = size[::-1]
    return _Header(size, image.format or "", blocks)


def _raw_header(file: BinaryIO) -> _Header:
    size, exif = raw_header(file)
    blocks = Blocks(exif)
    return _Header(size, "RAW", default_on_error(lambda: with_tiff_blocks(blocks), blocks))
