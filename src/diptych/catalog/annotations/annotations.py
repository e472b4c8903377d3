"""What people made of pictures in a catalogue: tags and ratings, kept whatever becomes of the files.

Annotations belong to a content, which is a picture by its bytes. They are lost nowhere:

- A content that leaves the catalogue (its files were deleted, moved away, put into the trash, or their drive
  is not there) leaves its annotations in the table `set_aside`, under the hash of its bytes. When the same
  bytes come back, from whatever folder, or an edit of them under the same name, `bring_back` gives them the
  annotations again.
- A file that was edited in place holds another content. `is_same_picture` says whether it is an edit of the
  picture that was there; then the new content gets a copy of the annotations.
- Exports write them as one text (`Annotations.to_json`), and imports read it.

Tags and ratings that were read from files (origins `FILE` and `SIDECAR`) are no annotations in this sense:
reading the file again brings them back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from diptych.catalog.database.database import in_parts

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database

# Who gave a tag or a rating, beside the names of lists of labels.
FILE, SIDECAR, HAND = "file", "sidecar", "hand"
ORIGINS_READ = (FILE, SIDECAR)  # read from files, so that reading them again brings these tags back
RATINGS = range(-1, 6)  # as XMP has it: -1 rejected, 0 not rated, 1 to 5 stars

Place: TypeAlias = tuple[bytes, str]  # path and member, as the table `files` has them

# Measured with the default model on 150 photographs (Flickr8k). Different pictures: no pair within 13 bits by
# either hash, one in five above the cosine of 0.6. Edits: resized, recoloured, mirrored ones and those cut to
# 70 % of their sides count as the same all, of those turned by a quarter 82 %, of those cut to half
# their sides 24 %; that is without dates, which decide where both have one.
SAME_BITS = 12
SAME_COSINE = 0.6
LEAST_COSINE = 0.4  # where the hashes agree: those of pictures without structure always do

_READ = f"({', '.join(repr(origin) for origin in ORIGINS_READ)})"


@dataclass(frozen=True)
class Annotations:
    """Tags and ratings of one picture.

    Attributes
    ----------
    tags : tuple of (origin, tag, score)
    ratings : tuple of (origin, rating)
    """

    tags: tuple[tuple[str, str, float], ...] = ()
    ratings: tuple[tuple[str, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tags or self.ratings)

    def to_json(self) -> str:
        """One line of JSON, with sorted entries.

        Examples
        --------
        >>> Annotations(tags=(("hand", "grandma", 1.0),), ratings=(("hand", 5),)).to_json()
        '{"tags": [["hand", "grandma", 1.0]], "ratings": [["hand", 5]]}'
        """
        return json.dumps({"tags": sorted(self.tags), "ratings": sorted(self.ratings)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Annotations:
        """Annotations from `to_json`'s text; entries that are none are left out, whatever wrote them.

        Examples
        --------
        >>> Annotations.from_json('{"tags": [["hand", "grandma", 1.0], ["hand"]], "ratings": [["hand", 9]]}')
        Annotations(tags=(('hand', 'grandma', 1.0),), ratings=())
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(values, dict):
            return cls()
        tags = values.get("tags")
        ratings = values.get("ratings")
        return cls(
            tags=tuple((entry[0], entry[1], float(entry[2])) for entry in _listed(tags) if _is_tag(entry)),
            ratings=tuple((entry[0], entry[1]) for entry in _listed(ratings) if _is_rating(entry)),
        )


@dataclass
class Fate:
    """What became of annotations when files changed or left.

    Attributes
    ----------
    carried : int
        Pictures edited in place that kept the annotations of their older bytes.
    set_aside : list of (path, member)
        Files of pictures that left, or gave way to another picture, with annotations: these wait in the
        catalogue for the same bytes.
    brought_back : int
        Pictures that got annotations that had been set aside.
    """

    carried: int = 0
    set_aside: list[Place] = field(default_factory=list)
    brought_back: int = 0

    def add(self, other: Fate) -> None:
        """Count another's too."""
        self.carried += other.carried
        self.set_aside += other.set_aside
        self.brought_back += other.brought_back


def read_annotations(database: Database, contents: Iterable[int]) -> dict[int, Annotations]:
    """Annotations of those of these contents that have any."""
    tags: dict[int, list[tuple[str, str, float]]] = {}
    ratings: dict[int, list[tuple[str, int]]] = {}
    for marks, part in in_parts(list(contents)):
        for content, *entry in database.all(
            f"SELECT content, origin, tag, score FROM tags WHERE content IN ({marks}) "
            f"AND origin NOT IN {_READ} ORDER BY origin, tag",
            part,
        ):
            tags.setdefault(content, []).append(tuple(entry))
        for content, *entry in database.all(
            f"SELECT content, origin, rating FROM ratings WHERE content IN ({marks}) "
            f"AND origin NOT IN {_READ} ORDER BY origin",
            part,
        ):
            ratings.setdefault(content, []).append(tuple(entry))
    return {
        content: Annotations(tuple(tags.get(content, ())), tuple(ratings.get(content, ())))
        for content in {**tags, **ratings}
    }


def annotate(database: Database, content: int, annotations: Annotations) -> None:
    """Add annotations to a content; what it has already stays. The caller holds a transaction."""
    database.many(
        "INSERT INTO tags (content, origin, tag, score) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(content, *entry) for entry in annotations.tags],
    )
    database.many(
        "INSERT INTO ratings (content, origin, rating) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(content, *entry) for entry in annotations.ratings],
    )


def withdraw(database: Database, content: int, annotations: Annotations) -> None:
    """Take these annotations away again where they are unchanged. The caller holds a transaction."""
    database.many(
        "DELETE FROM tags WHERE content = ? AND origin = ? AND tag = ? AND score = ?",
        [(content, *entry) for entry in annotations.tags],
    )
    database.many(
        "DELETE FROM ratings WHERE content = ? AND origin = ? AND rating = ?",
        [(content, *entry) for entry in annotations.ratings],
    )


def missing_from(database: Database, content: int, annotations: Annotations) -> Annotations:
    """Those of these annotations that a content does not have."""
    own = read_annotations(database, [content]).get(content, Annotations())
    tagged = {(origin, tag) for origin, tag, _ in own.tags}
    rated = {origin for origin, _ in own.ratings}
    return Annotations(
        tuple(entry for entry in annotations.tags if entry[:2] not in tagged),
        tuple(entry for entry in annotations.ratings if entry[0] not in rated),
    )


def set_aside(database: Database, leaving: Mapping[int, Place]) -> list[Place]:
    """Keep the annotations of contents that are about to leave, under the hash of their bytes.

    Parameters
    ----------
    database : Database
        In a transaction.
    leaving : mapping
        Content -> a file that held it.

    Returns
    -------
    list of (path, member)
        The files of those that had annotations.
    """
    made = read_annotations(database, leaving)
    for content, kept in made.items():
        database.run(
            "INSERT INTO set_aside "
            "(hash, path, member, difference_hash, perceptual_hash, taken, annotations) "
            "SELECT hash, ?, ?, difference_hash, perceptual_hash, taken, ? FROM contents WHERE id = ? "
            "ON CONFLICT (hash) DO UPDATE SET path = excluded.path, member = excluded.member, "
            "annotations = excluded.annotations",
            (*leaving[content], kept.to_json(), content),
        )
    return [leaving[content] for content in made]


def bring_back(database: Database, content: int, place: Place) -> bool:
    """Give a content what was set aside for its bytes, or for an earlier state of its file.

    Parameters
    ----------
    database : Database
        In a transaction.
    content : int
    place : (path, member)
        A file that holds it.

    Returns
    -------
    bool
        Whether anything was set aside for it.
    """
    waiting = database.all(
        "SELECT s.hash, s.annotations, s.difference_hash, s.perceptual_hash, s.taken, s.hash = c.hash "
        "FROM set_aside s, contents c WHERE c.id = ? AND (s.hash = c.hash OR (s.path = ? AND s.member = ?))",
        (content, *place),
    )
    brought = False
    for picture_hash, text, *old, same_bytes in waiting:
        if same_bytes or _same(old, _compared(database, content), cosine=None):
            annotate(database, content, Annotations.from_json(text))
            database.run("DELETE FROM set_aside WHERE hash = ?", (bytes(picture_hash),))
            brought = True
    return brought


def clear_set_aside(database: Database, origin: str) -> None:
    """Take the tags of an origin out of what was set aside. The caller holds a transaction."""
    for picture_hash, text in database.all("SELECT hash, annotations FROM set_aside"):
        made = Annotations.from_json(text)
        tags = tuple(entry for entry in made.tags if entry[0] != origin)
        if len(tags) == len(made.tags):
            continue
        left = Annotations(tags, made.ratings)
        if left:
            database.run(
                "UPDATE set_aside SET annotations = ? WHERE hash = ?", (left.to_json(), bytes(picture_hash))
            )
        else:
            database.run("DELETE FROM set_aside WHERE hash = ?", (bytes(picture_hash),))


def is_same_picture(database: Database, before: int, now: int, cosine: float | None) -> bool | None:
    """Whether the content that took another's place in a file is an edit of the same picture.

    Parameters
    ----------
    database : Database
    before, now : int
        Contents.
    cosine : float or None
        Of their image embeddings, where both have one.

    Returns
    -------
    bool or None
        None where it cannot be told: the hashes differ, and there is neither a date nor a cosine (one of the
        two has no vector of this encoder).

    Notes
    -----
    An edit keeps the time at which the camera took the picture, and mostly the layout that perceptual hashes
    see. A file whose picture was replaced by another (a camera that starts its numbers anew, `cover.jpg`)
    keeps neither. Where nothing can be compared (one of them cannot be decoded), the file's name decides: it
    is the same.
    """
    return _same(_compared(database, before), _compared(database, now), cosine=cosine)


def _compared(database: Database, content: int) -> Sequence[Any]:
    """(difference hash, perceptual hash, when it was taken); None for what is not known."""
    rows = database.all(
        "SELECT difference_hash, perceptual_hash, taken FROM contents WHERE id = ?", (content,)
    )
    return rows[0] if rows else (None, None, None)


def _same(old: Sequence[Any], new: Sequence[Any], *, cosine: float | None) -> bool | None:
    distances = [
        ((a ^ b) & (2**64 - 1)).bit_count()  # databases have signed numbers
        for a, b in zip(old[:2], new[:2], strict=True)
        if a is not None and b is not None
    ]
    if distances and min(distances) <= SAME_BITS:
        return cosine is None or cosine >= LEAST_COSINE
    if old[2] and new[2]:
        return bool(old[2] == new[2])
    if cosine is not None:
        return cosine >= SAME_COSINE
    return None if distances else True


def _listed(values: Any) -> Sequence[Any]:
    return [entry for entry in values if isinstance(entry, list)] if isinstance(values, list) else []


def _is_tag(entry: list[Any]) -> bool:
    return (
        len(entry) == 3
        and all(isinstance(text, str) and text.strip() and text.isprintable() for text in entry[:2])
        and entry[0] not in ORIGINS_READ
        and isinstance(entry[2], int | float)
        and 0 <= entry[2] <= 1
    )


def _is_rating(entry: list[Any]) -> bool:
    return (
        len(entry) == 2
        and isinstance(entry[0], str)
        and bool(entry[0].strip())
        and entry[0] not in ORIGINS_READ
        and type(entry[1]) is int
        and entry[1] in RATINGS
    )
