"""Parse the properties of XMP packets: texts, lists and attributes, in all spellings that RDF allows.

XMP is untrusted XML: documents that declare types or entities are refused without parsing, so that entities
cannot expand, and long documents are ignored. Writing into sidecars is in `xmp`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from diptych.media.metadata.dates import PartialDate, read_date
from diptych.media.metadata.exif import clean
from diptych.media.metadata.places import Position, read_position

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
LARGEST_PACKET = 2**20  # bytes; usual packets have about 10,000, with thumbnails a little more
_DATES = (
    *("exif:DateTimeOriginal", "photoshop:DateCreated", "exif:DateTimeDigitized", "xmp:CreateDate"),
    *("dc:date", "exif:GPSTimeStamp", "tiff:DateTime", "xmp:ModifyDate"),
)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PREFIXES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://ns.adobe.com/xmp/note/": "xmpNote",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.2/": "MP",
    "http://ns.microsoft.com/photo/1.2/t/RegionInfo#": "MPRI",
    "http://ns.microsoft.com/photo/1.2/t/Region#": "MPReg",
    "http://www.metadataworkinggroup.com/schemas/regions/": "mwg-rs",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.iview-multimedia.com/mediapro/1.0/": "mediapro",
    "http://ns.acdsee.com/iptc/1.0/": "acdsee",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "urn:diptych:1.0:": "diptych",
}


class XmpFields:
    """The properties of the XMP packets of an image or sidecar, those of the first packet first.

    Parameters
    ----------
    packets : iterable of bytes
        Damaged, hostile and too long packets are ignored.
    largest : int
        Maximum size of a packet in bytes.

    Examples
    --------
    >>> packet = b'''<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
    ...     xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
    ...     xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'''
    >>> XmpFields([packet]).text("xmp:Rating")
    '4'
    """

    def __init__(self, packets: Iterable[bytes] = (), *, largest: int = LARGEST_PACKET) -> None:
        self._fields: dict[str, list[str]] = {}
        for packet in packets:
            root = _parsed(packet, largest)
            if root is not None:
                for name, texts in _properties(root):
                    self._fields.setdefault(name, []).extend(texts)

    def texts(self, name: str) -> list[str]:
        """All texts of a property, such as "dc:subject"; the default language first."""
        return self._fields.get(name, [])

    def text(self, name: str) -> str:
        """The first text of a property; "" if there is none."""
        return next(iter(self.texts(name)), "")

    def __bool__(self) -> bool:
        return bool(self._fields)


def xmp_dates(xmp: XmpFields, prefix: str = "XMP ") -> Iterator[tuple[str, PartialDate | None]]:
    """Yield (source, date) of every date field; sources as in `diptych.media.metadata.dates.SOURCES`.

    Parameters
    ----------
    prefix : {"XMP ", "sidecar XMP "}
        Whether the packet is in the image or in a sidecar.
    """
    for name in _DATES:
        date = next((date for text in xmp.texts(name) if (date := read_date(clean(text)))), None)
        yield f"{prefix}{name}{' (UTC)' if name == 'exif:GPSTimeStamp' else ''}", date


def xmp_position(xmp: XmpFields) -> Position:
    """Latitude and longitude in degrees, positive to the north and east; both None if unknown."""
    north, east = xmp.text("exif:GPSLatitudeRef"), xmp.text("exif:GPSLongitudeRef")
    return read_position(xmp.text("exif:GPSLatitude"), north, xmp.text("exif:GPSLongitude"), east)


def encoding_of(data: bytes) -> str:
    """Encoding of an XMP packet (UTF-8, UTF-16, UTF-32), which begins with "<" or a byte order mark."""
    for start, encoding in (
        (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
        (b"<\0\0\0", "utf-32-le"), (b"\0\0\0<", "utf-32-be"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"),
    ):  # fmt: skip
        if data.startswith(start):
            return encoding
    return "utf-8"


def _parsed(data: bytes, largest: int) -> ElementTree.Element | None:
    if not data or len(data) > largest:
        return None
    try:
        text = _decoded(data).strip("\0 \r\n\t\ufeff")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return None
        text = re.sub(r"\A<\?xml[^>]*\?>", "", text)  # its encoding declaration no longer applies
        return ElementTree.fromstring(_NOT_XML.sub("", text))
    except (ElementTree.ParseError, UnicodeError, ValueError, LookupError):
        return None


def _decoded(data: bytes) -> str:
    encoding = encoding_of(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise
        return data.decode("cp1252", "replace")


def _properties(root: ElementTree.Element) -> Iterator[tuple[str, list[str]]]:
    """Yield (name, texts) of each property of the image itself.

    Only descriptions directly in rdf:RDF are read: nested ones describe other images, such as the parts of a
    composite.
    """
    for rdf in _outside_rdf([root]):
        if rdf.tag != f"{_RDF}RDF":
            continue
        for description in rdf.findall(f"{_RDF}Description"):
            for attribute, value in description.items():
                if (name := _prefixed_name(attribute)) and value.strip():
                    yield name, [value]
            for element in description:
                if name := _prefixed_name(element.tag):
                    yield name, _texts(element)
                    yield from _people(name, element)


def _outside_rdf(elements: Iterable[ElementTree.Element]) -> Iterator[ElementTree.Element]:
    """Elements and their descendants in document order, without descending into rdf:RDF.

    Otherwise nested documents would be read once per level.
    """
    waiting = list(elements)[::-1]
    while waiting:
        element = waiting.pop()
        yield element
        if element.tag != f"{_RDF}RDF":
            waiting.extend(reversed(element))


def _prefixed_name(tag: str) -> str:
    """A tag with the usual prefix of its namespace, such as "dc:subject"; "" for other namespaces."""
    namespace, _, local = tag.removeprefix("{").partition("}")
    prefix = _PREFIXES.get(namespace, "")
    return f"{prefix}:{local}" if prefix and local else ""


def _texts(element: ElementTree.Element) -> list[str]:
    items = [item for kind in ("Alt", "Bag", "Seq") for item in element.findall(f"{_RDF}{kind}/{_RDF}li")]
    items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")  # stable: the others keep their order
    texts = [_value(item) for item in items or [element]]
    return [text for text in texts if text.strip()]


def _value(element: ElementTree.Element) -> str:
    """The text of an element, or of its rdf:value if it has qualifiers."""
    for path in (f"{_RDF}value", f"{_RDF}Description/{_RDF}value"):
        if (inner := element.find(path)) is not None:
            return inner.text or ""
    description = element.find(f"{_RDF}Description")
    attributes = (element if description is None else description).attrib
    return attributes.get(f"{_RDF}value") or attributes.get(f"{_RDF}resource") or element.text or ""


def _people(name: str, element: ElementTree.Element) -> Iterator[tuple[str, list[str]]]:
    """Names of people in the nested lists of face regions."""
    if name not in ("MP:RegionInfo", "mwg-rs:Regions"):
        return
    for inner in _outside_rdf([element]):
        fields = {_prefixed_name(attribute): value for attribute, value in inner.items()}
        fields[_prefixed_name(inner.tag)] = inner.text or ""
        for field in ("mwg-rs:Name", "MPReg:PersonDisplayName"):
            if fields.get(field, "").strip():
                yield field, [fields[field]]
