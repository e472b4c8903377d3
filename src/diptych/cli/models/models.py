"""`diptych models`: list, show, convert and verify models, and write model cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import clean, note, print_json, progress, stdout_console
from diptych.errors import InputError, UnknownModelError, counted

if TYPE_CHECKING:
    from diptych.weights import Checkpoint
    from diptych.weights.registry import Release

app = typer.Typer(no_args_is_help=True, help="List, show, convert and verify models, and write model cards.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="The model: a name, a folder, hf-hub:ORG/REPO or local-dir:PATH.",
        show_default=False,
    ),
]
Form = Annotated[
    str, typer.Option("--to", metavar="diptych|open_clip|transformers", help="The file format to write.")
]


@app.command("list")
def list_(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="WORD", help="Show only models whose entry contains WORD.", show_default=False
        ),
    ] = "",
    open_clip: Annotated[
        bool,
        typer.Option(
            "--open-clip",
            metavar="",
            help="List all names of open_clip, with the reason for those that do not load.",
        ),
    ] = False,
    immich: Annotated[
        bool,
        typer.Option("--immich", metavar="", help="List the ONNX models of the photo server Immich."),
    ] = False,
    json: options.Json = False,
) -> None:
    """List models and their tags, by the names of open_clip.

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
        raise InputError(f"no model contains {pattern!r}; `diptych models list` shows all of them")
    if json:
        print_json(rows)
        return
    (_immich_table if immich else _open_clip_table if open_clip else _table)(rows)


def _immich_table(rows: list[dict[str, Any]]) -> None:
    """Print one line per model; ONNX Runtime or OpenVINO runs it, without torch."""
    table = _columns("name", "width", "pixels", "languages", right=("width", "pixels"))
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
    table = _columns("name", "tags", "loads", "licence", right=("tags",))
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
        f"{len(loading)} of {len(rows)} names load, and {sum(row['loads'] for row in released)} of the "
        f"{len(released)} with released weights"
    )


def _columns(*names: str, right: tuple[str, ...] = ()) -> Any:
    """An empty table whose cells are not cut, so that names can be copied; the last column may wrap."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        whole = name != names[-1]
        table.add_column(name, overflow="fold", no_wrap=whole, justify="right" if name in right else "left")
    return table


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
    table = _columns("architecture, tags", "million", "licence", right=("million",))
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


@app.command()
def show(model: Name, pretrained: options.Pretrained = None, json: options.Json = False) -> None:
    """Show the architecture, preprocessing, tokenizer, licence, identity and training of a model.

    [bold]Examples[/bold]

      diptych models show default

      diptych models show ViT-B-32 --pretrained openai --json
    """
    with progress("reading the model", None, unit="steps", quiet=json):
        from diptych.cli.models.graphs import describe_graphs, find_graphs
        from diptych.weights import load_checkpoint

        graphs = find_graphs(model) if pretrained is None else None
        facts = describe(load_checkpoint(model, pretrained)) if graphs is None else describe_graphs(graphs)
    if json:
        print_json(facts, default=str)
        return
    console = stdout_console()
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            console.print(name, style="bold")
            for line in _lines(value, "  "):
                console.print(line)
        else:
            console.print(f"{name:<14}{clean(str(value or 'not stated'))}")


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Facts about a checkpoint as JSON values, the most important first."""
    spec = checkpoint.spec.to_dict()
    towers = {"picture": 0, "text": 0}
    for name, weight in checkpoint.state.items():
        if "running_" not in name and "num_batches" not in name:  # statistics of batch norms, not parameters
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
        elif isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
            for number, item in enumerate(inner, start=1):  # "mean_of": the models that were averaged
                title = f"{name.replace('_', ' ')}, {number} of {len(inner)}"
                lines += [f"{indent}{title}", *_lines(item, indent + "  ")]
        else:
            text = f"{inner:,}" if isinstance(inner, int) and not isinstance(inner, bool) else str(inner)
            lines.append(f"{indent}{name:<{max(24 - len(indent), 1)}} {clean(text)}")
    return lines


@app.command()
def convert(
    model: Name,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The folder to write; must be new or empty.", show_default=False
        ),
    ],
    to: Form = "diptych",
    half: Annotated[
        bool,
        typer.Option("--half", metavar="", help="Write diptych's format in half precision: half the size."),
    ] = False,
    pretrained: options.Pretrained = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", metavar="PIXELS", help="Change the image size; position embeddings are resized."
        ),
    ] = None,
    context_length: Annotated[
        int | None,
        typer.Option(
            "--context-length",
            metavar="TOKENS",
            help="Change the context length of texts.",
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Convert a model to the format of diptych, open_clip or transformers, with the same weights.

    [bold]Examples[/bold]

      diptych models convert runs/mine exported --to open_clip

      diptych models convert ViT-B-32 vit-b-32 --pretrained openai

      diptych models convert runs/mine small --half

      diptych models convert ViT-B-16 vit-b-16-384 --pretrained openai --image-size 384
    """
    forms = ("diptych", "open_clip", "transformers")
    if to not in forms:
        raise InputError(f"--to takes {', '.join(forms)}, not {to!r}")
    if half and to != "diptych":
        raise InputError(f"--half needs --to diptych; --to {to} keeps the precision of the weights")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder: name a new folder")
    with progress("converting the model", None, unit="steps", quiet=quiet):
        from diptych.weights import load_checkpoint, to_diptych, to_open_clip, to_transformers

        checkpoint = load_checkpoint(model, pretrained, image_size=image_size, context_length=context_length)
        if image_size is not None or context_length is not None:
            note("a changed image size or context length costs accuracy: measure it before use", quiet=quiet)
        if to == "diptych":
            to_diptych(checkpoint, folder, half=half)
        else:
            (to_open_clip if to == "open_clip" else to_transformers)(checkpoint, folder)
    note(f"written: {folder} ({to})", quiet=quiet)


@app.command()
def card(
    model: Name,
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="JSON files of evaluate, of this model.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")] = Path(
        "README.md"
    ),
    pretrained: options.Pretrained = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a model card from results, each beside chance, with headings for you to fill in.

    [bold]Examples[/bold]

      diptych evaluate zero-shot cifar10.tar.gz --model runs/mine --out cifar10.json

      diptych models card runs/mine cifar10.json --out runs/mine/README.md
    """
    from diptych.evaluation import read_results
    from diptych.evaluation.results.card import model_card
    from diptych.files.disk import write_bytes
    from diptych.weights import load_checkpoint

    if out.exists():
        raise InputError(f"{out} exists already and may hold text by hand: name another file with --out")
    read = [result for path in results for result in read_results(path)]
    with progress("reading the model", None, unit="steps", quiet=quiet):
        text = model_card(describe(load_checkpoint(model, pretrained)), read)
    write_bytes(out, text.encode("utf-8", errors="backslashreplace"))
    note(f"written: {out}", quiet=quiet)


@app.command()
def verify(model: Name, pretrained: options.Pretrained = None, json: options.Json = False) -> None:
    """Verify a model: every stated hash, and that its tensors fit its architecture exactly.

    ONNX graphs, exported or released, are checked before a runtime opens them,
    and then run once.

    [bold]Examples[/bold]

      diptych models verify runs/mine
    """
    from diptych.cli.models.graphs import find_graphs
    from diptych.weights import fit, load_checkpoint

    if pretrained is None and (graphs := find_graphs(model)) is not None:
        _verify_graphs(model, graphs, json=json)
        return
    # load_checkpoint raises an error if a stated hash does not match.
    with progress("verifying the model", None, unit="steps", quiet=json):
        checkpoint = load_checkpoint(model, pretrained)
        fit(checkpoint.spec.architecture, checkpoint.state, source=model)
    count, checked = len(checkpoint.state), checkpoint.checked
    if json:
        facts: dict[str, Any] = {"model": model, "identity": checkpoint.identity, "tensors": count}
        print_json(facts | {"verified": bool(checked), "checked_against": checked or None})
        return
    if checked:
        print(f"{clean(model)}: every hash matches, and all {count} tensors fit its architecture")
    else:
        print(f"{clean(model)}: no hash is stated; all {count} tensors fit its architecture")
    print(f"identity {checkpoint.identity}")


def _verify_graphs(model: str, graphs: Any, *, json: bool) -> None:
    from diptych.cli.models.graphs import describe_graphs, verify_graphs

    encoder = verify_graphs(graphs)
    files = describe_graphs(graphs)["files"]
    if json:
        print_json({"model": model, "identity": encoder.identity, "files": files, "runtime": encoder.runtime})
        return
    count = counted(len(files), "file")
    print(f"{clean(model)}: {count}, {sum(files.values()):,} bytes; both graphs run on {encoder.runtime}")
    print(f"identity {encoder.identity}")
