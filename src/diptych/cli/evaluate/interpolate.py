"""`diptych evaluate interpolate`: measure interpolations between a model and its fine-tuned version."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.evaluate.transfer import ClassOptions, compare_contents
from diptych.cli.shared import options
from diptych.cli.shared.console import (
    clear_progress,
    exit_on_failures,
    note,
    print_json,
    progress,
    stdout_console,
)
from diptych.cli.shared.encoders import model_and_tag
from diptych.cli.shared.labels import class_texts
from diptych.cli.shared.measuring import RunOptions, limited, measuring
from diptych.cli.shared.options import argument, option
from diptych.cli.shared.reporting import save_report
from diptych.errors import DataError, InputError, MissingExtraError, counted

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Interpolation, InterpolationPoint, Measure, Result, Settings
    from diptych.weights import Checkpoint

_FILE = "curve.json"


@dataclass(frozen=True)
class _InterpolateOptions(RunOptions):
    """Options of a measurement of models between two others."""

    pretrained: options.Pretrained = None
    limit: options.Limit = None


@dataclass(frozen=True)
class MixingOptions:
    """Which models are measured, and on which old tasks."""

    keep_up: Annotated[
        list[Path] | None,
        option("DATA", "Data of an old task that must not get worse; repeat it for several."),
    ] = None
    shares: Annotated[
        str, option("LIST", "Mixing weights of END: 0 is START, 1 is END.", show_default="0,0.1,...,1")
    ] = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
    keep: Annotated[float | None, option("SHARE", "Save the model with this weight of END in --out.")] = None


@measuring
def interpolate(
    start: Annotated[str, argument("START", "The model before fine-tuning.")],
    end: Annotated[str, argument("END", "The model after fine-tuning: a run or a model.")],
    data: Annotated[Path, argument("DATA", "Data of the new task, as for zero-shot or retrieval.")],
    *,
    mixing: MixingOptions,
    classes: ClassOptions,
    out: Annotated[
        Path | None, option("DIR", "The folder for curve.json, the plots and the model.", "--out", "-o")
    ] = None,
    common: _InterpolateOptions,
) -> None:
    """Measure models whose weights are interpolated between START and END (WiSE-FT).

    Between a model and its fine-tuned version there is often one that is good
    at the new task and nearly as good as before at the old ones. Nothing is
    trained. --names and --templates are for DATA, --pretrained for START; both
    models may be given as NAME,TAG. Points in --out are not measured again.

    [bold]Examples[/bold]

      diptych evaluate interpolate default runs/mine flowers.tar --keep-up cifar10.tar.gz

      diptych evaluate interpolate default runs/mine flowers.tar --shares 0.5 --keep 0.5 -o half

      diptych classify rose.jpg rose tulip --model half
    """
    keep = mixing.keep
    if keep is not None and out is None:
        raise InputError("--keep saves a model: add --out DIR")
    weights = _read_weights(mixing.shares)
    if keep is not None and not 0 <= keep <= 1:
        raise InputError(f"--keep {keep:g}: expected a number from 0 (START) to 1 (END)")
    if common.runtime not in (None, "auto", "torch"):
        raise InputError(f"--runtime {common.runtime}: this command mixes weights, which needs torch")
    from diptych.weights import load_checkpoint

    measures = _measures(data, mixing.keep_up or [], classes, common.limit)
    datasets = [measure.dataset for measure in measures]
    compare_contents(datasets, common, allow=classes.allow_overlap)
    references = [model_and_tag(start, common.pretrained), model_and_tag(end)]
    ends = [load_checkpoint(*reference) for reference in references]
    interpolated = _interpolator(ends)
    torch_only = replace(common, runtime="torch")

    curve = _measure_curve(
        lambda weight: torch_only.open(interpolated(weight), None),
        weights,
        measures,
        (ends[0].identity, ends[1].identity),
        {**common.settings(), "allow_overlap": classes.allow_overlap},
        out,
        common.quiet,
    )
    _print_curve(curve, common, out, f"{start} to {end}")
    if out is not None and keep is not None:
        _save(interpolated(keep), keep, out, common.quiet)
    exit_on_failures(curve.points[0].results)


def _print_curve(curve: Interpolation, common: _InterpolateOptions, out: Path | None, title: str) -> None:
    """Print the table or JSON; write the page of --report and the plots of --out."""
    clear_progress()
    if common.json:
        print_json(curve.to_dict(), indent=1)
    else:
        _table(curve)
    if common.report is not None:
        from diptych.evaluation.results.results_report import results_report

        results = [result for point in curve.points for result in point.results]
        save_report(
            results_report(results, title=title, facts={"Command": curve.command}),
            common.report,
            quiet=common.quiet,
        )
    if out is not None:
        _draw(curve, out, title, common.quiet)


def _read_weights(text: str) -> list[float]:
    """Read the mixing weights of END.

    Examples
    --------
    >>> _read_weights("0, 0.5,1")
    [0.0, 0.5, 1.0]
    """
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if not weights or not all(0 <= weight <= 1 for weight in weights):
        raise InputError(f"--shares {text!r}: expected numbers from 0 (START) to 1 (END), such as 0,0.5,1")
    return weights


def _measures(data: Path, keep_up: Sequence[Path], classes: ClassOptions, limit: int | None) -> list[Measure]:
    """The measures of the new task, with class names, and of the old tasks."""
    from diptych.datasets import ImageDataset, load_labelled
    from diptych.evaluation import Measure, open_measure
    from diptych.evaluation.protocols.measures import distinct

    if classes.names is None:
        target = open_measure(data)
        if isinstance(target.dataset, ImageDataset):
            target = Measure(target.dataset, templates=classes.templates)
    else:
        words, texts = class_texts(classes.names)
        dataset = load_labelled(data, class_names=words)
        named = {name: texts[name] for name in dataset.class_names} if texts else None
        target = Measure(dataset, named, classes.templates)
    opened = [target, *map(open_measure, keep_up)]
    return distinct([replace(measure, dataset=limited(measure.dataset, limit)) for measure in opened])


def _save(model: Checkpoint, weight: float, out: Path, quiet: bool) -> None:
    from diptych.weights import to_diptych

    to_diptych(model, out / "model")
    note(f"model: {out}/model, {weight:g} of the way  (--model {out})", quiet=quiet)


def _interpolator(ends: Sequence[Checkpoint]) -> Callable[[float], Checkpoint]:
    """A function from the weight of END to the interpolated model; raises at once if the ends differ."""
    from diptych.weights import combine

    def interpolated(weight: float) -> Checkpoint:
        return combine(ends, [1 - weight, weight])

    interpolated(1.0)  # raises if the architectures differ
    return interpolated


def _measure_curve(
    encoder_at: Callable[[float], Encoder],
    weights: Sequence[float],
    measures: Sequence[Measure],
    identities: tuple[str, str],
    settings: Settings,
    out: Path | None,
    quiet: bool,
) -> Interpolation:
    """Measure point by point; each is saved at once, and reused when the command is repeated."""
    from diptych.evaluation import Interpolation
    from diptych.evaluation import interpolate as measure_points

    file = None if out is None else out / _FILE
    metrics = [measure.metric for measure in measures]
    points: list[InterpolationPoint] = []

    def run_measure(measure: Measure, encoder: Any, weight: float) -> Result:
        name = f"{weight:g} of the way"
        with progress(
            f"{name}: {measure.name}", len(measure.dataset), unit="pictures", quiet=quiet
        ) as advance:
            return measure(encoder, **{**settings, "progress": advance, "model": name})

    saved = _saved_points(file, identities, settings["command"])
    if saved:
        note(f"{counted(len(saved), 'point')} reused from {file}", quiet=quiet)
    curve = Interpolation(*identities, metrics, points, settings["command"])
    allow = settings["allow_overlap"]
    for point in measure_points(encoder_at, weights, measures, run_measure, saved, allow_overlap=allow):
        points.append(point)
        if file is not None:
            rest = [later for later in saved if later.alpha > point.alpha]
            Interpolation(*identities, metrics, [*points, *rest], settings["command"]).save(file)
    return curve


def _saved_points(
    file: Path | None, identities: tuple[str, str], command: str
) -> Sequence[InterpolationPoint]:
    """Points that an earlier run of the same command measured."""
    from diptych.evaluation import Interpolation

    if file is None or not file.exists():
        return ()
    before = Interpolation.read(file)
    previous = [before.start, before.end, _relevant_words(before.command)]
    if previous != [*identities, _relevant_words(command)]:
        raise DataError(
            f"{file} was written for other models or by another command ({before.command}): choose another "
            "--out, or remove the file"
        )
    return before.points


def _relevant_words(command: str) -> list[str]:
    """The words of a command that affect its results.

    Examples
    --------
    >>> _relevant_words("diptych evaluate interpolate a b data --shares 0,1 --json -o way --fast")
    ['diptych', 'evaluate', 'interpolate', 'a', 'b', 'data', '--fast']
    """
    words = iter(shlex.split(command))
    relevant = []
    for word in words:
        if word in ("--shares", "--keep", "--out", "-o", "--report", "--cache"):
            next(words, None)
        elif word not in ("--json", "--quiet", "-q"):
            relevant.append(word)
    return relevant


def _table(curve: Interpolation) -> None:
    """Print one line per point, and chance last."""
    from rich.table import Table

    from diptych.evaluation.results.result import short_name

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("share", no_wrap=True)
    for number, name in enumerate(curve.names):
        metric = curve.metrics[number]
        kind = "accuracy" if metric == "acc1" else short_name(metric)
        table.add_column(f"{name}\n{kind}", justify="right", overflow="fold")
    for point in curve.points:
        cells = [_cell(result, metric) for result, metric in zip(point.results, curve.metrics, strict=True)]
        table.add_row(f"{point.alpha:g}", *cells)
    first = zip(curve.points[0].results, curve.metrics, strict=True)
    table.add_row("chance", *(f"{result.chance[metric]:.3f}{' ' * 15}" for result, metric in first))
    stdout_console().print(table)


def _cell(result: Result, metric: str) -> str:
    """A metric with its 95 % interval."""
    low, high = result.intervals[metric]
    return f"{result.metrics[metric]:.3f} [{low:.3f}, {high:.3f}]"


def _draw(curve: Interpolation, out: Path, title: str, quiet: bool) -> None:
    written = [out / _FILE]
    try:
        written += curve.plot(out, title)
    except MissingExtraError as error:
        note(f"no plots: {error}")
    note(f"written: {', '.join(path.name for path in written)} in {out}", quiet=quiet)
