"""`diptych models`: which models there are, what one is made of, converting it, its card, checking it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import clean, note, print_json, progress, screen
from diptych.errors import InputError, UnknownModelError

if TYPE_CHECKING:
    from diptych.weights import Checkpoint
    from diptych.weights.registry import Release

app = typer.Typer(no_args_is_help=True, help="List, show, convert and verify models.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A name, a folder, hf-hub:ORG/REPO or local-dir:PATH.", show_default=False
    ),
]
Form = Annotated[
    str, typer.Option("--to", metavar="diptych|open_clip|transformers", help="The form to write.")
]


@app.command("list")
def list_(
    pattern: Annotated[
        str, typer.Argument(metavar="WORD", help="Only names that contain this.", show_default=False)
    ] = "",
    open_clip: Annotated[
        bool,
        typer.Option("--open-clip", metavar="", help="Every name of open_clip's, and why some do not load."),
    ] = False,
    immich: Annotated[
        bool,
        typer.Option(
            "--immich", metavar="", help="The ONNX models of the photo server Immich, by its names."
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Models and tags by the names that open_clip gave them.

    [bold]Examples[/bold]

      diptych models list

      diptych models list ViT-B --json

      diptych models list --open-clip

      diptych models list --immich SigLIP2
    """
    from diptych.cli.models.graphs import immich_rows
    from diptych.weights import list_models

    released = [*_default_row(), *(_row(model) for model in list_models())]
    if open_clip and immich:
        raise typer.BadParameter("--open-clip and --immich exclude each other")
    rows = immich_rows() if immich else _open_clip_rows() if open_clip else released
    rows = [row for row in rows if pattern.lower() in " ".join(map(str, row.values())).lower()]
    if not rows:
        raise InputError(f"no model's name contains {pattern!r}; `diptych models list` shows them all")
    if json:
        print_json(rows)
        return
    (_immich_table if immich else _open_clip_table if open_clip else _table)(rows)


def _immich_table(rows: list[dict[str, Any]]) -> None:
    """One line a model; ONNX Runtime or OpenVINO runs it, without torch."""
    table = _columns("name", "width", "pixels", "languages", right=("width", "pixels"))
    for row in rows:
        languages = "many" if row["languages"] == "mul" else "English"
        table.add_row(row["name"], str(row["dim"]), str(row["image_size"]), languages)
    screen().print(table)
    note("load one with --model NAME; its ONNX graphs come from the hub's immich-app, once")


def _open_clip_rows() -> list[dict[str, Any]]:
    """One row a name of open_clip's."""
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
    """One line a name; below the table, which names do not load and why."""
    table = _columns("name", "tags", "loads", "licence", right=("tags",))
    for row in rows:
        if not row["loads"]:
            loads = "no"
        elif not row["tags"]:
            loads = "own file"
        else:
            loads = "with timm" if row["extra"] else "yes"
        table.add_row(row["name"], str(len(row["tags"])), loads, row["licence"])
    screen().print(table)
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if not row["loads"]:
            reasons.setdefault(row["reason"], []).append(row["name"])
    for reason, names in reasons.items():
        screen().print(f"no: {', '.join(names)}: {reason}", highlight=False, markup=False)
    note("tags: how many weights are released under the name; `diptych models list NAME` shows them")
    if any(row["extra"] for row in rows):
        note("with timm: the image tower is built by timm, pip install 'diptych[timm]'")
    if any(row["loads"] and not row["tags"] for row in rows):
        note("own file: no weights are released; --model NAME --pretrained FILE loads a file of yours")
    loading = [row for row in rows if row["loads"]]
    released = [row for row in rows if row["tags"]]
    note(
        f"{len(loading)} of {len(rows)} names load, {sum(row['loads'] for row in released)} of the "
        f"{len(released)} that have released weights"
    )


def _columns(*names: str, right: tuple[str, ...] = ()) -> Any:
    """An empty table whose names stay whole, to be copied; the last column takes several lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        whole = name != names[-1]
        table.add_column(name, overflow="fold", no_wrap=whole, justify="right" if name in right else "left")
    return table


def _default_row() -> list[dict[str, Any]]:
    """The model inside the package, where this installation has it."""
    from diptych.weights import load_checkpoint

    try:
        checkpoint = load_checkpoint("default")
    except UnknownModelError:
        return []
    told = {"architecture": "default", "tag": "", "parameters": checkpoint.parameters}
    return [{**told, "licence": checkpoint.spec.licence, "repository": ""}]


def _row(model: Release) -> dict[str, Any]:
    """What one chooses by, in the words of `diptych.load(architecture, tag)`."""
    return {
        "architecture": model.architecture,
        "tag": model.tag,
        "parameters": model.parameters,
        "licence": model.licence,
        "repository": model.repository,
    }


def _table(rows: list[dict[str, Any]]) -> None:
    """The tags under their architecture, one line each; where each lies is left to --json."""
    table = _columns("architecture, tags", "million", "licence", right=("million",))
    previous = ""
    for row in rows:
        million = f"{row['parameters'] / 1e6:,.1f}"
        if row["tag"] and row["architecture"] != previous:
            table.add_row(row["architecture"], "", "")
        previous = row["architecture"]
        table.add_row(f"  {row['tag']}" if row["tag"] else previous, million, row["licence"])
    screen().print(table)
    note("million: parameters, picture and text tower together")
    note('load one with --model ARCHITECTURE --pretrained TAG; "default" is inside the package')


@app.command()
def show(model: Name, pretrained: options.Pretrained = None, json: options.Json = False) -> None:
    """What a model is made of: architecture, preprocessing, tokenizer, licence, identity, training.

    [bold]Examples[/bold]

      diptych models show default

      diptych models show ViT-B-32 --pretrained openai --json
    """
    with progress("reading the model", None, unit="steps", quiet=json):
        from diptych.cli.models.graphs import describe_graphs, find_graphs
        from diptych.weights import load_checkpoint

        graphs = find_graphs(model) if pretrained is None else None
        told = describe(load_checkpoint(model, pretrained)) if graphs is None else describe_graphs(graphs)
    if json:
        print_json(told, default=str)
        return
    console = screen()
    for name, value in told.items():
        if isinstance(value, dict) and value:
            console.print(name, style="bold")
            for line in _lines(value, "  "):
                console.print(line)
        else:
            console.print(f"{name:<14}{clean(str(value or 'not stated'))}")


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint as plain values, in the order in which one asks."""
    spec = checkpoint.spec.to_dict()
    towers = {"picture": 0, "text": 0}
    for name, weight in checkpoint.state.items():
        if "running_" not in name and "num_batches" not in name:  # counted by batch norms, not learned
            towers["picture" if name.startswith("visual.") else "text"] += weight.numel()
    return {
        "name": spec["name"],
        "identity": checkpoint.identity,
        "licence": spec["licence"],
        "source": spec["source"],
        "parameters": {"all": sum(towers.values()), **towers},
        **{key: spec[key] for key in ("architecture", "preprocess", "tokenizer", "training")},
    }


def _lines(value: dict[str, Any], indent: str) -> list[str]:
    """A nested dictionary as indented lines."""
    lines = []
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines += [f"{indent}{name}", *_lines(inner, indent + "  ")]
        elif isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner):
            for number, one in enumerate(inner, start=1):  # "mean_of": the models that were averaged
                title = f"{name.replace('_', ' ')}, {number} of {len(inner)}"
                lines += [f"{indent}{title}", *_lines(one, indent + "  ")]
        else:
            told = f"{inner:,}" if isinstance(inner, int) and not isinstance(inner, bool) else str(inner)
            lines.append(f"{indent}{name:<{max(24 - len(indent), 1)}} {clean(told)}")
    return lines


@app.command()
def convert(
    model: Name,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write; new or empty.", show_default=False)
    ],
    to: Form = "diptych",
    half: Annotated[
        bool, typer.Option("--half", metavar="", help="Our form in half precision: half the size.")
    ] = False,
    pretrained: options.Pretrained = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", metavar="PIXELS", help="Another size; position tables are resized."),
    ] = None,
    context_length: Annotated[
        int | None,
        typer.Option("--context-length", metavar="TOKENS", help="Cut or interpolate the texts' positions."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a model in another form, the same numbers in it: our own, open_clip's or transformers'.

    [bold]Examples[/bold]

      diptych models convert runs/mine exported --to open_clip

      diptych models convert ViT-B-32 vit-b-32 --pretrained openai

      diptych models convert runs/mine small --half

      diptych models convert ViT-B-16 vit-b-16-384 --pretrained openai --image-size 384
    """
    forms = ("diptych", "open_clip", "transformers")
    if to not in forms:
        raise InputError(f"--to {to!r} is none of the forms: {', '.join(forms)}")
    if half and to != "diptych":
        raise InputError(f"--half is for our own form; --to {to} keeps the precision of the weights")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not an empty folder: name a new one")
    with progress("converting the model", None, unit="steps", quiet=quiet):
        from diptych.weights import load_checkpoint, to_diptych, to_open_clip, to_transformers

        checkpoint = load_checkpoint(model, pretrained, image_size=image_size, context_length=context_length)
        if image_size is not None or context_length is not None:
            note(
                "a model of another image size or context length is a start to train from: measure it before "
                "using it",
                quiet=quiet,
            )
        if to == "diptych":
            to_diptych(checkpoint, folder, half=half)
        else:
            (to_open_clip if to == "open_clip" else to_transformers)(checkpoint, folder)
    note(f"written: {folder} ({to})", quiet=quiet)


@app.command()
def card(
    model: Name,
    results: Annotated[list[Path], typer.Argument(metavar="RESULT", help="JSON of evaluate, of this model.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write.")] = Path(
        "README.md"
    ),
    pretrained: options.Pretrained = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a model card from results: figures beside chance, and headings for what only people know.

    [bold]Examples[/bold]

      diptych evaluate zero-shot cifar10.tar.gz --model runs/mine --out cifar10.json

      diptych models card runs/mine cifar10.json --out runs/mine/README.md
    """
    from diptych.evaluation import read_results
    from diptych.evaluation.results.card import model_card
    from diptych.files.disk import write_bytes
    from diptych.weights import load_checkpoint

    if out.exists():
        raise InputError(f"{out} is there already, and may hold what people wrote: name another --out")
    found = [result for path in results for result in read_results(path)]
    with progress("reading the model", None, unit="steps", quiet=quiet):
        text = model_card(describe(load_checkpoint(model, pretrained)), found)
    write_bytes(out, text.encode("utf-8", errors="backslashreplace"))
    note(f"written: {out}", quiet=quiet)


@app.command()
def verify(model: Name, pretrained: options.Pretrained = None, json: options.Json = False) -> None:
    """Read a model, check every hash it states, and fit it strictly to its architecture.

    ONNX graphs, exported or released, are checked before a runtime opens them, and computed once.

    [bold]Examples[/bold]

      diptych models verify runs/mine
    """
    from diptych.cli.models.graphs import find_graphs
    from diptych.weights import fit, load_checkpoint

    if pretrained is None and (graphs := find_graphs(model)) is not None:
        _verify_graphs(model, graphs, json=json)
        return
    # A stated hash that does not hold is refused here, by name.
    with progress("verifying the model", None, unit="steps", quiet=json):
        checkpoint = load_checkpoint(model, pretrained)
        fit(checkpoint.spec.architecture, checkpoint.state, source=model)
    count, checked = len(checkpoint.state), checkpoint.checked
    if json:
        told: dict[str, Any] = {"model": model, "identity": checkpoint.identity, "tensors": count}
        told |= {"verified": bool(checked), "checked_against": checked or None}
        print_json(told)
        return
    if checked:
        print(f"{clean(model)}: every hash holds, and all {count} tensors fit its architecture")
    else:
        print(f"{clean(model)}: no hash is stated to check against; all {count} tensors fit its architecture")
    print(f"identity {checkpoint.identity}")


def _verify_graphs(model: str, graphs: Any, *, json: bool) -> None:
    from diptych.cli.models.graphs import describe_graphs, verify_graphs

    encoder = verify_graphs(graphs)
    files = describe_graphs(graphs)["files"]
    if json:
        told = {"model": model, "identity": encoder.identity, "files": files, "runtime": encoder.runtime}
        print_json(told)
        return
    count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
    print(f"{clean(model)}: {count}, {sum(files.values()):,} bytes; both graphs compute on {encoder.runtime}")
    print(f"identity {encoder.identity}")
