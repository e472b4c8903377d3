"""`diptych models list`: models that can be loaded, by several lists of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared.console import note, plain_table, print_json, stdout_console
from diptych.cli.shared.options import Json, argument, flag
from diptych.errors import InputError, UnknownModelError, counted

if TYPE_CHECKING:
    from diptych.weights.registry import Release


def list_models(
    pattern: Annotated[str, argument("WORD", "Show only models whose entry contains WORD.")] = "",
    open_clip: Annotated[
        bool, flag("--open-clip", "List all names of open_clip, with the reason for those that do not load.")
    ] = False,
    immich: Annotated[bool, flag("--immich", "List the ONNX models of the photo server Immich.")] = False,
    json: Json = False,
) -> None:
    """List models and their tags, by the names of open_clip.

    [bold]Examples[/bold]

      diptych models list

      diptych models list ViT-B --json

      diptych models list --open-clip

      diptych models list --immich SigLIP2
    """
    from diptych.weights import list_models as list_released

    released = [*_default_row(), *(_row(model) for model in list_released())]
    if open_clip and immich:
        raise typer.BadParameter("--open-clip and --immich exclude each other")
    rows = _immich_rows() if immich else _open_clip_rows() if open_clip else released
    rows = [row for row in rows if pattern.lower() in " ".join(map(str, row.values())).lower()]
    if not rows:
        raise InputError(f"no model contains {pattern!r}; `diptych models list` shows all of them")
    if json:
        print_json(rows)
        return
    (_immich_table if immich else _open_clip_table if open_clip else _table)(rows)


def _immich_rows() -> list[dict[str, Any]]:
    """One dictionary for each model that Immich offers."""
    from dataclasses import asdict

    from diptych.backends.exported.immich import list_immich_models

    return [{**asdict(model), "repository": model.repository} for model in list_immich_models()]


def _immich_table(rows: list[dict[str, Any]]) -> None:
    """Print one line per model; ONNX Runtime or OpenVINO runs it, without torch."""
    table = plain_table("name", "width", "pixels", "languages", right=("width", "pixels"))
    for row in rows:
        languages = "many" if row["languages"] == "mul" else "English"
        table.add_row(row["name"], str(row["dim"]), str(row["image_size"]), languages)
    stdout_console().print(table)
    note("load one with --model NAME; its ONNX graphs are downloaded once, from immich-app on the hub")


def _open_clip_rows() -> list[dict[str, Any]]:
    """One dictionary per name of open_clip."""
    from diptych.model.config import TimmConfig
    from diptych.model.presets.table import PRESETS, QUICK
    from diptych.weights.open_clip.names import open_clip_names

    rows = []
    for row in open_clip_names():
        shape = PRESETS.get(row.name.removesuffix(QUICK))
        rows.append(
            {
                "name": row.name,
                "loads": not row.reason,
                "tags": list(row.tags),
                "licence": row.licence,
                "reason": row.reason,
                "extra": "timm" if shape is not None and isinstance(shape.vision, TimmConfig) else "",
            }
        )
    return rows


def _open_clip_table(rows: list[dict[str, Any]]) -> None:
    """Print one line per name, and below the table which names do not load and why."""
    table = plain_table("name", "tags", "loads", "licence", right=("tags",))
    for row in rows:
        if not row["loads"]:
            loads = "no"
        elif not row["tags"]:
            loads = "own file"
        else:
            loads = "with timm" if row["extra"] else "yes"
        table.add_row(row["name"], str(len(row["tags"])), loads, row["licence"])
    stdout_console().print(table)
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if not row["loads"]:
            reasons.setdefault(row["reason"], []).append(row["name"])
    for reason, names in reasons.items():
        stdout_console().print(f"no: {', '.join(names)}: {reason}", highlight=False, markup=False)
    note("tags: number of released weights; `diptych models list NAME` shows them")
    if any(row["extra"] for row in rows):
        note("with timm: the image encoder needs timm, pip install 'diptych[timm]'")
    if any(row["loads"] and not row["tags"] for row in rows):
        note("own file: no released weights; --model NAME --pretrained FILE loads your own")
    loading = [row for row in rows if row["loads"]]
    released = [row for row in rows if row["tags"]]
    note(
        f"{len(loading)} of {counted(len(rows), 'name')} load, and "
        f"{sum(row['loads'] for row in released)} of the {len(released)} with released weights"
    )


def _default_row() -> list[dict[str, Any]]:
    """The model inside the package, if this installation has it."""
    from diptych.weights import load_checkpoint

    try:
        checkpoint = load_checkpoint("default")
    except UnknownModelError:
        return []
    row = {"architecture": "default", "tag": "", "parameters": checkpoint.parameters}
    return [{**row, "licence": checkpoint.spec.licence, "repository": ""}]


def _row(model: Release) -> dict[str, Any]:
    """A released model as a dictionary; `diptych.load(architecture, tag)` loads it."""
    return {
        "architecture": model.architecture,
        "tag": model.tag,
        "parameters": model.parameters,
        "licence": model.licence,
        "repository": model.repository,
    }


def _table(rows: list[dict[str, Any]]) -> None:
    """Print the tags below their architecture, one line each; only --json has the repository."""
    table = plain_table("architecture, tags", "million", "licence", right=("million",))
    previous = ""
    for row in rows:
        million = f"{row['parameters'] / 1e6:,.1f}"
        if row["tag"] and row["architecture"] != previous:
            table.add_row(row["architecture"], "", "")
        previous = row["architecture"]
        table.add_row(f"  {row['tag']}" if row["tag"] else previous, million, row["licence"])
    stdout_console().print(table)
    note("million: millions of parameters, image and text encoder together")
    note('load one with --model ARCHITECTURE --pretrained TAG; "default" is part of the package')
