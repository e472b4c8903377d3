"""What `diptych duplicates` prints: a table by tiers, JSON, CSV, imagededup's form, names to remove."""

from __future__ import annotations

import csv
import json as jsonlib
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import typer

from diptych.cli.shared.console import complain, fitted, note, screen
from diptych.errors import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from diptych.catalog.duplicates.finding import DuplicateGroups
    from diptych.catalog.duplicates.groups import DuplicateGroup, GroupMember
    from diptych.catalog.duplicates.keeping import File
    from diptych.catalog.duplicates.trash import TrashReport
    from diptych.matching.verdicts import Tier

Form = Literal["table", "json", "csv", "imagededup", "remove", "null"]

MOST_SHOWN = 8  # files of a group in the table, beside the kept one
TITLES = {
    "bytes": "Same bytes",
    "picture": "Same picture, another file",
    "part": "Part of another, or changed in part",
    "scene": "Same scene, another picture: no copies",
}
_COLUMNS = (
    *("group", "tier", "role", "path", "member", "width", "height", "bytes", "format"),
    *("change", "pixels", "bits", "cosine", "box"),
)


def print_groups(
    found: DuplicateGroups,
    form: Form,
    top: int,
    moved: TrashReport | None,
    *,
    copies: Collection[Tier],
    quiet: bool,
) -> None:
    """The groups on standard output, and in JSON what was moved of them; copies are those of some tiers."""
    if form == "json":
        typer.echo(jsonlib.dumps({**_plain(found, copies), **_plain_moves(moved)}))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_rows(found))
    elif form == "imagededup":
        typer.echo(jsonlib.dumps(as_imagededup(found)))
    elif form in ("remove", "null"):
        _print_names([os.fsencode(file.path) for file in found.to_remove(copies)], null=form == "null")
    elif not found.groups:
        typer.echo(f"no copies among {counted(found.pictures, 'picture')} in {counted(found.files, 'file')}")
    else:
        _print_table(found, top)
        if moved is None and (hint := _hint(found, copies)):
            note(hint, quiet=quiet)


def _print_names(names: list[bytes], *, null: bool) -> None:
    """The bytes that the file system has: whoever reads them removes files of these names."""
    lines = [name for name in names if null or b"\n" not in name]
    for name in lines:
        typer.echo(name + (b"\0" if null else b"\n"), nl=False)
    if len(lines) < len(names):
        complain(
            "left out",
            f"{counted(len(names) - len(lines), 'file')} with a line break in their names: --print0 has them",
        )


def as_imagededup(found: DuplicateGroups) -> dict[str, list[tuple[str, float]]]:
    """File -> its copies with their scores, 0 to 1, for every file of the tiers "bytes" and "picture"."""
    mapping: dict[str, list[tuple[str, float]]] = {}
    for group in found.groups:
        if group.tier in ("bytes", "picture"):
            for member in group.members:
                mapping[member.file.name] = [
                    (other.file.name, round(min(score_of(member), score_of(other)), 4))
                    for other in group.members
                    if other is not member
                ]
    return mapping


def score_of(member: GroupMember) -> float:
    """How far a member's pixels agree with what speaks for it; 1 for the same bytes."""
    return 1.0 if member.pair is None else member.pair.verdict.pixels


def evidence_of(member: GroupMember) -> str:
    """What speaks for a member, in a few words.

    Examples
    --------
    >>> from diptych.catalog.duplicates.groups import GroupMember
    >>> evidence_of(GroupMember(None, "bytes"))
    'same bytes'
    """
    if member.pair is None:
        return "same bytes"
    told, pair = member.pair.verdict, member.pair
    parts = [told.change, f"pixels {told.pixels:.2f}"]
    parts += [] if pair.cosine is None else [f"cosine {pair.cosine:.2f}"]
    if pair.bits is not None and member.tier == "picture":
        parts.append(counted(pair.bits, "bit"))
    if told.box is not None and told.change in ("cut", "framed"):
        area = (told.box[2] - told.box[0]) * (told.box[3] - told.box[1])
        parts.append(f"{area:.0%} of it")
    return ", ".join(parts) + ("" if member.direct else " (to another of the group)")


def _print_table(found: DuplicateGroups, top: int) -> None:
    from diptych.matching.verdicts import TIERS

    width = screen().width
    for tier in TIERS:
        groups = found.of(tier)
        if not groups:
            continue
        typer.echo(f"{TITLES[tier]}: {_counted(groups)}")
        for group in groups[:top]:
            typer.echo()
            for line in _lines(group, width):
                typer.echo(line)
        if len(groups) > top:
            typer.echo(f"\n  and {len(groups) - top:,} more groups (--top, --html or --json shows them)")
        typer.echo()


def _hint(found: DuplicateGroups, copies: Collection[Tier]) -> str:
    """What could be moved, and how."""
    from diptych.cli.shared.console import size_of

    told: list[str] = []
    saved_again: tuple[Tier, ...] = ("picture",)
    if files := found.to_remove(copies):
        size = size_of(sum(file.size for file in files))
        what = "copy" if len(files) == 1 else "copies"
        told.append(f"--trash auto moves {len(files):,} {what} ({', '.join(copies)}), {size}")
    if "picture" not in copies and (more := found.to_remove(saved_again)):
        told.append(f"with --copies bytes,picture also {len(more):,} that are one picture in another file")
    return "; ".join([*told, "nothing is deleted"] if told else [])


def _counted(groups: tuple[DuplicateGroup, ...]) -> str:
    files = sum(len(group.members) for group in groups)
    return f"{counted(len(groups), 'group')}, {counted(files, 'file')}"


def _lines(group: DuplicateGroup, width: int) -> Iterator[str]:
    """A group in lines of this width: the kept one, the others, and what speaks for each."""
    head = {"part": "whole", "scene": "best"}.get(group.tier, "keep")
    yield _file(head, group.kept.file, width)
    if group.tier != "part":
        yield fitted(f"        {group.why}", width).rstrip()
    for member in group.others[:MOST_SHOWN]:
        yield _file({"bytes": "copy", "picture": "copy"}.get(member.tier, member.tier), member.file, width)
        yield fitted(f"        {evidence_of(member)}", width).rstrip()
    if len(group.others) > MOST_SHOWN:
        yield f"        and {len(group.others) - MOST_SHOWN:,} more files"


def _file(role: str, file: File, width: int) -> str:
    from diptych.cli.shared.console import size_of

    facts = f"{file.width} x {file.height}  {size_of(file.size):>9}"
    return f"  {role:<5} {fitted(file.name, width - 10 - len(facts), tail=True)}  {facts}"


def _plain(found: DuplicateGroups, tiers: Collection[Tier]) -> dict[str, Any]:
    copies = found.to_remove(tiers)
    return {
        "pictures": found.pictures,
        "files": found.files,
        "copies": len(copies),
        "copied_bytes": sum(file.size for file in copies),
        "groups": [
            {
                "tier": group.tier,
                "kept": _plain_file(group.kept.file),
                "why": group.why,
                "others": [{**_plain_file(one.file), **_plain_evidence(one)} for one in group.others],
            }
            for group in found.groups
        ],
        "failed": [{"id": content, "reason": reason} for content, reason in found.failed.items()],
    }


def _plain_moves(moved: TrashReport | None) -> dict[str, Any]:
    if moved is None:
        return {}
    return {
        "moved": [{"from": str(source), "to": str(target)} for source, target in moved.files],
        "stayed": [{"path": file.name, "reason": reason} for file, reason in moved.refused],
        "undo": None if moved.undo is None else str(moved.undo),
    }


def _plain_file(file: File) -> dict[str, Any]:
    return {
        "id": file.content,
        "path": str(file.path),
        "member": file.member,
        "width": file.width,
        "height": file.height,
        "bytes": file.size,
        "format": file.format,
    }


def _plain_evidence(member: GroupMember) -> dict[str, Any]:
    pair = member.pair
    told = None if pair is None else pair.verdict
    return {
        "tier": member.tier,
        "change": "same bytes" if told is None else told.change,
        "pixels": None if told is None else round(told.pixels, 4),
        "bits": pair and pair.bits,
        "cosine": None if pair is None or pair.cosine is None else round(pair.cosine, 5),
        "box": told and told.box and list(told.box),
        "direct": member.direct,
    }


def _rows(found: DuplicateGroups) -> Iterator[list[Any]]:
    for number, group in enumerate(found.groups, 1):
        for member in group.members:
            file, told = member.file, _plain_evidence(member)
            role = "keep" if member is group.kept else member.tier
            facts = [told[name] for name in ("change", "pixels", "bits", "cosine")]
            box = " ".join(map(str, told["box"])) if told["box"] else ""
            yield [
                *(number, group.tier, role, str(file.path), file.member, file.width, file.height),
                *(file.size, file.format),
                *(
                    [""] * 5
                    if member is group.kept
                    else [*("" if one is None else one for one in facts), box]
                ),
            ]
