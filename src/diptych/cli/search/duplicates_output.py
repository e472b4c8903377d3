"""Output of `diptych duplicates`: table by tiers, JSON, CSV, imagededup's format, paths to remove."""

from __future__ import annotations

import csv
import json as jsonlib
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import typer

from diptych.cli.shared.console import fit_width, note, print_message, stdout_console
from diptych.errors import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from diptych.catalog.duplicates.finding import DuplicateGroups
    from diptych.catalog.duplicates.groups import DuplicateGroup, GroupMember
    from diptych.catalog.duplicates.keeping import File
    from diptych.catalog.duplicates.trash import TrashReport
    from diptych.matching.verdicts import Tier

Form = Literal["table", "json", "csv", "imagededup", "remove", "null"]

MOST_SHOWN = 8  # files of a group in the table, besides the kept one
TITLES = {
    "bytes": "Same bytes",
    "picture": "Same picture, another file",
    "part": "Part of another picture, or partly changed",
    "scene": "Same scene, another picture (not a copy)",
}
_COLUMNS = (
    *("group", "tier", "role", "path", "member", "width", "height", "bytes", "format"),
    *("change", "pixels", "bits", "cosine", "box"),
)


def print_groups(
    result: DuplicateGroups,
    form: Form,
    top: int,
    moved: TrashReport | None,
    *,
    copies: Collection[Tier],
    quiet: bool,
) -> None:
    """Print the groups, and in JSON also the moved files; `copies` are the tiers that count as copies."""
    if form == "json":
        typer.echo(jsonlib.dumps({**_to_json(result, copies), **_moves_to_json(moved)}))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_rows(result))
    elif form == "imagededup":
        typer.echo(jsonlib.dumps(as_imagededup(result)))
    elif form in ("remove", "null"):
        _print_names([os.fsencode(file.path) for file in result.to_remove(copies)], null=form == "null")
    elif not result.groups:
        typer.echo(
            f"no copies among {counted(result.pictures, 'picture')} in {counted(result.files, 'file')}"
        )
    else:
        _print_table(result, top)
        if moved is None and (hint := _hint(result, copies)):
            note(hint, quiet=quiet)


def _print_names(names: list[bytes], *, null: bool) -> None:
    """Print paths as the bytes of the file system, since another program will remove these files."""
    lines = [name for name in names if null or b"\n" not in name]
    for name in lines:
        typer.echo(name + (b"\0" if null else b"\n"), nl=False)
    if len(lines) < len(names):
        print_message(
            "left out",
            f"{counted(len(names) - len(lines), 'file')} with a line break in the name; --print0 prints all",
        )


def as_imagededup(result: DuplicateGroups) -> dict[str, list[tuple[str, float]]]:
    """Copies of each file with scores from 0 to 1, for the tiers "bytes" and "picture"."""
    mapping: dict[str, list[tuple[str, float]]] = {}
    for group in result.groups:
        if group.tier in ("bytes", "picture"):
            for member in group.members:
                mapping[member.file.name] = [
                    (copy.file.name, round(min(score_of(member), score_of(copy)), 4))
                    for copy in group.members
                    if copy is not member
                ]
    return mapping


def score_of(member: GroupMember) -> float:
    """Agreement of a member's pixels with the picture it was matched to, 0 to 1; 1 for equal bytes."""
    return 1.0 if member.pair is None else member.pair.verdict.pixels


def evidence_of(member: GroupMember) -> str:
    """The evidence that a member belongs to its group, in a few words.

    Examples
    --------
    >>> from diptych.catalog.duplicates.groups import GroupMember
    >>> evidence_of(GroupMember(None, "bytes"))
    'same bytes'
    """
    if member.pair is None:
        return "same bytes"
    verdict, pair = member.pair.verdict, member.pair
    parts = [verdict.change, f"pixels {verdict.pixels:.2f}"]
    parts += [] if pair.cosine is None else [f"cosine {pair.cosine:.2f}"]
    if pair.bits is not None and member.tier == "picture":
        parts.append(counted(pair.bits, "bit"))
    if verdict.box is not None and verdict.change in ("cut", "framed"):
        area = (verdict.box[2] - verdict.box[0]) * (verdict.box[3] - verdict.box[1])
        parts.append(f"{area:.0%} of it")
    return ", ".join(parts) + ("" if member.direct else " (to another of the group)")


def _print_table(result: DuplicateGroups, top: int) -> None:
    from diptych.matching.verdicts import TIERS

    width = stdout_console().width
    for tier in TIERS:
        groups = result.of(tier)
        if not groups:
            continue
        typer.echo(f"{TITLES[tier]}: {_counted(groups)}")
        for group in groups[:top]:
            typer.echo()
            for line in _lines(group, width):
                typer.echo(line)
        if len(groups) > top:
            more = counted(len(groups) - top, "more group")
            typer.echo(f"\n  and {more} (--top, --html or --json shows all)")
        typer.echo()


def _hint(result: DuplicateGroups, copies: Collection[Tier]) -> str:
    """Which copies --trash would move, or ""."""
    from diptych.cli.shared.console import format_size

    sentences: list[str] = []
    saved_again: tuple[Tier, ...] = ("picture",)
    if files := result.to_remove(copies):
        size = format_size(sum(file.size for file in files))
        noun = "copy" if len(files) == 1 else "copies"
        sentences.append(f"--trash auto moves {len(files):,} {noun} ({', '.join(copies)}), {size}")
    if "picture" not in copies and (more := result.to_remove(saved_again)):
        sentences.append(f"--copies bytes,picture also moves {len(more):,} with the same picture")
    return "; ".join([*sentences, "nothing is deleted"] if sentences else [])


def _counted(groups: tuple[DuplicateGroup, ...]) -> str:
    files = sum(len(group.members) for group in groups)
    return f"{counted(len(groups), 'group')}, {counted(files, 'file')}"


def _lines(group: DuplicateGroup, width: int) -> Iterator[str]:
    """A group as lines of the table: the kept file, the others, and the evidence for each."""
    head = {"part": "whole", "scene": "best"}.get(group.tier, "keep")
    yield _file_line(head, group.kept.file, width)
    if group.tier != "part":
        yield fit_width(f"        {group.why}", width).rstrip()
    for member in group.others[:MOST_SHOWN]:
        yield _file_line(
            {"bytes": "copy", "picture": "copy"}.get(member.tier, member.tier), member.file, width
        )
        yield fit_width(f"        {evidence_of(member)}", width).rstrip()
    if len(group.others) > MOST_SHOWN:
        yield f"        and {counted(len(group.others) - MOST_SHOWN, 'more file')}"


def _file_line(role: str, file: File, width: int) -> str:
    from diptych.cli.shared.console import format_size

    facts = f"{file.width} x {file.height}  {format_size(file.size):>9}"
    return f"  {role:<5} {fit_width(file.name, width - 10 - len(facts), tail=True)}  {facts}"


def _to_json(result: DuplicateGroups, tiers: Collection[Tier]) -> dict[str, Any]:
    copies = result.to_remove(tiers)
    return {
        "pictures": result.pictures,
        "files": result.files,
        "copies": len(copies),
        "copied_bytes": sum(file.size for file in copies),
        "groups": [
            {
                "tier": group.tier,
                "kept": _file_to_json(group.kept.file),
                "why": group.why,
                "others": [
                    {**_file_to_json(member.file), **_evidence_to_json(member)} for member in group.others
                ],
            }
            for group in result.groups
        ],
        "failed": [{"id": content, "reason": reason} for content, reason in result.failed.items()],
    }


def _moves_to_json(moved: TrashReport | None) -> dict[str, Any]:
    if moved is None:
        return {}
    return {
        "moved": [{"from": str(source), "to": str(target)} for source, target in moved.files],
        "stayed": [{"path": file.name, "reason": reason} for file, reason in moved.refused],
        "undo": None if moved.undo is None else str(moved.undo),
    }


def _file_to_json(file: File) -> dict[str, Any]:
    return {
        "id": file.content,
        "path": str(file.path),
        "member": file.member,
        "width": file.width,
        "height": file.height,
        "bytes": file.size,
        "format": file.format,
    }


def _evidence_to_json(member: GroupMember) -> dict[str, Any]:
    pair = member.pair
    verdict = None if pair is None else pair.verdict
    return {
        "tier": member.tier,
        "change": "same bytes" if verdict is None else verdict.change,
        "pixels": None if verdict is None else round(verdict.pixels, 4),
        "bits": pair and pair.bits,
        "cosine": None if pair is None or pair.cosine is None else round(pair.cosine, 5),
        "box": verdict and verdict.box and list(verdict.box),
        "direct": member.direct,
    }


def _rows(result: DuplicateGroups) -> Iterator[list[Any]]:
    for number, group in enumerate(result.groups, 1):
        for member in group.members:
            file, evidence = member.file, _evidence_to_json(member)
            role = "keep" if member is group.kept else member.tier
            facts = [evidence[name] for name in ("change", "pixels", "bits", "cosine")]
            box = " ".join(map(str, evidence["box"])) if evidence["box"] else ""
            yield [
                *(number, group.tier, role, str(file.path), file.member, file.width, file.height),
                *(file.size, file.format),
                *(
                    [""] * 5
                    if member is group.kept
                    else [*("" if fact is None else fact for fact in facts), box]
                ),
            ]
