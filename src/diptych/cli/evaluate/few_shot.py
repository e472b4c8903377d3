"""`diptych evaluate few-shot`: linear classifiers trained on k pictures per class, beside zero-shot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate import transfer
from diptych.cli.shared.console import exit_on_failures
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.options import argument, option
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Settings
    from diptych.evaluation.probes.few_shot_report import FewShotRun


@measuring
def few_shot(
    data: Annotated[list[Path], argument("TRAIN TEST", "Pairs of training and test data.")],
    shots: Annotated[str, option("K,K,...", "Numbers of training pictures per class.")] = "1,2,4,8,16",
    seeds: Annotated[int, option("N", "Number of random draws for each K, with seeds 0, 1, ...")] = 3,
    val: transfer.Validation = None,
    full: Annotated[
        bool, typer.Option("--full/--no-full", help="Also measure the linear probe on all of TRAIN.")
    ] = True,
    features: transfer.Features = "tower",
    *,
    classes: transfer.ClassOptions,
    common: MeasureOptions,
) -> None:
    """Measure few-shot accuracy: train on a few pictures per class of TRAIN, test on TEST.

    The report compares the curve with zero-shot, and says how many labelled
    pictures zero-shot is worth. Several pairs of TRAIN and TEST give a curve
    each and their mean; --val and --names need a single pair.

    [bold]Examples[/bold]

      diptych evaluate few-shot flowers/train flowers/test --report curve

      diptych evaluate few-shot a/train a/test b/train b/test --seeds 10
    """
    numbers = _read_shots(shots)
    pairs = _pairs(data)
    if len(pairs) > 1 and (val is not None or classes.names is not None):
        raise InputError(
            "--val and --names need a single pair of TRAIN and TEST: measure each pair separately"
        )
    parts = transfer.with_distinct_names(
        [transfer.load_parts(*pair, val, classes.names, common.limit) for pair in pairs]
    )
    for data_pair in parts:
        transfer.compare_contents(data_pair.parts, common, allow=classes.allow_overlap, roles=data_pair.roles)
    encoder = common.encoder()
    from diptych.evaluation.probes.few_shot_report import few_shot_report, own_metric
    from diptych.evaluation.protocols.settings import Setup

    plan = {"shots": numbers, "seeds": seeds, "features": features}
    with transfer.feature_store(common.cache) as store:
        settings: Settings = {**common.settings(store), "allow_overlap": classes.allow_overlap}
        runs = [
            replace(
                _run(encoder, data_pair, plan, full, classes.templates, settings, common),
                metric=own_metric(test.name, test.resolve().parent.name),
            )
            for data_pair, (_, test) in zip(parts, pairs, strict=True)
        ]
    facts = Setup.of(**settings).facts(encoder, *(part for data_pair in parts for part in data_pair.parts))
    common.print_report(few_shot_report(runs, facts))
    exit_on_failures([run.curve for run in runs])


def _run(
    encoder: Encoder,
    data: transfer.TransferData,
    plan: dict[str, Any],
    full: bool,
    templates: str,
    settings: Settings,
    common: MeasureOptions,
) -> FewShotRun:
    """Measure one pair of data sets: the curve, zero-shot, and the probe on all of TRAIN."""
    from diptych.evaluation import evaluate_few_shot, evaluate_linear_probe
    from diptych.evaluation.probes.few_shot_report import FewShotRun

    transfer.embed_parts(encoder, data, plan["features"], settings, common)
    arguments = {"validation": data.validation, "features": plan["features"], **settings}
    curve = evaluate_few_shot(
        encoder, data.train, data.test, shots=plan["shots"], seeds=plan["seeds"], **arguments
    )
    zero_shot = transfer.measure_zero_shot(encoder, data, templates, settings, common)
    if not full:
        return FewShotRun(curve, zero_shot)
    return FewShotRun(curve, zero_shot, evaluate_linear_probe(encoder, data.train, data.test, **arguments))


def _read_shots(text: str) -> list[int]:
    """Read the numbers of shots.

    Examples
    --------
    >>> _read_shots("1, 2,16")
    [1, 2, 16]
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"--shots {text!r}: expected numbers of pictures of each class, such as 1,2,4,8,16")
    return numbers


def _pairs(paths: list[Path]) -> list[tuple[Path, Path]]:
    """Group the paths into pairs of TRAIN and TEST."""
    if len(paths) % 2:
        raise InputError(f"expected TRAIN TEST, or several such pairs, not {counted(len(paths), 'data set')}")
    return list(zip(paths[::2], paths[1::2], strict=True))
