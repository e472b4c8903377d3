"""`diptych evaluate few-shot`: what k labelled pictures of each class teach, beside zero-shot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate import transfer
from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.evaluate.reporting import tell
from diptych.cli.shared import options
from diptych.cli.shared.console import tell_failures
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Settings
    from diptych.evaluation.probes.few_shot_report import FewShotRun

Pairs = Annotated[list[Path], typer.Argument(metavar="TRAIN TEST", show_default=False)]
Shots = Annotated[str, typer.Option(metavar="K,K,...", help="Labelled pictures of each class.")]
Seeds = Annotated[int, typer.Option(metavar="N", help="Draws of each number, by seeds 0, 1, ...")]
Full = Annotated[
    bool, typer.Option("--full/--no-full", help="The linear probe on all of TRAIN beside the curve.")
]


@measuring
def few_shot(
    data: Pairs,
    shots: Shots = "1,2,4,8,16",
    seeds: Seeds = 3,
    val: transfer.Validation = None,
    full: Full = True,
    features: transfer.Features = "tower",
    names: options.Names = None,
    templates: options.Templates = "plain",
    allow_overlap: options.AllowOverlap = False,
    *,
    asked: Measuring,
) -> None:
    """Learn linear classifiers from a few pictures of each class of TRAIN and name the pictures of TEST.

    Beside the curve stands zero-shot, and how many labelled pictures it is
    worth. Several pairs of TRAIN and TEST give a curve each and their mean;
    --val and --names are for one pair.

    [bold]Examples[/bold]

      diptych evaluate few-shot flowers/train flowers/test --report curve

      diptych evaluate few-shot a/train a/test b/train b/test --seeds 10
    """
    wanted = _shots(shots)
    pairs = _pairs(data)
    if len(pairs) > 1 and (val is not None or names is not None):
        raise InputError("--val and --names are for one pair of TRAIN and TEST: measure each pair by itself")
    parts = transfer.distinct([transfer.read(*pair, val, names, asked.limit) for pair in pairs])
    for one in parts:
        transfer.compare_contents(one.parts, allow=allow_overlap, quiet=asked.quiet, roles=one.roles)
    encoder = asked.encoder()
    from diptych.evaluation.probes.few_shot_report import few_shot_report, own_metric
    from diptych.evaluation.protocols.settings import Setup

    plan = {"shots": wanted, "seeds": seeds, "features": features}
    with transfer.kept(asked.cache) as store:
        settings = asked.settings(store)
        settings["allow_overlap"] = allow_overlap
        runs = [
            replace(
                _run(encoder, one, plan, full, templates, asked.quiet, settings),
                metric=own_metric(test.name, test.resolve().parent.name),
            )
            for one, (_, test) in zip(parts, pairs, strict=True)
        ]
    facts = Setup.of(**settings).facts(encoder, *(part for one in parts for part in one.parts))
    tell(few_shot_report(runs, facts), asked.report, json=asked.json, quiet=asked.quiet)
    tell_failures([run.curve for run in runs])


def _run(
    encoder: Encoder,
    data: transfer.Data,
    plan: dict[str, Any],
    full: bool,
    templates: str,
    quiet: bool,
    settings: Settings,
) -> FewShotRun:
    """One pair of data sets: the curve, zero-shot, the probe on everything."""
    from diptych.evaluation import evaluate_few_shot, evaluate_linear_probe
    from diptych.evaluation.probes.few_shot_report import FewShotRun

    transfer.encode(encoder, data, plan["features"], quiet, settings)
    given = {"validation": data.validation, "features": plan["features"], **settings}
    curve = evaluate_few_shot(
        encoder, data.train, data.test, shots=plan["shots"], seeds=plan["seeds"], **given
    )
    level = transfer.zero_shot(encoder, data, templates, quiet, settings)
    if not full:
        return FewShotRun(curve, level)
    return FewShotRun(curve, level, evaluate_linear_probe(encoder, data.train, data.test, **given))


def _shots(text: str) -> list[int]:
    """Numbers of shots from a list.

    Examples
    --------
    >>> _shots("1, 2,16")
    [1, 2, 16]
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(f"--shots {text!r}: expected numbers of pictures of each class, such as 1,2,4,8,16")
    return found


def _pairs(paths: list[Path]) -> list[tuple[Path, Path]]:
    """TRAIN and TEST, by turns."""
    if len(paths) % 2:
        raise InputError(
            f"{len(paths)} data sets: expected TRAIN and TEST, or several such pairs one after another"
        )
    return list(zip(paths[::2], paths[1::2], strict=True))
