"""Read descriptions, titles, keywords, names of people and ratings from all metadata blocks of an image.

Default texts of cameras and programs are removed by `boilerplate`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from diptych.media.decoding import iptc
from diptych.media.metadata import exif as exif_fields
from diptych.media.metadata.blocks import Blocks
from diptych.media.metadata.boilerplate import strip_boilerplate
from diptych.media.metadata.exif import clean
from diptych.media.metadata.xmp_fields import XmpFields

_DESCRIPTIONS = (
    *("dc:description", "tiff:ImageDescription", "Iptc4xmpCore:AltTextAccessibility"),
    *("Iptc4xmpCore:ExtDescrAccessibility", "exif:UserComment", "acdsee:caption", "acdsee:notes"),
)
_TITLES = ("dc:title", "photoshop:Headline")
# Fields with hierarchical keywords, and the separator of their levels.
_PATHS = (
    *(("lr:hierarchicalSubject", "|"), ("digiKam:TagsList", "/"), ("MicrosoftPhoto:LastKeywordXMP", "/")),
    *(("mediapro:CatalogSets", "|"), ("acdsee:keywords", "|")),
)
_PEOPLE = ("Iptc4xmpExt:PersonInImage", "mwg-rs:Name", "MPReg:PersonDisplayName")
_PNG_DESCRIPTIONS, _PNG_TITLES = ("description", "comment"), ("title",)
_PNG_KEYWORDS = ("keywords", "keyword")
_INTERNAL = ("_digikam", "darktable|")  # prefixes of internal keywords of these programs


def captions_of(blocks: Blocks, xmp: XmpFields) -> tuple[str, ...]:
    """Unique descriptions, then titles, without boilerplate of cameras and programs."""
    exif = blocks.exif
    press_texts = list(iptc_texts(blocks))
    descriptions = [
        exif_fields.description_of(exif),
        *xmp.texts("dc:description"),
        *(text for key, text in press_texts if key == iptc.CAPTION),
        exif_fields.user_comment_of(exif),
        exif_fields.xp_text(exif, exif_fields.XP_COMMENT),
        *xmp_descriptions(xmp),
        *_texts_of(blocks, _PNG_DESCRIPTIONS),
    ]
    titles = [
        *xmp_titles(xmp),
        exif_fields.xp_text(exif, exif_fields.XP_TITLE),
        *(text for key, text in press_texts if key in (iptc.TITLE, iptc.HEADLINE)),
        *_texts_of(blocks, _PNG_TITLES),
        exif_fields.xp_text(exif, exif_fields.XP_SUBJECT),
    ]
    maker, model = exif_fields.maker_and_model(exif)
    camera = (maker, model, exif_fields.software_of(exif))
    return unique(strip_boilerplate(clean(text), camera) for text in (*descriptions, *titles))


def xmp_descriptions(xmp: XmpFields) -> list[str]:
    """The descriptions in XMP."""
    return [text for name in _DESCRIPTIONS for text in xmp.texts(name)]


def xmp_titles(xmp: XmpFields) -> list[str]:
    """The titles in XMP."""
    return [text for name in _TITLES for text in xmp.texts(name)]


def keywords_of(blocks: Blocks, xmp: XmpFields) -> tuple[str, ...]:
    """Unique keywords: plain ones, then hierarchical ones with all their levels, then names of people."""
    plain = [
        *xmp.texts("dc:subject"),
        *(text for key, text in iptc_texts(blocks) if key == iptc.KEYWORD),
        *re.split("[;\0]", exif_fields.xp_text(blocks.exif, exif_fields.XP_KEYWORDS)),
        *(word for text in _texts_of(blocks, _PNG_KEYWORDS) for word in re.split("[;,]", text)),
    ]
    return unique([*_levels(plain, "|"), *paths_and_people(xmp)])


def paths_and_people(xmp: XmpFields) -> list[str]:
    """The levels of hierarchical keywords and the full paths joined by "|"; then names of people."""
    paths = [word for name, separator in _PATHS for word in _levels(xmp.texts(name), separator)]
    return [*paths, *(clean(text) for name in _PEOPLE for text in xmp.texts(name))]


def plain_keywords(xmp: XmpFields) -> list[str]:
    """The keywords of dc:subject, hierarchical ones with all their levels."""
    return list(_levels(xmp.texts("dc:subject"), "|"))


def rating_in(blocks: Blocks, xmp: XmpFields) -> int | None:
    """Rating of 0 to 5 stars, or -1 for a rejected image; None if unknown."""
    for rating in (xmp_rating(xmp), exif_fields.rating_of(blocks.exif), xmp_percent(xmp)):
        if rating is not None:
            return rating
    return None


def xmp_rating(xmp: XmpFields) -> int | None:
    """The rating in xmp:Rating or acdsee:rating."""
    for name in ("xmp:Rating", "acdsee:rating"):
        value = _number(xmp.text(name))
        if -1 <= value <= 5:
            return round(value)
    return None


def xmp_percent(xmp: XmpFields) -> int | None:
    """The rating that Windows writes into XMP as a percentage, in stars."""
    value = _number(xmp.text("MicrosoftPhoto:Rating"))
    return exif_fields.stars_of_percent(value) if 0 <= value <= 100 else None


def iptc_texts(blocks: Blocks) -> Iterator[tuple[tuple[int, int], str]]:
    """Yield (data set, text) of each text in the IPTC blocks."""
    for block in blocks.iptc:
        for key, value in iptc.data_sets(block):
            yield key, clean(value)


def unique(texts: Iterable[str]) -> tuple[str, ...]:
    """Remove repeats and empty texts, keeping the order."""
    return tuple(dict.fromkeys(text for text in texts if text))


def _levels(texts: Iterable[str], separator: str) -> Iterator[str]:
    """Yield the levels of each keyword and the full path: "places|sea" gives places, sea and places|sea."""
    for text in texts:
        word = clean(text)
        if word.casefold().startswith(_INTERNAL):
            continue
        levels = [level.strip() for level in word.split(separator) if level.strip()]
        if len(levels) < 2:
            yield word
        else:
            yield from (*levels, "|".join(levels))


def _texts_of(blocks: Blocks, names: Iterable[str]) -> list[str]:
    """Texts with one of the given names: PNG chunks, and comments of other formats."""
    return [text for searched in names for name, text in blocks.texts if name.strip().casefold() == searched]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
