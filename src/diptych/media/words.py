"""What people wrote into a picture: descriptions and keywords, from EXIF, XMP and IPTC.

XMP is XML from strangers: documents that declare types or entities are refused unparsed, so that none can
grow while it is read, and long ones are not looked at. Finding the blocks in a file is left to `details`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from PIL import Image

from diptych.media.exif import clean

_DESCRIPTION = 0x010E
_LARGEST_XMP = 2**20  # bytes; real ones have about ten thousand
_DC = "{http://purl.org/dc/elements/1.1/}"
_RDF_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_IPTC_KEYWORD, _IPTC_CAPTION = (2, 25), (2, 120)
_IPTC_MARK = 0x1C
# What cameras write where a description belongs.
_NOT_SAID_BY_ANYONE = frozenset(
    {"olympus digital camera", "konica minolta digital camera", "minolta digital camera", "sony dsc"}
    | {"digital camera", "dcim", "dav", "default", "samsung", "exif_jpeg_picture", "exif jpeg"}
    | {"screenshot", "untitled", "kodak digital still camera", "pentax digital camera", "image description"}
)


def captions_of(exif: Image.Exif, xmp: bytes, iptc: bytes) -> tuple[str, ...]:
    """Each description once: EXIF's, then XMP's, then IPTC's; what cameras put there by themselves is not."""
    said = [
        clean(exif.get(_DESCRIPTION)),
        *_of_xmp(xmp, "description"),
        *(clean(value) for key, value in _of_iptc(iptc) if key == _IPTC_CAPTION),
    ]
    return _once(text for text in said if text.casefold() not in _NOT_SAID_BY_ANYONE)


def keywords_of(xmp: bytes, iptc: bytes) -> tuple[str, ...]:
    """Each keyword once: XMP's, then IPTC's."""
    listed = (clean(value) for key, value in _of_iptc(iptc) if key == _IPTC_KEYWORD)
    return _once([*_of_xmp(xmp, "subject"), *listed])


def _of_xmp(data: bytes, name: str) -> list[str]:
    """The texts of one Dublin Core property, as list items, plain text or an attribute."""
    root = _parsed(data)
    if root is None:
        return []
    texts: list[str | None] = []
    for element in root.iter():
        if element.tag == f"{_DC}{name}":
            items = [item.text for item in element.iter(_RDF_ITEM)]
            texts += items or [element.text]
        texts.append(element.get(f"{_DC}{name}"))
    return [clean(text) for text in texts if text]


def _parsed(data: bytes) -> ElementTree.Element | None:
    if not data or len(data) > _LARGEST_XMP:
        return None
    try:
        text = data.decode(encoding_of(data)).strip("\0 \r\n\t\ufeff")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return None
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeError, ValueError, LookupError):
        return None


def encoding_of(data: bytes) -> str:
    """XMP may be in UTF-16 and UTF-32 too; its first character is "<" or a byte order mark."""
    for start, encoding in (
        (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
        (b"<\0\0\0", "utf-32-le"), (b"\0\0\0<", "utf-32-be"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"),
    ):  # fmt: skip
        if data.startswith(start):
            return encoding
    return "utf-8"


def _of_iptc(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Data sets of IPTC's Information Interchange Model: mark, record, number, length in two bytes, value."""
    at = 0
    while at + 5 <= len(data) and data[at] == _IPTC_MARK:
        size, start = int.from_bytes(data[at + 3 : at + 5], "big"), at + 5
        if size & 0x8000:  # the length itself is this long
            longer = size & 0x7FFF
            size, start = int.from_bytes(data[start : start + min(longer, 8)], "big"), start + longer
        if start + size > len(data):
            return
        yield (data[at + 1], data[at + 2]), data[start : start + size]
        at = start + size


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
