"""`diptych models`: list, show, convert and verify models, and write model cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.models import listing
from diptych.cli.shared.console import clean, note, print_json, progress, stdout_console
from diptych.cli.shared.encoders import ModelName
from diptych.cli.shared.options import Json, Pretrained, Quiet, argument, flag, option
from diptych.errors import InputError, WeightsError, counted

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder
    from diptych.backends.exported.released import ReleasedModel
    from diptych.weights import Checkpoint

app = typer.Typer(no_args_is_help=True, help="List, show, convert and verify models, and write model cards.")
app.command("list")(listing.list_models)


@app.command()
def show(model: ModelName, pretrained: Pretrained = None, json: Json = False) -> None:
    """Show the architecture, preprocessing, tokenizer, licence, identity and training of a model.

    [bold]Examples[/bold]

      diptych models show default

      diptych models show ViT-B-32 --pretrained openai --json
    """
    with progress("reading the model", None, unit="steps", quiet=json):
        from diptych.weights import load_checkpoint

        graphs = _find_graphs(model) if pretrained is None else None
        facts = describe(load_checkpoint(model, pretrained)) if graphs is None else _describe_graphs(graphs)
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
    model: ModelName,
    folder: Annotated[Path, argument("FOLDER", "The folder to write; must be new or empty.")],
    to: Annotated[str, option("diptych|open_clip|transformers", "The file format to write.")] = "diptych",
    half: Annotated[bool, flag("--half", "Write diptych's format in half precision: half the size.")] = False,
    pretrained: Pretrained = None,
    image_size: Annotated[
        int | None, option("PIXELS", "Change the image size; position embeddings are resized.")
    ] = None,
    context_length: Annotated[int | None, option("TOKENS", "Change the context length of texts.")] = None,
    quiet: Quiet = False,
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
    model: ModelName,
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="JSON files of evaluate, of this model.")
    ],
    out: Annotated[Path, option("FILE", "The file to write.", "--out", "-o")] = Path("README.md"),
    pretrained: Pretrained = None,
    quiet: Quiet = False,
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
def verify(model: ModelName, pretrained: Pretrained = None, json: Json = False) -> None:
    """Verify a model: every stated hash, and that its tensors fit its architecture exactly.

    ONNX graphs, exported or released, are checked before a runtime opens them,
    and then run once.

    [bold]Examples[/bold]

      diptych models verify runs/mine
    """
    from diptych.weights import fit, load_checkpoint

    if pretrained is None and (graphs := _find_graphs(model)) is not None:
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


def _verify_graphs(model: str, graphs: Path | ReleasedModel, *, json: bool) -> None:
    encoder = _open_graphs(graphs)
    files = _describe_graphs(graphs)["files"]
    if json:
        print_json({"model": model, "identity": encoder.identity, "files": files, "runtime": encoder.runtime})
        return
    count = counted(len(files), "file")
    print(f"{clean(model)}: {count}, {sum(files.values()):,} bytes; both graphs run on {encoder.runtime}")
    print(f"identity {encoder.identity}")


def _find_graphs(model: str) -> Path | ReleasedModel | None:
    """Find the ONNX graphs that a name stands for: an exported folder or a released model; else None."""
    from diptych.backends.exported.finding import find_released
    from diptych.backends.exported.folder import is_exported
    from diptych.weights.names import named_path

    folder = named_path(model)
    return folder if folder is not None and is_exported(folder) else find_released(model)


def _describe_graphs(graphs: Path | ReleasedModel) -> dict[str, Any]:
    """Facts about ONNX graphs as JSON values, the most important first."""
    from diptych.backends.exported.folder import read_export

    if isinstance(graphs, Path):
        spec, layout, files = read_export(graphs), "diptych export", dict(read_export(graphs).sizes)
    else:
        spec, layout = graphs.spec, graphs.layout
        paths = dict.fromkeys([*graphs.image.graph.files, *graphs.text.graph.files])
        files = {path.relative_to(graphs.folder).as_posix(): path.stat().st_size for path in paths}
    facts: dict[str, Any] = {
        "name": spec.name,
        "identity": spec.identity,
        "licence": spec.licence,
        "source": spec.source,
        "layout": layout,
        "dim": spec.dim,
        "logit_scale": spec.logit_scale,
        "logit_bias": spec.logit_bias,
        "languages": list(spec.languages),
        "files": files,
        "preprocess": spec.preprocess.to_dict(),
        "tokenizer": spec.tokenizer.to_dict(),
        "architecture": dict(spec.architecture),
    }
    if not isinstance(graphs, Path):
        towers = {"image": graphs.image, "text": graphs.text}
        facts["graphs"] = {
            name: f"{', '.join(map(str, tower.graph.inputs))} -> {tower.signature.output}"
            for name, tower in towers.items()
        }
    return facts


def _open_graphs(graphs: Path | ReleasedModel) -> ExportedEncoder:
    """Open the graphs and encode two pictures and two texts, whose embeddings must differ.

    Raises
    ------
    WeightsError
        The runtime refuses them, or both inputs give the same embedding.
    """
    from diptych.backends import ExportedEncoder
    from diptych.backends.conversion.samples import TEXTS, synthetic_images

    encoder = ExportedEncoder(graphs)
    images = encoder.encode_images(synthetic_images(2, side=encoder.input_size))
    texts = encoder.encode_texts(TEXTS[:2])
    for name, embeddings in (("image", images), ("text", texts)):
        if abs(embeddings[0] - embeddings[1]).max() < 1e-6:
            raise WeightsError(
                f"the {name} tower of {encoder.spec.name} gives the same embedding for every input"
            )
    return encoder
