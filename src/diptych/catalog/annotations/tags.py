"""Tags of pictures, and their ratings: written by origin, counted, taken away.

An *origin* is who gave a tag: the name of a list of labels; `FILE` for keywords in the picture itself;
`SIDECAR` for keywords in files beside it; `HAND` for what a person said here, of single pictures. A picture
may have one tag from several origins; giving or clearing one never touches another. `tagging` judges which
labels fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diptych.catalog.annotations.annotations import (
    FILE,
    HAND,
    ORIGINS_READ,
    RATINGS,
    SIDECAR,
    clear_set_aside,
)
from diptych.catalog.database.database import Database, in_parts
from diptych.errors import InputError
from diptych.files.unicode_text import composed


@dataclass(frozen=True)
class TagCount:
    """How many pictures have a tag from an origin."""

    origin: str
    tag: str
    pictures: int


def check_origin(origin: str) -> str:
    """The origin, stripped, if labels may have it.

    Raises
    ------
    InputError
        A blank name, or that of tags of another kind.

    Examples
    --------
    >>> check_origin(" animals ")
    'animals'
    """
    name = origin.strip()
    if not name or name in (*ORIGINS_READ, HAND):
        raise InputError(
            f"{origin!r} cannot be the name of a list of labels: it is blank, or stands for keywords that "
            "were read from files (file, sidecar) or given by hand (hand)"
        )
    return name


def keep_keywords(database: Database, content: int, keywords: Sequence[str]) -> None:
    """Keywords in a picture's file become its tags of origin `FILE`; the caller holds a transaction."""
    _replace(database, FILE, content, dict.fromkeys(keywords, 1.0))


def keep_rating(database: Database, content: int, rating: int | None) -> None:
    """The rating in a picture's file becomes its one of origin `FILE`; the caller holds a transaction."""
    database.run("DELETE FROM ratings WHERE content = ? AND origin = ?", (content, FILE))
    if rating:  # 0 says that nobody has rated it
        database.run(
            "INSERT INTO ratings (content, origin, rating) VALUES (?, ?, ?)", (content, FILE, rating)
        )


def give(database: Database, origin: str, given: Mapping[int, Mapping[str, float]]) -> int:
    """Set the tags that pictures have from an origin, in one transaction.

    Parameters
    ----------
    database : Database
    origin : str
    given : mapping
        Content -> tag -> score; an empty mapping takes the tags of this origin away. Pictures that have left
        the catalogue meanwhile are passed over.

    Returns
    -------
    int
        How many pictures have other tags now, or other scores.
    """
    with database.writing():
        before = _scores(database, origin, list(given))
        changed = [content for content, tags in given.items() if before.get(content, {}) != tags]
        there = _known(database, changed)
        for content in there:
            _replace(database, origin, content, given[content])
    return len(there)


def check_tag(tag: str) -> str:
    """A tag as it is kept: without space around it, in composed letters (NFC).

    Raises
    ------
    InputError
        Nothing is left of it, or it holds control characters.

    Examples
    --------
    >>> check_tag(" grandma ")
    'grandma'
    """
    kept = composed(tag.strip())
    if not kept or not kept.isprintable():
        raise InputError(f"{tag!r} cannot be a tag: expected a word or some, in one line")
    return kept


def add_tags(database: Database, contents: Sequence[int], tags: Sequence[str]) -> int:
    """Give pictures tags by hand; how many pictures had not all of them before."""
    with database.writing():
        before = _scores(database, HAND, contents)
        new = [content for content in contents if not before.get(content, {}).keys() >= set(tags)]
        database.many(
            "INSERT INTO tags (content, tag, score, origin) VALUES (?, ?, 1.0, ?) ON CONFLICT DO NOTHING",
            [(content, tag, HAND) for content in _known(database, new) for tag in tags],
        )
    return len(new)


def remove_tags(database: Database, contents: Sequence[int], tags: Sequence[str]) -> int:
    """Take tags away from pictures, by whatever list or hand they were given; how many there were.

    Keywords that were read from files stay: they would come back with the next reading.
    """
    with database.writing():
        return sum(
            database.run(
                "DELETE FROM tags WHERE content = ? AND tag = ? AND origin NOT IN (?, ?)",
                (content, tag, *ORIGINS_READ),
            )
            for content in contents
            for tag in tags
        )


def rate(database: Database, contents: Sequence[int], rating: int | None) -> int:
    """Rate pictures by hand; how many had another rating by hand.

    Parameters
    ----------
    database : Database
    contents : sequence of int
    rating : int or None
        -1 (rejected) to 5; None takes the rating by hand away, so that the file's own counts again.

    Raises
    ------
    InputError
        Another number.
    """
    if rating is not None and rating not in RATINGS:
        raise InputError(f"{rating} is no rating: expected 0 to 5, or -1 for rejected")
    with database.writing():
        if rating is None:
            return sum(
                database.run("DELETE FROM ratings WHERE content = ? AND origin = ?", (content, HAND))
                for content in contents
            )
        return sum(
            database.run(
                "INSERT INTO ratings (content, origin, rating) VALUES (?, ?, ?) "
                "ON CONFLICT (content, origin) DO UPDATE SET rating = excluded.rating "
                "WHERE ratings.rating <> excluded.rating",
                (content, HAND, rating),
            )
            for content in _known(database, contents)
        )


def ratings_of(database: Database, contents: Sequence[int]) -> dict[int, int]:
    """Content -> its rating: the one given by hand, else a sidecar's, else the file's own."""
    ratings: dict[int, dict[str, int]] = {}
    for marks, part in in_parts([int(content) for content in contents]):
        for content, origin, rating in database.all(
            f"SELECT content, origin, rating FROM ratings WHERE content IN ({marks})", part
        ):
            ratings.setdefault(content, {})[origin] = rating
    order = (HAND, SIDECAR, FILE)
    return {
        content: next((given[origin] for origin in order if origin in given), max(given.values()))
        for content, given in ratings.items()
    }


def clear(database: Database, origin: str) -> int:
    """Take away every tag of an origin; how many pictures' tags there were."""
    with database.writing():
        clear_set_aside(database, origin)
        return database.run("DELETE FROM tags WHERE origin = ?", (origin,))


def count_tags(database: Database, origin: str | None = None) -> list[TagCount]:
    """Tags by origin, the most frequent first."""
    where, values = ("", ()) if origin is None else ("WHERE origin = ? ", (origin,))
    found = database.all(
        f"SELECT origin, tag, COUNT(*) FROM tags {where}GROUP BY origin, tag ORDER BY origin, 3 DESC, tag",
        values,
    )
    return [TagCount(*row) for row in found]


def given_tags(database: Database, contents: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Content -> the tags it was given here, whatever the origin, without keywords of its own file."""
    found: dict[int, dict[str, None]] = {}
    for marks, part in in_parts([int(content) for content in contents]):
        for content, tag in database.all(
            f"SELECT content, tag FROM tags WHERE origin NOT IN (?, ?) AND content IN ({marks}) ORDER BY tag",
            (*ORIGINS_READ, *part),
        ):
            found.setdefault(content, {})[tag] = None
    return {content: tuple(tags) for content, tags in found.items()}


def _scores(database: Database, origin: str, contents: Sequence[int]) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for marks, part in in_parts([int(content) for content in contents]):
        for content, tag, score in database.all(
            f"SELECT content, tag, score FROM tags WHERE origin = ? AND content IN ({marks})", (origin, *part)
        ):
            found.setdefault(content, {})[tag] = score
    return found


def _known(database: Database, contents: Sequence[int]) -> list[int]:
    """Those of these pictures that are still there."""
    found: set[int] = set()
    for marks, part in in_parts([int(content) for content in contents]):
        found |= {row[0] for row in database.all(f"SELECT id FROM contents WHERE id IN ({marks})", part)}
    return [content for content in contents if content in found]


def _replace(database: Database, origin: str, content: int, tags: Mapping[str, float]) -> None:
    database.run("DELETE FROM tags WHERE content = ? AND origin = ?", (content, origin))
    database.many(
        "INSERT INTO tags (content, tag, score, origin) VALUES (?, ?, ?, ?)",
        [(content, tag, score, origin) for tag, score in tags.items()],
    )
