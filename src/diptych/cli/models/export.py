"""`diptych export` and `diptych models runtimes`: run a model without torch, and on the fastest runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.shared.console import clean, note, plain_table, print_json, stdout_console
from diptych.cli.shared.encoders import ModelName
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Output, OutputOptions, Pretrained, flag, option
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

MOST_CALIBRATION = 400  # pictures read to calibrate with

Calibrate = Annotated[
    Path | None,
    option(
        "DIR",
        "Calibrate int8 and check the export with these pictures, best some hundred of your own. "
        "Default: synthetic pictures.",
        show_default=False,
    ),
]


@with_groups
def export(
    model: ModelName,
    to: Annotated[Path, option("DIR", "The folder to write; must be new or empty.", show_default=False)],
    int8: Annotated[
        bool, flag("--int8", "Also write an int8 version for OpenVINO, about 1.5 times as fast.")
    ] = False,
    calibrate: Calibrate = None,
    pretrained: Pretrained = None,
    *,
    output: OutputOptions,
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

    pictures = None if calibrate is None else _read_pictures(calibrate, output)
    checkpoint = load_checkpoint(model, pretrained)
    spec = export_model(
        checkpoint,
        to,
        int8=int8,
        pictures=pictures,
        pictures_from=f"pictures of {calibrate}",
        note=output.note,
    )
    if output.json:
        summary: dict[str, Any] = {"folder": str(to), "identity": spec.identity, "dim": spec.dim}
        summary |= {"precisions": spec.precisions, "calibration": spec.calibration or None}
        summary |= {"files": dict(spec.sizes), "checks": [dict(check) for check in spec.checks]}
        print_json(summary)
        return
    _print_checks(spec.checks)
    size = sum(spec.sizes.values()) / 1e6
    print(f"written: {clean(str(to))}, {size:,.0f} MB, identity {spec.identity}")


@with_groups
def runtimes(
    model: ModelName = "default",
    calibrate: Calibrate = None,
    again: Annotated[bool, flag("--again", "Measure again even if a result is stored.")] = False,
    pretrained: Pretrained = None,
    *,
    output: OutputOptions,
) -> None:
    """Measure torch, ONNX Runtime and OpenVINO on a model and remember the fastest.

    Each is checked against float32 first. Commands with --runtime auto, and
    diptych.load(runtime="auto"), use the fastest one. int8 is measured only
    with --calibrate.

    [bold]Examples[/bold]

      diptych models runtimes

      diptych models runtimes ViT-B-32 --pretrained openai --calibrate ~/Pictures
    """
    from diptych.backends import choose_runtime

    pictures = None if calibrate is None else _read_pictures(calibrate, output)
    choice = choose_runtime(
        model,
        pretrained,
        pictures=pictures,
        pictures_from=f"pictures of {calibrate}",
        again=again,
        note=output.note,
    )
    if output.json:
        summary = {"model": model, "runtime": choice.runtime, "precision": choice.precision}
        print_json(summary | {"pictures_per_second": dict(choice.rates)})
        return
    console = stdout_console()
    for runtime, rate in sorted(choice.rates.items(), key=lambda item: -item[1]):
        is_chosen = runtime == f"{choice.runtime} {choice.precision}"
        remark = "   used by --runtime auto" if is_chosen else ""
        console.print(f"{runtime:<20}{rate:>9,.1f} pictures/s{remark}")


def _read_pictures(folder: Path, output: Output) -> Sequence[Image]:
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
    output.note(f"read {counted(len(pictures), 'picture')} from {folder}")
    return pictures


def _print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """Print how close each runtime is to float32."""
    figure_names = ("pictures: mean", "worst", "texts: mean", "worst", "order")
    table = plain_table("runtime", "precision", *figure_names, right=figure_names)
    for check in checks:
        keys = ("image_mean", "image_worst", "text_mean", "text_worst", "order")
        figures = [f"{check[key]:.5f}" for key in keys if key in check]
        table.add_row(check["runtime"], check["precision"] + " refused" * bool(check["refused"]), *figures)
    stdout_console().print(table)
    note(
        "cosine similarity to torch in float32; order: Spearman correlation of the ranking of pictures for a "
        "text"
    )
