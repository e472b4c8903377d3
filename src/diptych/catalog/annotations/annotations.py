"""Annotations: tags and ratings of images, which survive changes of the files.

Annotations belong to a content, that is to an image identified by its bytes. They are never lost:

- When a content leaves the catalogue (its files were deleted, moved, put into the trash, or their drive is
  missing), its annotations are saved in the table `set_aside`, under the hash of its bytes. When the same
  bytes come back in any folder, or an edit of them under the same name, `restore_annotations` restores them.
- A file that was edited in place holds a new content. `is_same_image` decides whether it is an edit of the
  old image; if so, the new content gets a copy of the annotations.
- Exports write them as one text (`Annotations.to_json`), and imports read it.

Tags and ratings that were read from files (origins `FILE` and `SIDECAR`) are not annotations in this sense:
reading the file again restores them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from diptych.catalog.database.database import select_in

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.catalog.database.spaces import Space

# Reserved origins of tags and ratings; all other origins are names of lists of labels.
FILE, SIDECAR, HAND = "file", "sidecar", "hand"
ORIGINS_READ = (FILE, SIDECAR)  # read from files, so reading them again restores these tags
RATINGS = range(-1, 6)  # as in XMP: -1 rejected, 0 not rated, 1 to 5 stars

FileLocation: TypeAlias = tuple[bytes, str]  # path and archive member, as in the table `files`

# Thresholds measured with the default model on 150 photographs (Flickr8k). Different images: no pair within
# 13 bits by either hash, one pair in five above a cosine of 0.6. Edits recognised without dates: all that
# were resized, recoloured, mirrored or cropped to 70 % of their sides; 82 % of those rotated by 90 degrees;
# 24 % of those cropped to half their sides. Dates decide where both images have one.
SAME_BITS = 12
SAME_COSINE = 0.6
LEAST_COSINE = 0.4  # required where the hashes agree, because those of images without structure always agree

_READ = f"({', '.join(repr(origin) for origin in ORIGINS_READ)})"


@dataclass(frozen=True)
class Annotations:
    """Tags and ratings of one image."""

    tags: tuple[tuple[str, str, float], ...] = ()  # (origin, tag, score)
    ratings: tuple[tuple[str, int], ...] = ()  # (origin, rating)

    def __bool__(self) -> bool:
        return bool(self.tags or self.ratings)

    def to_json(self) -> str:
        """Serialise as one line of JSON, with sorted entries.

        Examples
        --------
        >>> Annotations(tags=(("hand", "grandma", 1.0),), ratings=(("hand", 5),)).to_json()
        '{"tags": [["hand", "grandma", 1.0]], "ratings": [["hand", 5]]}'
        """
        return json.dumps({"tags": sorted(self.tags), "ratings": sorted(self.ratings)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Annotations:
        """Parse the text of `to_json`; invalid entries are dropped, as other programs may have written it.

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
            tags=tuple((entry[0], entry[1], float(entry[2])) for entry in _entries(tags) if _is_tag(entry)),
            ratings=tuple((entry[0], entry[1]) for entry in _entries(ratings) if _is_rating(entry)),
        )


@dataclass
class AnnotationChanges:
    """How annotations were affected by files that changed or left.

    Attributes
    ----------
    carried : int
        Number of images edited in place that kept the annotations of their old content.
    set_aside : list of (path, member)
        Files of annotated images that left or were replaced by another image. The annotations stay in the
        catalogue until the same bytes come back.
    brought_back : int
        Number of images that received annotations that had been set aside.
    """

    carried: int = 0
    set_aside: list[FileLocation] = field(default_factory=list)
    brought_back: int = 0

    def add(self, other: AnnotationChanges) -> None:
        """Add the counts of another instance."""
        self.carried += other.carried
        self.set_aside += other.set_aside
        self.brought_back += other.brought_back


def read_annotations(database: Database, contents: Iterable[int]) -> dict[int, Annotations]:
    """Read the annotations of contents; those without any are left out."""
    tags: dict[int, list[tuple[str, str, float]]] = {}
    ratings: dict[int, list[tuple[str, int]]] = {}
    of_contents = f"WHERE origin NOT IN {_READ} AND content IN ({{}}) ORDER BY origin"
    numbers = list(contents)
    for content, *entry in select_in(
        database, f"SELECT content, origin, tag, score FROM tags {of_contents}, tag", numbers
    ):
        tags.setdefault(content, []).append(tuple(entry))
    for content, *entry in select_in(
        database, f"SELECT content, origin, rating FROM ratings {of_contents}", numbers
    ):
        ratings.setdefault(content, []).append(tuple(entry))
    return {
        content: Annotations(tuple(tags.get(content, ())), tuple(ratings.get(content, ())))
        for content in {**tags, **ratings}
    }


def annotate(database: Database, content: int, annotations: Annotations) -> None:
    """Add annotations to a content, inside the caller's transaction; existing ones are not overwritten."""
    database.many(
        "INSERT INTO tags (content, origin, tag, score) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(content, *entry) for entry in annotations.tags],
    )
    database.many(
        "INSERT INTO ratings (content, origin, rating) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(content, *entry) for entry in annotations.ratings],
    )


def remove_annotations(database: Database, content: int, annotations: Annotations) -> None:
    """Remove these annotations where they are unchanged, inside the caller's transaction."""
    database.many(
        "DELETE FROM tags WHERE content = ? AND origin = ? AND tag = ? AND score = ?",
        [(content, *entry) for entry in annotations.tags],
    )
    database.many(
        "DELETE FROM ratings WHERE content = ? AND origin = ? AND rating = ?",
        [(content, *entry) for entry in annotations.ratings],
    )


def missing_from(database: Database, content: int, annotations: Annotations) -> Annotations:
    """Return those of these annotations that a content does not have."""
    own = read_annotations(database, [content]).get(content, Annotations())
    tagged = {(origin, tag) for origin, tag, _ in own.tags}
    rated = {origin for origin, _ in own.ratings}
    return Annotations(
        tuple(entry for entry in annotations.tags if entry[:2] not in tagged),
        tuple(entry for entry in annotations.ratings if entry[0] not in rated),
    )


def set_aside(database: Database, leaving: Mapping[int, FileLocation]) -> list[FileLocation]:
    """Save the annotations of contents that are about to be removed; return the files of those with any.

    `leaving` maps each content to a file that held it. The annotations are stored under the hash of the
    bytes, inside the caller's transaction.
    """
    # Before the contents are removed, in the same transaction: a kill leaves either the content with its
    # annotations, or the annotations here.
    annotated = read_annotations(database, leaving)
    for content, entries in annotated.items():
        database.run(
            "INSERT INTO set_aside "
            "(hash, path, member, difference_hash, perceptual_hash, taken, annotations) "
            "SELECT hash, ?, ?, difference_hash, perceptual_hash, taken, ? FROM contents WHERE id = ? "
            "ON CONFLICT (hash) DO UPDATE SET path = excluded.path, member = excluded.member, "
            "annotations = excluded.annotations",
            (*leaving[content], entries.to_json(), content),
        )
    return [leaving[content] for content in annotated]


def restore_annotations(database: Database, content: int, location: FileLocation) -> bool:
    """Restore what was set aside for the bytes of a content, or for its file; whether there was any.

    `location` is a file that holds the content. Inside the caller's transaction.
    """
    candidates = database.all(
        "SELECT s.hash, s.annotations, s.difference_hash, s.perceptual_hash, s.taken, s.hash = c.hash "
        "FROM set_aside s, contents c WHERE c.id = ? AND (s.hash = c.hash OR (s.path = ? AND s.member = ?))",
        (content, *location),
    )
    restored = False
    for content_hash, text, *old, same_bytes in candidates:
        # Equal bytes need no further evidence. Another image at the old path gets the annotations only if it
        # is an edit of the former one: `cover.jpg` may be replaced by any image.
        if same_bytes or _is_edit(old, _signature(database, content), cosine=None):
            annotate(database, content, Annotations.from_json(text))
            database.run("DELETE FROM set_aside WHERE hash = ?", (bytes(content_hash),))
            restored = True
    return restored


def clear_set_aside(database: Database, origin: str) -> None:
    """Remove the tags of an origin from annotations set aside, inside the caller's transaction."""
    for content_hash, text in database.all("SELECT hash, annotations FROM set_aside"):
        annotations = Annotations.from_json(text)
        tags = tuple(entry for entry in annotations.tags if entry[0] != origin)
        # Unchanged rows are not written: usually few of those set aside have tags of this origin.
        if len(tags) == len(annotations.tags):
            continue
        remaining = Annotations(tags, annotations.ratings)
        if remaining:
            database.run(
                "UPDATE set_aside SET annotations = ? WHERE hash = ?",
                (remaining.to_json(), bytes(content_hash)),
            )
        else:
            database.run("DELETE FROM set_aside WHERE hash = ?", (bytes(content_hash),))


def is_same_image(database: Database, old: int, new: int, cosine: float | None) -> bool | None:
    """Whether the content that replaced another one in a file is an edit of the same image.

    `cosine` is that of their embeddings, if both have one. None if undecidable: the hashes differ, and there
    is neither a date nor a cosine.

    Notes
    -----
    An edit keeps the time at which the camera took the image, and mostly the layout that perceptual hashes
    describe. A file whose image was replaced by another (a camera that restarts its numbers, `cover.jpg`)
    keeps neither. If nothing can be compared (one of them cannot be decoded), the equal file name decides:
    they count as the same.
    """
    return _is_edit(_signature(database, old), _signature(database, new), cosine=cosine)


def _signature(database: Database, content: int) -> Sequence[Any]:
    """Return (difference hash, perceptual hash, date taken); None for unknown values."""
    rows = database.all(
        "SELECT difference_hash, perceptual_hash, taken FROM contents WHERE id = ?", (content,)
    )
    return rows[0] if rows else (None, None, None)


def _is_edit(old: Sequence[Any], new: Sequence[Any], *, cosine: float | None) -> bool | None:
    # In this order: close hashes (with a cosine that does not contradict them), the date, the cosine.
    distances = [
        ((a ^ b) & (2**64 - 1)).bit_count()  # the mask makes signed integers of the database unsigned
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


@dataclass
class CarriedAnnotations:
    """Result of `carry_annotations`.

    Attributes
    ----------
    edits : int
        Number of edits that received annotations.
    contents : set of int
        Old contents whose annotations were copied completely, so that nothing has to be set aside for them.
    """

    edits: int = 0
    contents: set[int] = field(default_factory=set)


def carry_annotations(
    database: Database,
    space: Space,
    replaced: Sequence[tuple[int, int | None, FileLocation]],
    created: Collection[int],
) -> CarriedAnnotations:
    """Copy annotations from old contents to their edits, inside the caller's transaction.

    `replaced` are the files whose content changed: (old content, new content, file). `space` holds the
    embeddings of the new ones. Only contents that are `created` in this transaction and could be decoded can
    be edits: one that was known before belongs to another file (as when two files swapped names), and one
    that cannot be decoded cannot be compared.
    """
    carried = CarriedAnnotations()
    annotations = read_annotations(database, {old for old, _, _ in replaced}) if replaced else {}
    if not annotations:
        return carried
    space.refresh()  # another process may have added rows
    for old, new, _ in replaced:
        if new is None or old not in annotations or new not in created:
            continue
        embedded, vectors = space.vectors([old, new])
        cosine = float(vectors[0] @ vectors[1]) if len(embedded) == 2 else None
        same = is_same_image(database, old, new, cosine)
        if same is False:
            continue
        missing = missing_from(database, new, annotations[old])
        annotate(database, new, annotations[old])
        carried.edits += 1
        # If `new` had some of these already (its own value wins), or it is uncertain that it is an edit, the
        # annotations of `old` are set aside as well.
        if same and missing == annotations[old]:
            carried.contents.add(old)
    return carried


def _entries(values: Any) -> Sequence[Any]:
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
