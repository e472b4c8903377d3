"""`diptych export`: a model as a folder that needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import clean, note, print_json, screen
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

MOST = 400  # pictures read to calibrate with

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A name, a folder, hf-hub:ORG/REPO or local-dir:PATH.", show_default=False
    ),
]
To = Annotated[
    Path,
    typer.Option("--to", metavar="DIR", help="Where to write; new or empty.", show_default=False),
]
Int8 = Annotated[
    bool, typer.Option("--int8", metavar="", help="Also in 8 bits, for OpenVINO: about half again as fast.")
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Judge, and fit 8 bits, with these pictures rather than drawn ones; some hundred like your own.",
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
    """Write a model as a folder that a machine without torch can load, and check it there and then.

    Both encoders as ONNX, with all that travels with them. Every runtime that
    is installed is compared with torch in float32 and refused where it is too
    far from it; what was measured stands in exported.json.

    [bold]Examples[/bold]

      diptych export default --to small

      diptych export ViT-B-32 --pretrained openai --to clip --int8 --calibrate ~/Pictures

      diptych classify cat.jpg "a dog" "a cat" --model clip --runtime openvino --precision int8
    """
    from diptych.backends.exported.folder import is_free

    if not is_free(to):
        raise InputError(f"{to} is there already and not an empty folder: name a new one")
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
        told: dict[str, Any] = {"folder": str(to), "identity": spec.identity, "dim": spec.dim}
        told |= {"precisions": spec.precisions, "calibration": spec.calibration or None}
        told |= {"files": dict(spec.sizes), "checks": [dict(check) for check in spec.checks]}
        print_json(told)
        return
    _table(spec.checks)
    size = sum(spec.sizes.values()) / 1e6
    print(f"written: {clean(str(to))}, {size:,.0f} MB, identity {spec.identity}")


def read_pictures(folder: Path, *, quiet: bool) -> Sequence[Image]:
    """Up to `MOST` pictures of a folder and its subfolders, evenly taken; those that cannot be read left out.

    Raises
    ------
    InputError
        Nothing in it can be read.
    """
    from diptych.errors import ImageError
    from diptych.media import find_images, load_image

    paths = find_images([folder])
    paths = paths[:: max(1, len(paths) // MOST)][:MOST]
    pictures = []
    for path in paths:
        try:
            # Scaled while decoding, and small in memory: no model sees more than a few hundred pixels.
            picture = load_image(path, target=512)
        except (ImageError, ImportError, OSError):
            continue
        picture.thumbnail((1024, 1024))
        pictures.append(picture)
    if not pictures:
        raise InputError(f"none of the {len(paths)} pictures in {folder} could be read to calibrate with")
    note(f"read {counted(len(pictures), 'picture')} of {folder}", quiet=quiet)
    return pictures


def _table(checks: Sequence[Mapping[str, Any]]) -> None:
    """How near each runtime is to float32."""
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
    screen().print(table)
    note("cosines to torch in float32; order: Spearman's coefficient of pictures listed for a text")
