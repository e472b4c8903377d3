"""Metadata blocks in every location that a format allows: all are read, and damaged ones raise nothing."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from diptych.errors import ImageError
from diptych.media import read_details
from diptych.media.decoding.iptc import data_sets, photoshop_resources
from diptych.media.metadata import blocks
from diptych.media.metadata.blocks import exif_of as read_exif
from diptych.media.metadata.exif import read_comment
from tests.media.metadata_files import (
    XMP,
    box,
    encoded,
    exif_of,
    gif_with,
    iptc_of,
    jp2_with,
    png_with,
    psd_with,
    raw_profile,
    resource,
    with_iptc,
    with_segments,
)

PACKET = XMP.format("<dc:subject><rdf:Bag><rdf:li>lion</rdf:li></rdf:Bag></dc:subject>").encode()
PRESS = iptc_of((25, b"zoo"), (120, b"A lion in the zoo"))
EXIF = exif_of({0x010F: "Canon", 0x010E: "A lion at night"}).tobytes()
UUID_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
UUID_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")


def tiff(tag: int, kind: int, data: Any) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = data
    tags.tagtype[tag] = kind
    return encoded("TIFF", tiffinfo=tags)


FILES = {
    "png raw profiles": png_with(
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile("exif", EXIF))),
        (b"tEXt", b"Raw profile type iptc\0" + raw_profile("IPTC profile", resource(0x0404, PRESS))),
        (b"tEXt", b"Raw profile type xmp\0" + raw_profile("xmp", PACKET)),
    ),
    "png APP1 profiles": png_with(
        (b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(raw_profile("generic profile", EXIF))),
        (
            b"tEXt",
            b"Raw profile type APP1\0" + raw_profile("app1", b"http://ns.adobe.com/xap/1.0/\0" + PACKET),
        ),
        (b"tEXt", b"Raw profile type 8bim\0" + raw_profile("8bim", resource(0x0404, PRESS))),
    ),
    "png before the pixels": png_with(
        (b"eXIf", EXIF.removeprefix(b"Exif\0\0")),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(PACKET)),
        (b"tEXt", b"Raw profile type iptc\0" + raw_profile("iptc", PRESS)),
        behind=False,
    ),
    "psd": psd_with(resource(0x0422, EXIF) + resource(0x0404, PRESS) + resource(0x0424, PACKET)),
    "jp2": jp2_with(
        box(b"uuid", b"JpgTiffExif->JP2" + EXIF.removeprefix(b"Exif\0\0")),
        box(b"uuid", UUID_IPTC + PRESS),
        box(b"uuid", UUID_XMP + PACKET),
    ),
    "jp2 by Photoshop": jp2_with(
        box(
            b"uuid",
            bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb")
            + resource(0x0422, EXIF)
            + resource(0x0404, PRESS),
        ),
        box(b"uuid", UUID_XMP + PACKET),
    ),
    "jpeg": with_iptc(encoded(exif=EXIF, xmp=PACKET), PRESS),
    "jpeg, resources cut in two": with_segments(
        encoded(exif=EXIF, xmp=PACKET),
        *(
            (0xED, b"Photoshop 3.0\0" + part)
            for part in (resource(0x0404, PRESS)[:20], resource(0x0404, PRESS)[20:])
        ),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_all_blocks_of_every_format(name: str) -> None:
    details = read_details(FILES[name])
    assert details.camera == "Canon"
    assert details.keywords == ("lion", "zoo")
    assert details.captions == ("A lion at night", "A lion in the zoo")


@pytest.mark.parametrize(("kind", "swapped"), [(1, False), (7, False), (4, False), (4, True)])
def test_the_press_in_a_tiff_as_bytes_and_as_numbers_of_four(kind: int, swapped: bool) -> None:
    press = PRESS + b"\0" * (-len(PRESS) % 4)
    if swapped:
        press = b"".join(press[at : at + 4][::-1] for at in range(0, len(press), 4))
    data = tiff(33723, 7, press)
    entry = struct.pack("<HHI", 33723, 7, len(press))
    assert data.count(entry) == 1
    count = len(press) // 4 if kind == 4 else len(press)
    data = data.replace(entry, struct.pack("<HHI", 33723, kind, count))
    assert read_details(data).keywords == ("zoo",)


def test_photoshop_s_resources_in_a_tiff() -> None:
    assert read_details(tiff(34377, 7, resource(0x0404, PRESS))).keywords == ("zoo",)


def test_a_gif_s_comments_and_packet() -> None:
    comment = b"!\xfe\x06A lion\x05 here\0"
    packet = b"!\xff\x0bXMP DataXMP" + PACKET + b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    for behind in (True, False):
        details = read_details(gif_with(comment + packet, behind=behind))
        assert (details.captions, details.keywords) == (("A lion here",), ("lion",))


def test_comments_of_a_jpeg() -> None:
    data = with_segments(encoded(), (0xFE, "Löwe im Zoo".encode()), (0xFE, b"Created with GIMP"))
    assert read_details(data).captions == ("Löwe im Zoo",)


def test_xmp_over_several_segments() -> None:
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    note = XMP.replace(
        'rdf:about=""', f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid.decode()}"'
    )
    long = XMP.format("<dc:description>" + "long " * 20_000 + "</dc:description>").encode()
    parts = []
    for name in (guid, b"F" * 32):  # the remainder of an older packet is ignored
        text = long if name == guid else PACKET
        for at in range(0, len(text), 60_000):
            head = b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">II", len(text), at)
            parts.append((0xE1, head + text[at : at + 60_000]))
    details = read_details(with_segments(encoded(xmp=note.format("").encode()), *reversed(parts)))
    assert details.captions == (("long " * 20_000).strip(),)
    assert details.keywords == ()


def test_thousands_of_packets_and_of_ids_are_each_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searching every id in every packet would take hours for a file of some megabytes."""
    searched = []

    class Counting:
        def search(self, packet: bytes) -> object:
            searched.append(packet)
            return pattern.search(packet)

    pattern = blocks._EXTENDED_ID
    monkeypatch.setattr(blocks, "_EXTENDED_ID", Counting())
    packets = [b"http://ns.adobe.com/xap/1.0/\0" + b"%04d" % n for n in range(1000)]
    ids = [b"http://ns.adobe.com/xmp/extension/\0" + b"%032d" % n + bytes(8) for n in range(1000)]
    read_details(with_segments(encoded(), *((0xE1, segment) for segment in packets + ids)))
    assert len(searched) <= 1001


def test_photoshop_s_segments_are_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    keyword = resource(0x0404, b"\x1c\x02\x19\x00\x03dog")
    halves = [b"Photoshop 3.0\0" + keyword[:9], b"Photoshop 3.0\0" + keyword[9:]]
    data = with_segments(encoded(), *((0xED, half) for half in halves))
    assert read_details(data).keywords == ("dog",)
    monkeypatch.setattr(blocks, "_LARGEST", 12)
    assert read_details(data).keywords == ()


def test_texts_of_a_png() -> None:
    details = read_details(
        png_with(
            (b"tEXt", b"Title\0Bike"),
            (b"zTXt", b"Comment\0\0" + zlib.compress(b"at the wall")),
            (b"iTXt", "Description\0\0\0de\0Beschreibung\0Ein Fahrrad für Käthe".encode()),
            (b"tEXt", b"Software\0Anna's own program"),
            (b"tEXt", "Keywords\0Rad; Straße".encode("latin-1")),
        )
    )
    assert details.captions == ("Ein Fahrrad für Käthe", "at the wall", "Bike")
    assert details.keywords == ("Rad", "Straße")


def test_a_long_text_of_a_png_costs_nothing_but_itself() -> None:
    bomb = zlib.compress(b"x" * 2**25, 9)
    details = read_details(png_with((b"zTXt", b"Comment\0\0" + bomb), (b"tEXt", b"Title\0Bike")))
    assert details.captions == ("Bike",)


@pytest.mark.parametrize("end", [b"", b"\0\0"])
def test_what_windows_writes(end: bytes) -> None:
    def text(value: str) -> bytes:
        return value.encode("utf-16-le") + end

    main = {
        0x9C9B: text("The wall"),
        0x9C9C: text("Größe"),
        0x9C9E: text("sea; Käthe;"),
        0x9C9F: text("Subject"),
    }
    details = read_details(encoded(exif=exif_of(main)))
    assert details.captions == ("Größe", "The wall", "Subject")
    assert details.keywords == ("sea", "Käthe")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ASCII\0\0\0a red bicycle", "a red bicycle"),
        (b"ASCII\0\0\0a red bicycle\0\0\0garbage", "a red bicycle"),
        (b"ASCII   a red bicycle", "a red bicycle"),
        (b"ASCII\0\0\0" + "größer".encode("cp1252"), "größer"),
        (b"ASCII\0\0\0" + "größer".encode(), "größer"),
        (b"UNICODE\0" + "größer".encode("utf-16-le"), "größer"),
        (b"UNICODE\0" + "größer".encode("utf-16-be"), "größer"),
        (b"UNICODE\0" + "größer".encode("utf-16"), "größer"),
        (b"Unicode\0" + "犬と自転車".encode("utf-16-be"), "犬と自転車"),
        (b"JIS\0\0\0\0\0" + "犬と自転車".encode("iso2022_jp"), "犬と自転車"),
        (b"\0\0\0\0\0\0\0\0a red bicycle", "a red bicycle"),
        (b"a red bicycle", "a red bicycle"),
        (b"ASCII\0\0\0", ""),
        (b"ASCII\0\0\0        ", ""),
        (b"\0\0\0\0\0\0\0\0\x01\x02\x03\x04\x05\xff\xfe\x80", ""),
        (b"", ""),
    ],
)
def test_user_comments(data: bytes, text: str) -> None:
    assert read_comment(data, big=True) == text
    if data:
        assert read_details(encoded(exif=exif_of({}, {0x9286: data}))).captions == ((text,) if text else ())


STARS = [
    ({0x4746: 3}, "", 3), ({0x4749: 75}, "", 4), ({0x4746: 75}, "", 4), ({0x4746: 0}, "", 0), ({}, "", None),
    ({0x4746: 3}, 'xmp:Rating="-1"', -1), ({}, 'xmp:Rating="5"', 5), ({}, 'xmp:Rating="4.0"', 4),
    ({}, 'xmp:Rating="7"', None), ({}, 'xmp:Rating="nan"', None), ({}, 'xmp:Rating="many"', None),
    ({}, 'm:Rating="99"', 5), ({}, 'm:Rating="1"', 1), ({}, 'm:Rating="1000"', None),
    ({0x4746: 999}, "", None),
]  # fmt: skip


@pytest.mark.parametrize(("main", "field", "stars"), STARS)
def test_stars(main: dict[int, int], field: str, stars: int | None) -> None:
    declared = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:m="http://ns.microsoft.com/photo/1.0/"'
    packet = XMP.replace('rdf:about=""', f'rdf:about="" {declared} {field}').format("").encode()
    assert read_details(encoded(exif=exif_of(main), xmp=packet)).rating == stars


def test_paths_of_keywords_and_people() -> None:
    def bag(name: str, *words: str) -> str:
        return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{word}</rdf:li>' for word in words)}</rdf:Bag></{name}>"

    declared = (
        'xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:digiKam="http://www.digikam.org/ns/1.0/" '
        'xmlns:m="http://ns.microsoft.com/photo/1.0/" xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    )
    fields = (
        bag("dc:subject", "sea")
        + bag("lr:hierarchicalSubject", "places|sea|2024", "darktable|exported")
        + bag("digiKam:TagsList", "places/sea/2024", "_Digikam_Internal_Tags_/Color Label None")
        + bag("m:LastKeywordXMP", "Zoo/Lion")
        + bag("e:PersonInImage", "Anna")
    )
    packet = XMP.replace('rdf:about=""', f'rdf:about="" {declared}').format(fields).encode()
    assert read_details(encoded(xmp=packet)).keywords == (
        *("sea", "places", "2024", "places|sea|2024"), *("Zoo", "Lion", "Zoo|Lion", "Anna"),
    )  # fmt: skip


def test_what_a_montage_says_of_its_ingredients_is_not_the_picture_s() -> None:
    inner = (
        '<rdf:Description dc:description="another picture"><dc:subject><rdf:Bag><rdf:li>other</rdf:li>'
        "</rdf:Bag></dc:subject></rdf:Description>"
    )
    fields = (
        '<m:Pantry xmlns:m="http://ns.adobe.com/xap/1.0/mm/"><rdf:Bag><rdf:li>'
        f"{inner}</rdf:li></rdf:Bag></m:Pantry>"
    )
    details = read_details(encoded(xmp=XMP.format(fields).encode()))
    assert (details.captions, details.keywords) == ((), ())


def test_the_default_language_comes_first() -> None:
    fields = (
        '<dc:description><rdf:Alt><rdf:li xml:lang="de">Löwe</rdf:li>'
        '<rdf:li xml:lang="x-default">lion</rdf:li></rdf:Alt></dc:description>'
    )
    assert read_details(encoded(xmp=XMP.format(fields).encode())).captions == ("lion", "Löwe")


def test_the_camera_in_xmp_fills_what_exif_lacks() -> None:
    packet = XMP.replace(
        'rdf:about=""',
        'rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Make="Canon" tiff:Model="EOS 5D"',
    )
    assert read_details(encoded(xmp=packet.format("").encode())).camera == "Canon EOS 5D"
    data = encoded(exif=exif_of({0x0110: "EOS 6D"}), xmp=packet.format("").encode())
    assert read_details(data).camera == "Canon EOS 6D"


# --------------------------------------------------------------------------------------------- any bytes


@given(st.binary() | st.binary().map(lambda data: b"\x1c\x02" + data))
def test_any_bytes_as_blocks_of_the_press(data: bytes) -> None:
    assert sum(len(value) for _, value in data_sets(data)) <= len(data)
    assert sum(map(len, photoshop_resources(b"8BIM" + data).values())) <= len(data)
    assert isinstance(read_exif(data), Image.Exif)
    assert isinstance(read_comment(data, big=False), str)


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6))
def test_damage_never_raises_anything_else(name: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(FILES[name])
    for at, value in changes:
        data[int(at * (len(data) - 1))] = value
    try:
        details = read_details(io.BytesIO(data))
    except ImageError:
        return
    assert details.rating is None or -1 <= details.rating <= 5


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([b"uuid", b"xml ", b"jp2c"]), st.integers(0, 2**32 - 1))
def test_any_bytes_in_boxes_chunks_and_extensions(data: bytes, kind: bytes, size: int) -> None:
    jp2 = jp2_with(struct.pack(">I", size) + kind + data)
    for file in (jp2, gif_with(b"!\xff" + data, behind=True), png_with((b"zTXt", data), (b"iTXt", data))):
        try:
            read_details(file)
        except ImageError:
            continue
