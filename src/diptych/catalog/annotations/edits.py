"""Files edited in place: does the new content get the annotations of the one that was there?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diptych.catalog.annotations.annotations import (
    Place,
    annotate,
    is_same_picture,
    missing_from,
    read_annotations,
)

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.catalog.database.spaces import Space


@dataclass
class Carried:
    """What `carry` did.

    Attributes
    ----------
    edits : int
        Edits that got annotations.
    contents : set of int
        Contents all of whose annotations an edit has now: nothing has to be set aside for them.
    """

    edits: int = 0
    contents: set[int] = field(default_factory=set)


def carry(
    database: Database,
    space: Space,
    replaced: Sequence[tuple[int, int | None, Place]],
    created: Collection[int],
) -> Carried:
    """Copy annotations from contents to the edits that took their places. The caller holds a transaction.

    Parameters
    ----------
    database : Database
    space : Space
        That holds the vectors of what is new.
    replaced : sequence of (content before, content now, file)
    created : collection of int
        Contents that are new in this transaction and could be decoded. No other content is taken for an
        edit: one that was known belongs to another file, as where two files have changed names, and of one
        that cannot be decoded nobody knows what it shows.
    """
    carried = Carried()
    made = read_annotations(database, {before for before, _, _ in replaced}) if replaced else {}
    if not made:
        return carried
    space.refresh()  # another process may have added rows
    for before, now, _ in replaced:
        if now is None or before not in made or now not in created:
            continue
        known, vectors = space.vectors([before, now])
        cosine = float(vectors[0] @ vectors[1]) if len(known) == 2 else None
        same = is_same_picture(database, before, now, cosine)
        if same is False:
            continue
        new = missing_from(database, now, made[before])
        annotate(database, now, made[before])
        carried.edits += 1
        if same and new == made[before]:
            carried.contents.add(before)  # else the rest, or all in case of doubt, is set aside as well
    return carried
