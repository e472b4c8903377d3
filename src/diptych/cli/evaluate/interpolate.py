"""`diptych evaluate interpolate`: between a model and its fine-tuned self, what is gained and what kept."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate.measuring import SharedOptions, limited, measuring
from diptych.cli.evaluate.reporting import write
from diptych.cli.evaluate.transfer import compare_contents
from diptych.cli.shared import options
from diptych.cli.shared.console import clear_progress, note, print_json, progress, screen, tell_failures
from diptych.cli.shared.labels import class_texts
from diptych.errors import DataError, InputError, MissingExtraError

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Interpolation, InterpolationPoint, Measure, Result, Settings
    from diptych.weights import Checkpoint

_STEPS = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
_FILE = "curve.json"

Model = Annotated[str, typer.Argument(metavar="START", help="Before fine-tuning.", show_default=False)]
End = Annotated[str, typer.Argument(metavar="END", help="After it: a run or a model.", show_default=False)]
Target = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="The new task, as for zero-shot or retrieval.", show_default=False),
]
KeepUp = Annotated[
    list[Path] | None,
    typer.Option("--keep-up", metavar="DATA", help="What is not to be forgotten; more than one is fine."),
]
Shares = Annotated[
    str, typer.Option(metavar="LIST", help="Shares of the way, 0 is START.", show_default="0,0.1,...,1")
]
Keep = Annotated[float | None, typer.Option(metavar="SHARE", help="Save the model at this share in --out.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="For curve.json, the plots and the model.")
]


@dataclass(frozen=True)
class _InterpolateOptions(SharedOptions):
    """Options of a measurement between two models."""

    pretrained: options.Pretrained = None
    limit: options.Limit = None


@measuring
def interpolate(
    start: Model,
    end: End,
    data: Target,
    keep_up: KeepUp = None,
    shares: Shares = _STEPS,
    keep: Keep = None,
    names: options.Names = None,
    templates: options.Templates = "plain",
    allow_overlap: options.AllowOverlap = False,
    out: Out = None,
    *,
    asked: _InterpolateOptions,
) -> None:
    """Measure the models between START and END, by the mean of their weights (WiSE-FT).

    Between a model and its fine-tuned self there is often one that learned most
    of the new task and forgot little of the rest. Nothing is trained. --names
    and --templates are for DATA, --pretrained for START; both ends may be named
    NAME,TAG. Points that --out holds are not measured again.

    [bold]Examples[/bold]

      diptych evaluate interpolate default runs/mine flowers.tar --keep-up cifar10.tar.gz

      diptych evaluate interpolate default runs/mine flowers.tar --shares 0.5 --keep 0.5 -o half

      diptych classify rose.jpg rose tulip --model half
    """
    if keep is not None and out is None:
        raise InputError("--keep saves a model: say where, with --out DIR")
    wanted = _read_shares(shares)
    if keep is not None and not 0 <= keep <= 1:
        raise InputError(f"--keep {keep:g} is no share of the way: expected 0 (START) to 1 (END)")
    if asked.runtime not in (None, "auto", "torch"):
        raise InputError(f"--runtime {asked.runtime}: weights are mixed here, which torch alone can do")
    from diptych.weights import load_checkpoint

    measures = _measures(data, keep_up or [], names, templates, asked.limit)
    compare_contents([one.dataset for one in measures], allow=allow_overlap, quiet=asked.quiet)
    named = [options.model_and_tag(start, asked.pretrained), options.model_and_tag(end)]
    ends = [load_checkpoint(*one) for one in named]
    mixed = _mixer(ends)
    torch_only = replace(asked, runtime="torch")

    found = _walk(
        lambda share: torch_only.open(mixed(share), None),
        wanted,
        measures,
        (ends[0].identity, ends[1].identity),
        {**asked.settings(), "allow_overlap": allow_overlap},
        out,
        asked.quiet,
    )
    _tell(found, asked, out, f"{start} to {end}")
    if out is not None and keep is not None:
        _save(mixed(keep), keep, out, asked.quiet)
    tell_failures(found.points[0].results)


def _tell(found: Interpolation, asked: _InterpolateOptions, out: Path | None, title: str) -> None:
    """The table or the JSON; the page of --report; the plots of --out."""
    clear_progress()
    if asked.json:
        print_json(found.to_dict(), indent=1)
    else:
        _table(found)
    if asked.report is not None:
        from diptych.evaluation.results.results_report import results_report

        results = [result for point in found.points for result in point.results]
        write(
            results_report(results, title=title, facts={"Command": found.command}),
            asked.report,
            quiet=asked.quiet,
        )
    if out is not None:
        _draw(found, out, title, asked.quiet)


def _read_shares(text: str) -> list[float]:
    """Shares of the way from a list.

    Examples
    --------
    >>> _read_shares("0, 0.5,1")
    [0.0, 0.5, 1.0]
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= share <= 1 for share in found):
        raise InputError(f"--shares {text!r}: expected numbers from 0 (START) to 1 (END), such as 0,0.5,1")
    return found


def _measures(
    data: Path, keep_up: Sequence[Path], names: str | None, templates: str, limit: int | None
) -> list[Measure]:
    """The target's measure, with words for its classes, and those of what is to be kept."""
    from diptych.datasets import ImageDataset, load_labelled
    from diptych.evaluation import Measure, open_measure
    from diptych.evaluation.protocols.measures import distinct

    if names is None:
        target = open_measure(data)
        if isinstance(target.dataset, ImageDataset):
            target = Measure(target.dataset, templates=templates)
    else:
        words, texts = class_texts(names)
        dataset = load_labelled(data, class_names=words)
        named = {name: texts[name] for name in dataset.class_names} if texts else None
        target = Measure(dataset, named, templates)
    opened = [target, *map(open_measure, keep_up)]
    return distinct([replace(one, dataset=limited(one.dataset, limit)) for one in opened])


def _save(model: Checkpoint, share: float, out: Path, quiet: bool) -> None:
    from diptych.weights import to_diptych

    to_diptych(model, out / "model")
    note(f"model: {out}/model, {share:g} of the way  (--model {out})", quiet=quiet)


def _mixer(ends: Sequence[Checkpoint]) -> Callable[[float], Checkpoint]:
    """From a share of the way to the model there; the ends are tried first, for they may not fit."""
    from diptych.weights import combine

    def mixed(share: float) -> Checkpoint:
        return combine(ends, [1 - share, share])

    mixed(1.0)
    return mixed


def _walk(
    encoder_at: Callable[[float], Encoder],
    shares: Sequence[float],
    measures: Sequence[Measure],
    identities: tuple[str, str],
    settings: Settings,
    out: Path | None,
    quiet: bool,
) -> Interpolation:
    """Measure point by point; each is saved at once, and taken from there when the command comes again."""
    from diptych.evaluation import Interpolation
    from diptych.evaluation import interpolate as walk

    file = None if out is None else out / _FILE
    metrics = [measure.metric for measure in measures]
    points: list[InterpolationPoint] = []

    def gauge(measure: Measure, encoder: Any, share: float) -> Result:
        told = f"{share:g} of the way: {measure.name}"
        with progress(told, len(measure.dataset), unit="pictures", quiet=quiet) as advance:
            return measure(encoder, **{**settings, "progress": advance, "model": f"{share:g} of the way"})

    known = _known(file, identities, settings["command"])
    if known:
        note(f"{file} has {len(known)} of the points", quiet=quiet)
    found = Interpolation(*identities, metrics, points, settings["command"])
    allow = settings["allow_overlap"]
    for point in walk(encoder_at, shares, measures, gauge, known, allow_overlap=allow):
        points.append(point)
        if file is not None:
            rest = [one for one in known if one.alpha > point.alpha]
            Interpolation(*identities, metrics, [*points, *rest], settings["command"]).save(file)
    return found


def _known(file: Path | None, identities: tuple[str, str], command: str) -> Sequence[InterpolationPoint]:
    """What the same command has measured before."""
    from diptych.evaluation import Interpolation

    if file is None or not file.exists():
        return ()
    before = Interpolation.read(file)
    ends = [before.start, before.end, _deciding(before.command)]
    if ends != [*identities, _deciding(command)]:
        raise DataError(
            f"{file} is of other models or another command ({before.command}): choose another --out, or "
            "remove it"
        )
    return before.points


def _deciding(command: str) -> list[str]:
    """The words of a command that decide its figures.

    Examples
    --------
    >>> _deciding("diptych evaluate interpolate a b data --shares 0,1 --json -o way --fast")
    ['diptych', 'evaluate', 'interpolate', 'a', 'b', 'data', '--fast']
    """
    words = iter(shlex.split(command))
    found = []
    for word in words:
        if word in ("--shares", "--keep", "--out", "-o", "--report", "--cache"):
            next(words, None)
        elif word not in ("--json", "--quiet", "-q"):
            found.append(word)
    return found


def _table(found: Interpolation) -> None:
    """One line a share; chance last."""
    from rich.table import Table

    from diptych.evaluation.results.result import short_name

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("share", no_wrap=True)
    for number, name in enumerate(found.names):
        metric = found.metrics[number]
        kind = "accuracy" if metric == "acc1" else short_name(metric)
        table.add_column(f"{name}\n{kind}", justify="right", overflow="fold")
    for point in found.points:
        cells = [_cell(result, metric) for result, metric in zip(point.results, found.metrics, strict=True)]
        table.add_row(f"{point.alpha:g}", *cells)
    first = zip(found.points[0].results, found.metrics, strict=True)
    table.add_row("chance", *(f"{result.chance[metric]:.3f}{' ' * 15}" for result, metric in first))
    screen().print(table)


def _cell(result: Result, metric: str) -> str:
    """A figure and its 95 % interval."""
    low, high = result.intervals[metric]
    return f"{result.metrics[metric]:.3f} [{low:.3f}, {high:.3f}]"


def _draw(found: Interpolation, out: Path, title: str, quiet: bool) -> None:
    written = [out / _FILE]
    try:
        written += found.plot(out, title)
    except MissingExtraError as error:
        note(f"no plots: {error}")
    note(f"written: {', '.join(path.name for path in written)} in {out}", quiet=quiet)
