"""Header details: times, locations, cameras, captions, keywords; damaged headers raise nothing."""

from __future__ import annotations

import io
import struct
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

from diptych.errors import ImageError
from diptych.media import load_image, read_details
from tests.media.metadata_files import XMP, encoded, exif_of, iptc_of, png_with, resource, with_iptc

TIME, MAKE, MODEL, WORDS, TURN = 0x0132, 0x010F, 0x0110, 0x010E, 0x0112
ORIGINAL, ORIGINAL_PART, DIGITIZED, DIGITIZED_PART = 0x9003, 0x9291, 0x9004, 0x9292
TEXTS = XMP.format(
    "<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>Löwe am\n Fluss</rdf:li></rdf:Alt>"
    "</dc:description><dc:subject><rdf:Bag><rdf:li>lion</rdf:li><rdf:li>river</rdf:li>"
    "<rdf:li>lion</rdf:li></rdf:Bag></dc:subject>"
).encode()


def tagged(
    main: dict[int, Any], block: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> Any:
    return read_details(encoded(exif=exif_of(main, block, gps)))


# --------------------------------------------------------------------------------------- size and format


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_loaded_pictures(orientation: int, kind: str) -> None:
    data = encoded(kind, (48, 20), exif=exif_of({TURN: orientation}))
    details = read_details(data)
    assert (details.width, details.height) == load_image(data).size
    assert details.format == kind
    if kind != "AVIF":  # the library's version decides whether it turns the picture
        assert (details.width, details.height) == ((48, 20) if orientation < 5 else (20, 48))


def test_a_block_behind_the_pixels_turns_as_it_does_when_loaded() -> None:
    data = png_with((b"eXIf", exif_of({TURN: 6}).tobytes().removeprefix(b"Exif\0\0")))
    details = read_details(data)
    assert (details.width, details.height) == load_image(data).size == (20, 40)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_photoshop_picture_turns_as_its_exif_says(depth: int) -> None:
    block = resource(0x0422, exif_of({TURN: 6}).tobytes().removeprefix(b"Exif\0\0"))
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 12, 16, depth, 3)
    data = head + struct.pack(">II", 0, len(block)) + block + bytes(6 + 3 * 12 * 16 * depth // 8)
    details = read_details(data)
    assert (details.width, details.height) == load_image(data).size == (12, 16)


def test_every_kind_of_source(tmp_path: Path) -> None:
    data = encoded(exif=exif_of({MAKE: "Canon"}))
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with Image.open(path) as picture:
        for source in (path, str(path), data, io.BytesIO(data), picture):
            details = read_details(source)
            assert (details.width, details.height, details.format, details.camera) == (
                40,
                20,
                "JPEG",
                "Canon",
            )


def test_no_pixel_is_decoded_and_what_is_cut_short_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = exif_of({MAKE: "Canon"})
    whole = [encoded(kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, "PNG")

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    assert [read_details(data).camera for data in whole] == ["Canon"] * 4
    assert read_details(huge.getvalue()).width == 20_000
    assert read_details(whole[0][:-20]).camera == "Canon"


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_bytes(b"words")
    (tmp_path / "none.jpg").touch()
    for name, item in (
        ("words.jpg", "the bytes are text"),
        ("none.jpg", r"empty \(0 bytes\)"),
        ("gone.jpg", "no such file"),
    ):
        with pytest.raises(ImageError, match=f"{name}: .*{item}"):
            read_details(tmp_path / name)
    with pytest.raises(ImageError, match=r"album.zip/1.jpg: not a picture"):
        read_details(b"words", "album.zip/1.jpg")


# ------------------------------------------------------------------------------------------------- EXIF


def test_the_time_of_the_shutter_comes_before_the_others() -> None:
    block = {ORIGINAL: "2021:03:04 05:06:07", ORIGINAL_PART: "25", DIGITIZED: "2022:01:01 00:00:00"}
    changed = {TIME: "2023:01:01 00:00:00"}
    assert tagged(changed, block).taken == datetime(2021, 3, 4, 5, 6, 7, 250_000)
    block[ORIGINAL] = "0000:00:00 00:00:00"
    block[DIGITIZED_PART] = "007"
    assert tagged(changed, block).taken == datetime(2022, 1, 1, 0, 0, 0, 7000)
    assert tagged(changed).taken == datetime(2023, 1, 1)


@pytest.mark.parametrize(
    "time",
    [
        "0000:00:00 00:00:00",
        "2021:13:01 00:00:00",
        "    :  :     :  :  ",
        "yesterday",
        "",
        "2021:02:30 1:2:3",
    ],
)
def test_a_time_that_is_none(time: str) -> None:
    assert tagged({TIME: time}, {ORIGINAL: time}).taken is None


def degrees(*parts: tuple[int, int]) -> tuple[IFDRational, ...]:
    return tuple(IFDRational(*part) for part in parts)


NORTH = degrees((52, 1), (30, 1), (36, 1))
EAST = degrees((13, 1), (22, 1), (4800, 100))


@pytest.mark.parametrize(
    ("sides", "signs"), [("NE", (1, 1)), ("SE", (-1, 1)), ("NW", (1, -1)), ("SW", (-1, -1)), ("se", (-1, 1))]
)
def test_places_have_signs(sides: str, signs: tuple[int, int]) -> None:
    details = tagged({}, gps={1: sides[0], 2: NORTH, 3: sides[1], 4: EAST})
    assert details.latitude == pytest.approx(signs[0] * 52.51)
    assert details.longitude == pytest.approx(signs[1] * (13 + 22 / 60 + 48 / 3600))


@pytest.mark.parametrize(
    "gps",
    [
        {},
        {1: "N", 2: NORTH},
        {1: "X", 2: NORTH, 3: "E", 4: EAST},
        {1: "N", 2: degrees((52, 0), (30, 1), (0, 1)), 3: "E", 4: EAST},
        {1: "N", 2: degrees((52, 1), (0, 0), (0, 0)), 3: "E", 4: EAST},
        {1: "N", 2: degrees((91, 1), (0, 1), (0, 1)), 3: "E", 4: EAST},
        {1: "N", 2: NORTH, 3: "E", 4: degrees((181, 1), (0, 1), (0, 1))},
        {1: "N", 2: degrees((0, 1), (0, 1), (0, 1)), 3: "E", 4: degrees((0, 1), (0, 1), (0, 1))},
        {1: "N", 2: 52.5, 3: "X", 4: EAST},
    ],
)
def test_places_that_are_none(gps: dict[int, Any]) -> None:
    details = tagged({}, gps=gps)
    assert details.latitude is None
    assert details.longitude is None


@pytest.mark.parametrize(
    ("maker", "model", "camera"),
    [
        ("Apple", "iPhone 7", "Apple iPhone 7"),
        ("Canon", "Canon EOS 5D\0\0", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("EASTMAN KODAK COMPANY", "KODAK DX4330", "KODAK DX4330"),
        ("  samsung ", "SM-G950F", "samsung SM-G950F"),
        ("", "HERO9 Black", "HERO9 Black"),
        ("Canon", "", "Canon"),
    ],
)
def test_the_maker_is_named_once(maker: str, model: str, camera: str) -> None:
    assert tagged({MAKE: maker, MODEL: model}).camera == camera


# ------------------------------------------------------------------------------------ captions, keywords


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_words_in_every_format(kind: str) -> None:
    exif = exif_of({WORDS: "L__we  im Bild"}).tobytes().replace(b"L__we", "Löwe".encode())
    options: dict[str, Any] = {"exif": exif, "xmp": TEXTS}
    if kind == "PNG":
        options = {"exif": exif, "pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", TEXTS.decode())
    elif kind == "TIFF":
        options = {"tiffinfo": TiffImagePlugin.ImageFileDirectory_v2()}
        options["tiffinfo"].update({WORDS: "Löwe  im Bild".encode(), 700: TEXTS})
        options["tiffinfo"].tagtype.update({WORDS: 2, 700: 1})
    details = read_details(encoded(kind, **options))
    assert details.captions == ("Löwe im Bild", "Löwe am Fluss")
    assert details.keywords == ("lion", "river")


def test_words_behind_the_pixels_of_a_png() -> None:
    data = png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TEXTS), (b"tEXt", b"a\0b"))
    assert read_details(data).keywords == ("lion", "river")
    assert load_image(data).size == (40, 20)


def test_words_of_the_press() -> None:
    iptc = iptc_of(
        (25, b"zoo"), (25, "Löwe".encode()), (120, "Löwin".encode("cp1252")), (25, b"zoo"), (5, b"x")
    )
    details = read_details(with_iptc(encoded(), iptc))
    assert (details.captions, details.keywords) == (("Löwin", "x"), ("zoo", "Löwe"))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33723] = iptc
    tags.tagtype[33723] = 7
    assert read_details(encoded("TIFF", tiffinfo=tags)).keywords == ("zoo", "Löwe")


def test_long_fields_of_the_press() -> None:
    text = b"w" * 40_000
    iptc = b"\x1c\x02\x78\x80\x04" + struct.pack(">I", len(text)) + text + iptc_of((25, b"zoo"))
    details = read_details(with_iptc(encoded(), iptc))
    assert (details.captions, details.keywords) == ((text.decode(),), ("zoo",))


@pytest.mark.parametrize("text", ["OLYMPUS DIGITAL CAMERA         ", "SONY DSC", " \0", "\x01\x02"])
def test_what_cameras_say_of_themselves_is_no_caption(text: str) -> None:
    assert tagged({WORDS: text}).captions == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_encodings_of_xmp(encoding: str) -> None:
    text = TEXTS.decode().partition("\n")[2].partition("<?xpacket")[0]  # without the packet's wrapper
    assert read_details(encoded(xmp=text.encode(encoding))).keywords == ("lion", "river")


def test_xmp_as_attributes_and_plain_text() -> None:
    plain = XMP.format("<dc:description>by the river</dc:description>")
    short = plain.replace('rdf:about=""', 'rdf:about="" dc:description="a lion"')
    short = short.replace(
        "<rdf:Description ", '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" ', 1
    )
    short = short.replace('xmlns:dc="http://purl.org/dc/elements/1.1/"', "", 1)
    assert read_details(encoded(xmp=short.encode())).captions == ("a lion", "by the river")


def bomb(encoding: str) -> bytes:
    laughs = '<!DOCTYPE z [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
    )
    text = XMP.format("<dc:description>&j;</dc:description>").partition("\n")[2]
    return (laughs + "]>" + text).encode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32-be"])
def test_entities_are_not_expanded(encoding: str) -> None:
    """A small entity that a default parser would expand, an external file, and an exponential one."""
    text = XMP.format("<dc:description>&a;</dc:description>").partition("\n")[2]
    small, file = '<!DOCTYPE z [<!ENTITY a "haha">]>', '<!DOCTYPE z [<!ENTITY a SYSTEM "file:///etc/hosts">]>'
    assert ElementTree.fromstring(small + text) is not None
    for hostile in ((small + text).encode(encoding), (file + text).encode(encoding), bomb(encoding)):
        assert read_details(encoded("WEBP", xmp=hostile)).captions == ()


def test_long_and_deep_xmp_is_left_alone() -> None:
    long = XMP.format("<dc:description>x</dc:description>" + " " * 2**20).encode()
    assert read_details(encoded("WEBP", xmp=long)).captions == ()
    deep = b"<a>" * 100_000 + b"</a>" * 100_000
    assert read_details(encoded("WEBP", xmp=deep)).captions == ()


# --------------------------------------------------------------------------------------------- any bytes


@settings(max_examples=300)
@given(
    st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\0\0\0\x08"]), st.binary()
)
def test_random_exif_never_raises(magic: bytes, data: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        details = read_details(encoded(kind, exif=magic + data))
        assert {details.width, details.height} == {40, 20}


WHOLE = exif_of(
    {MAKE: "Canon", MODEL: "EOS", WORDS: "words", TIME: "2023:01:01 00:00:00"},
    {ORIGINAL: "2021:03:04 05:06:07", ORIGINAL_PART: "25"},
    {1: "N", 2: NORTH, 3: "E", 4: EAST},
).tobytes()


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(6, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_exif_never_raises(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for at, value in changes:
        damaged[at] = value
    details = read_details(encoded(exif=bytes(damaged)))
    assert {details.width, details.height} == {40, 20}
    assert details.latitude is None or -90 <= details.latitude <= 90


@settings(max_examples=300)
@given(
    st.binary() | st.text().map(lambda text: XMP.format(text).encode("utf-8", "surrogatepass")), st.binary()
)
def test_random_xmp_and_iptc_never_raise(xmp: bytes, iptc: bytes) -> None:
    details = read_details(with_iptc(encoded(xmp=xmp), iptc))
    assert (details.width, details.height) == (40, 20)
    read_details(png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0" + xmp), (b"eXIf", iptc)))


@settings(max_examples=200)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damaged_headers_raise_nothing_else(at: int, data: bytes) -> None:
    for whole in (png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TEXTS)), encoded("TIFF", xmp=TEXTS)):
        try:
            read_details(whole[:at] + data + whole[at + len(data) :])
        except ImageError:
            continue
