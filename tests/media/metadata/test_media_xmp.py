"""Keywords in XMP sidecars: added and removed, with everything else unchanged byte by byte."""

from __future__ import annotations

import contextlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import ImageError
from diptych.media.metadata import xmp
from diptych.media.metadata.exif import clean
from diptych.media.metadata.xmp import keywords_in, merge_keywords, tidy_keyword
from diptych.media.metadata.xmp_fields import XmpFields

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
LIGHTROOM = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<!-- edited by hand: 5 < 6 -->
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about='a > b' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="{DC}" xmp:Rating="4">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Oma &amp; Opa</rdf:li>
     <rdf:li>dog</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <xmp:Label>Rot</xmp:Label>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
DARKTABLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""
    xmlns:darktable="http://darktable.sf.net/"
   darktable:xmp_version="5">
   <darktable:history><rdf:Seq><rdf:li darktable:operation="exposure"/></rdf:Seq></darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
EXIF = 'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:Flash="0"'
BARE = f'<r:RDF xmlns:r="{RDF}"><r:Description {EXIF}/></r:RDF>'
DEFAULT_PREFIX = (
    f'<RDF xmlns="{RDF}"><Description><s:subject xmlns:s="{DC}"><Bag><li>mine</li></Bag></s:subject>'
    "</Description></RDF>"
)


def subject(inside: str) -> str:
    """A sidecar with this content in its keyword property."""
    return (
        f'<r:RDF xmlns:r="{RDF}"><r:Description><s:subject xmlns:s="{DC}">{inside}</s:subject>'
        "</r:Description></r:RDF>"
    )


EMPTY_BAG, PLAIN = subject("<r:Bag/>"), subject("mine")
SIDECARS = (LIGHTROOM, DARKTABLE, BARE, DEFAULT_PREFIX, EMPTY_BAG, PLAIN)

words = st.text(max_size=20)
keywords = st.lists(words, max_size=6)


def tidy(texts: list[str]) -> list[str]:
    return [word for word in dict.fromkeys(map(tidy_keyword, texts)) if word]


def others(data: bytes) -> list[tuple[str, str | None, tuple[tuple[str, str], ...]]]:
    """All elements except the keywords."""
    root = ElementTree.fromstring(data.decode("utf-8-sig"))
    gone = {
        inner
        for outer in root.iter()
        if outer.tag in (f"{{{DC}}}subject", "{urn:diptych:1.0:}keywords")
        for inner in outer.iter()
    }
    return [
        (item.tag, (item.text or "").strip(), tuple(sorted(item.attrib.items())))
        for item in root.iter()
        if item not in gone
    ]


@given(wanted=keywords)
def test_a_new_sidecar_holds_the_keywords_and_goes_with_them(wanted: list[str]) -> None:
    made = merge_keywords(None, wanted)
    if not tidy(wanted):
        assert made is None
        return
    assert made is not None
    assert keywords_in(made) == (tuple(tidy(wanted)), tuple(tidy(wanted)))
    read = map(
        clean, XmpFields([made]).texts("dc:subject")
    )  # as an index reads it: without invisible characters
    assert list(dict.fromkeys(filter(None, read))) == list(
        dict.fromkeys(filter(None, map(clean, tidy(wanted))))
    )
    assert merge_keywords(made, wanted) == made
    assert merge_keywords(made, []) is None


@pytest.mark.parametrize("old", SIDECARS)
@given(first=keywords, second=keywords)
def test_what_people_wrote_stays(old: str, first: list[str], second: list[str]) -> None:
    data = old.encode()
    own = keywords_in(data)[0]
    once = merge_keywords(data, first)
    assert once is not None
    assert others(once) == others(data)
    assert set(keywords_in(once)[0]) == {*own, *tidy(first)}
    assert set(keywords_in(once)[1]) == set(tidy(first)) - set(own)
    twice = merge_keywords(once, second)
    assert twice is not None
    assert set(keywords_in(twice)[0]) == {*own, *tidy(second)}
    undone = merge_keywords(twice, [])
    assert undone is not None
    assert keywords_in(undone) == (own, ())
    assert others(undone) == others(data)


@pytest.mark.parametrize("old", [LIGHTROOM, DARKTABLE, DEFAULT_PREFIX])
def test_undone_it_is_the_same_to_the_byte(old: str) -> None:
    data = old.encode()
    changed = merge_keywords(data, ["snow", "a < b"])
    assert changed is not None
    assert changed != data
    assert merge_keywords(changed, []) == data


def test_a_keyword_of_ones_own_is_never_taken_for_ours() -> None:
    changed = merge_keywords(LIGHTROOM.encode(), ["dog", "snow"])
    assert changed is not None
    assert changed.count(b"<rdf:li>dog</rdf:li>") == 1
    assert merge_keywords(changed, []) == LIGHTROOM.encode()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_the_encoding_stays(encoding: str) -> None:
    data = LIGHTROOM.removeprefix("\ufeff").encode(encoding)
    changed = merge_keywords(data, ["größe"])
    assert changed is not None
    assert "größe" in changed.decode(encoding)
    assert merge_keywords(changed, []) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not XMP"),
        (b"<a/>", "no rdf:RDF"),
        (b"<a><b></a>", "not XMP"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "types or entities"),
        ('<?xml version="1.0" encoding="latin-1"?><a>é</a>'.encode("latin-1"), "not XMP"),
        (b'<?xml version="1.0" encoding="latin-1"?><a/>', "is in latin-1"),
        (
            f'<r:RDF xmlns:r="{RDF}" xmlns:s="{DC}"><r:Description s:subject="x"/></r:RDF>'.encode(),
            "it was not changed",
        ),
    ],
)
def test_what_is_not_understood_is_left_alone(data: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        merge_keywords(data, ["dog"])


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        merge_keywords(data, ["dog"])


def test_a_text_of_many_lines_is_put_together_once() -> None:
    """The parser delivers single lines: joining them one by one would take hours for a large text."""
    text = subject("\n" * 400_000)
    pieces = [len(node.text_parts) for node in xmp._parsed(text.encode()).walk()]
    assert max(pieces) <= 400_000 / 1000
    assert keywords_in(text.encode()) == ((), ())


def test_many_keywords_go_and_come() -> None:
    words = [f"word {number}" for number in range(3000)]
    made = merge_keywords(LIGHTROOM.encode(), words)
    assert made is not None
    assert keywords_in(made) == (("Oma & Opa", "dog", *words), tuple(words))
    assert merge_keywords(made, []) == LIGHTROOM.encode()


def test_documents_within_documents_are_not_read() -> None:
    """Without the limit each level would be read once for every level above it."""
    for depth in (0, 1, 500):
        fields = _nested(depth)
        assert fields.texts("dc:title") == ["title 0"]
        assert fields.texts("mwg-rs:Name") == ["Anna"]


def _nested(depth: int) -> XmpFields:
    inside = ""
    for level in range(depth, -1, -1):
        inside = (
            f'<rdf:RDF><rdf:Description dc:title="title {level}"><m:Regions><rdf:li m:Name="Anna"/>{inside}'
            "</m:Regions></rdf:Description></rdf:RDF>"
        )
    names = (
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/"'
    )
    return XmpFields([f"<x {names}>{inside}</x>".encode()])
