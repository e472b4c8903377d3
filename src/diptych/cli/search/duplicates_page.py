"""The groups of `diptych duplicates` as one HTML page for review, which needs no other file.

A browser must cope with thousands of groups: the pictures are in the page as text, twenty groups at a time,
and are decoded only when they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli.search.duplicates_output import TITLES, evidence_of
from diptych.cli.shared.console import clean
from diptych.errors import counted
from diptych.reports.page import embed_image, page_template

if TYPE_CHECKING:
    from diptych.catalog.duplicates.groups import DuplicateGroup, GroupMember
    from diptych.catalog.duplicates.keeping import File

SIDE, QUALITY = 224, 72  # of a picture in the page: pixels of the longer side, JPEG quality; about 7 kB
MOST_GROUPS, MOST_MEMBERS = 5000, 24  # groups in the page, and pictures of one group
PER_PAGE = 20


def write_page(
    path: Path, groups: Sequence[DuplicateGroup], catalog: str, *, advance: Callable[[int], None]
) -> int:
    """Write the page atomically; returns the number of groups that it shows.

    Parameters
    ----------
    groups : sequence of DuplicateGroup
        Sorted by tier.
    catalog : str
        The name of the catalogue in the page.
    advance : callable
        Called with the number of groups that were written since the last call.
    """
    from diptych.files.disk import write_atomically

    shown = groups[:MOST_GROUPS]
    left = f" Shown are the first {len(shown):,} of {len(groups):,}." if len(shown) < len(groups) else ""
    files = sum(len(group.members) for group in groups)
    subtitle = f"{counted(len(groups), 'group')} of {counted(files, 'file')} in {catalog}.{left}"

    stream = page_template("duplicates.html", "diptych.cli.search").stream(
        title="Duplicates", subtitle=clean(subtitle), pages=_pages(shown, advance)
    )
    # Piece by piece: the pictures of all groups may not fit into memory.
    write_atomically(path, lambda part: stream.dump(str(part), encoding="utf-8", errors="replace"))
    return len(shown)


def _pages(groups: Sequence[DuplicateGroup], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """The groups, twenty at a time; a tier begins a new page."""
    for tier, of_tier in groupby(groups, key=lambda group: group.tier):
        while part := list(islice(of_tier, PER_PAGE)):
            yield {"tier": tier, "title": TITLES[tier], "groups": list(map(_group, part))}
            advance(len(part))


def _group(group: DuplicateGroup) -> dict[str, Any]:
    members = [_member(member, group) for member in group.members[:MOST_MEMBERS]]
    return {"why": group.why, "members": members, "more": max(len(group.members) - MOST_MEMBERS, 0)}


def _member(member: GroupMember, group: DuplicateGroup) -> dict[str, Any]:
    from diptych.cli.shared.console import format_size

    file, kept = member.file, member is group.kept
    role = {"part": "whole", "scene": "best"}.get(group.tier, "keep") if kept else ""
    pair = member.pair
    return {
        "name": clean(file.name),
        "address": _address(file),
        "role": role or {"bytes": "copy", "picture": "copy"}.get(member.tier, member.tier),
        "facts": f"{file.width} x {file.height}, {format_size(file.size)}, {file.format}",
        "evidence": group.why if kept else evidence_of(member),
        "box": list(pair.verdict.box) if pair is not None and pair.verdict.box else None,
        "picture": _picture(file),
    }


def _picture(file: File) -> str:
    """A small JPEG in base64; "" if the file cannot be read any more."""
    from diptych.errors import DiptychError
    from diptych.media.images import load_file

    try:
        picture = load_file(file.path, file.member, target=SIDE)
    except (DiptychError, OSError):
        return ""
    return embed_image(picture, SIDE, QUALITY).data


def _address(file: File) -> str:
    try:
        return file.path.as_uri()
    except ValueError:
        return ""
