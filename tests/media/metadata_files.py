"""Test pictures with metadata in every location that a format allows, written byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">{}</rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def encoded(kind: str = "JPEG", size: tuple[int, int] = (40, 20), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


def exif_of(
    main: dict[int, Any], block: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> Any:
    exif = Image.Exif()
    exif.update(main)
    exif.get_ifd(0x8769).update(block or {})
    exif.get_ifd(0x8825).update(gps or {})
    return exif


def iptc_of(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(b"\x1c\x02" + bytes([tag]) + struct.pack(">H", len(v)) + v for tag, v in fields)


def with_iptc(jpeg: bytes, iptc: bytes) -> bytes:
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    body = b"Photoshop 3.0\0" + block
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def png_with(*chunks: tuple[bytes, bytes], behind: bool = True) -> bytes:
    png = encoded("PNG")
    at = png.index(b"IEND") - 4 if behind else png.index(b"IDAT") - 4
    made = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return png[:at] + made + png[at:]


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with additional segments, (marker, data), after its first ones."""
    at = jpeg.index(b"\xff\xdb")
    made = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments
    )
    return jpeg[:at] + made + jpeg[at:]


def resource(number: int, data: bytes) -> bytes:
    """One image resource of Photoshop."""
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + data + b"\0" * (len(data) % 2)


def raw_profile(name: str, data: bytes) -> bytes:
    """The text of a raw profile in PNG, as ImageMagick and exiftool write it."""
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return "\n".join(["", name, f"{len(data):8}", *lines, ""]).encode()


def psd_with(resources: bytes) -> bytes:
    """A Photoshop picture of 16 x 12 pixels with these resources."""
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 12, 16, 8, 3)
    return head + struct.pack(">II", 0, len(resources)) + resources + struct.pack(">IH", 0, 0) + bytes(576)


def box(kind: bytes, data: bytes) -> bytes:
    """A box of JPEG 2000 and similar formats."""
    return struct.pack(">I", len(data) + 8) + kind + data


def jp2_with(*boxes: bytes) -> bytes:
    """A JPEG 2000 picture with boxes before the pixels."""
    jp2 = encoded("JPEG2000")
    at = jp2.index(b"jp2c") - 4
    return jp2[:at] + b"".join(boxes) + jp2[at:]


def gif_with(extensions: bytes, *, behind: bool) -> bytes:
    """A GIF with extensions before its frame, or after it."""
    gif = encoded("GIF")
    at = len(gif) - 1 if behind else 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)
    return gif[:at] + extensions + gif[at:]
