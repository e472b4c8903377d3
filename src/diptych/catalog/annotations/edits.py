"""Files edited in place: copy the annotations of the old content to its edit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diptych.catalog.annotations.annotations import (
    FileLocation,
    annotate,
    is_same_image,
    missing_from,
    read_annotations,
)

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.catalog.database.spaces import Space


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

    Parameters
    ----------
    database : Database
    space : Space
        Holds the embeddings of the new contents.
    replaced : sequence of (old content, new content, file)
        Files whose content changed.
    created : collection of int
        Contents that are new in this transaction and could be decoded. Only these can be edits: a content
        that was known before belongs to another file (as when two files swapped names), and one that cannot
        be decoded cannot be compared.
    """
    carried = CarriedAnnotations()
    annotations = read_annotations(database, {old for old, _, _ in replaced}) if replaced else {}
    if not annotations:
        return carried
    space.refresh()  # another process may have added rows
    for old, new, _ in replaced:
        if new is None or old not in annotations or new not in created:
            continue
        known, vectors = space.vectors([old, new])
        cosine = float(vectors[0] @ vectors[1]) if len(known) == 2 else None
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
