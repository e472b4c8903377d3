"""`diptych export`: write a model as a folder that can be used without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import clean, note, print_json, stdout_console
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

MOST_CALIBRATION = 400  # pictures read to calibrate with

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="The model: a name, a folder, hf-hub:ORG/REPO or local-dir:PATH.",
        show_default=False,
    ),
]
To = Annotated[
    Path,
    typer.Option(
        "--to", metavar="DIR", help="The folder to write; must be new or empty.", show_default=False
    ),
]
Int8 = Annotated[
    bool,
    typer.Option(
        "--int8", metavar="", help="Also write an int8 version for OpenVINO, about 1.5 times as fast."
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Calibrate int8 and check the export with these pictures, best some hundred of your own. "
        "Default: synthetic pictures.",
        show_default=False,
    ),
]


def export(
    model: Name,
    to: To,
    int8: Int8 = False,
    calibrate: Calibrate = None,
    pretrained: options.Pretrained = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a model to ONNX, as a folder that needs no torch, and check it.

    Both encoders are written with their preprocessing and tokenizer. Every
    installed runtime is compared with torch in float32, and refused if it
    differs too much; exported.json holds the measurements.

    [bold]Examples[/bold]

      diptych export default --to small

      diptych export ViT-B-32 --pretrained openai --to clip --int8 --calibrate ~/Pictures

      diptych classify cat.jpg "a dog" "a cat" --model clip --runtime openvino --precision int8
    """
    from diptych.backends.exported.folder import is_available

    if not is_available(to):
        raise InputError(f"{to} exists and is not an empty folder: name a new folder")
    from diptych.backends import export as export_model
    from diptych.weights import load_checkpoint

    pictures = None if calibrate is None else read_pictures(calibrate, quiet=quiet)
    checkpoint = load_checkpoint(model, pretrained)
    spec = export_model(
        checkpoint,
        to,
        int8=int8,
        pictures=pictures,
        pictures_from=f"pictures of {calibrate}",
        note=lambda message: note(message, quiet=quiet),
    )
    if json:
        summary: dict[str, Any] = {"folder": str(to), "identity": spec.identity, "dim": spec.dim}
        summary |= {"precisions": spec.precisions, "calibration": spec.calibration or None}
        summary |= {"files": dict(spec.sizes), "checks": [dict(check) for check in spec.checks]}
        print_json(summary)
        return
    _print_checks(spec.checks)
    size = sum(spec.sizes.values()) / 1e6
    print(f"written: {clean(str(to))}, {size:,.0f} MB, identity {spec.identity}")


def read_pictures(folder: Path, *, quiet: bool) -> Sequence[Image]:
    """Read up to `MOST_CALIBRATION` pictures, evenly spaced, of a folder and its subfolders.

    Pictures that cannot be read are left out.

    Raises
    ------
    InputError
        None of them can be read.
    """
    from diptych.errors import ImageError
    from diptych.media import find_images, load_image

    paths = find_images([folder])
    paths = paths[:: max(1, len(paths) // MOST_CALIBRATION)][:MOST_CALIBRATION]
    pictures = []
    for path in paths:
        try:
            # Decode at reduced size to save memory: models use a few hundred pixels.
            image = load_image(path, target=512)
        except (ImageError, ImportError, OSError):
            continue
        image.thumbnail((1024, 1024))
        pictures.append(image)
    if not pictures:
        raise InputError(
            f"calibration needs pictures, but none of the {len(paths)} in {folder} could be read"
        )
    note(f"read {counted(len(pictures), 'picture')} from {folder}", quiet=quiet)
    return pictures


def _print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """Print how close each runtime is to float32."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("runtime")
    table.add_column("precision")
    for name in ("pictures: mean", "worst", "texts: mean", "worst", "order"):
        table.add_column(name, justify="right")
    for check in checks:
        keys = ("image_mean", "image_worst", "text_mean", "text_worst", "order")
        figures = [f"{check[key]:.5f}" for key in keys if key in check]
        table.add_row(check["runtime"], check["precision"] + " refused" * bool(check["refused"]), *figures)
    stdout_console().print(table)
    note(
        "cosine similarity to torch in float32; order: Spearman correlation of the ranking of pictures for a "
        "text"
    )
