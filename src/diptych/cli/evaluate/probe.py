"""`diptych evaluate probe` and `diptych evaluate knn`: train on TRAIN, classify the pictures of TEST."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate import transfer
from diptych.cli.shared import options
from diptych.cli.shared.console import exit_on_failures
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.reporting import print_report

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Result, Settings

Strength = Annotated[
    float | None,
    typer.Option(
        "--strength",
        metavar="C",
        help="Inverse L2 strength (1 / lambda). Default: found by the paper's search.",
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Random seed of the part of TRAIN that chooses the L2 strength.")
]
Neighbours = Annotated[
    int, typer.Option("--neighbours", "-k", metavar="K", help="Number of neighbours that vote.")
]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="T", help="Weight votes by exp(cosine / T), as DINO does (0.07). Default: equal weights."
    ),
]


@measuring
def probe(
    train: transfer.Train,
    test: transfer.Test,
    val: transfer.Validation = None,
    features: transfer.Features = "tower",
    strength: Strength = None,
    seed: Seed = 0,
    names: options.Names = None,
    templates: options.Templates = "plain",
    allow_overlap: options.AllowOverlap = False,
    *,
    common: MeasureOptions,
) -> None:
    """Measure a linear probe: train a linear classifier on features of TRAIN, test it on TEST.

    The protocol is the paper's: logistic regression on features before the
    projection; the L2 strength is chosen on a fifth of TRAIN, or on --val.
    --names and --templates are for the zero-shot result shown beside it.

    [bold]Examples[/bold]

      diptych evaluate probe cifar10-train.tar.gz cifar10-test.tar.gz --report probe

      diptych evaluate probe flowers/train flowers/test --val flowers/val
    """
    (data,) = transfer.with_distinct_names([transfer.load_parts(train, test, val, names, common.limit)])
    transfer.compare_contents(data.parts, allow=allow_overlap, quiet=common.quiet, roles=data.roles)
    also = transfer.own_metrics(test, data.test)
    encoder = common.encoder()

    def measure(**settings: Any) -> Result:
        from diptych.evaluation import evaluate_linear_probe

        return evaluate_linear_probe(
            encoder,
            data.train,
            data.test,
            validation=data.validation,
            features=features,  # type: ignore[arg-type]  # checked by the callee
            c=strength,
            seed=seed,
            also=also,
            **settings,
        )

    with transfer.feature_store(common.cache) as store:
        settings = common.settings(store)
        settings["allow_overlap"] = allow_overlap
        transfer.embed_parts(encoder, data, features, common.quiet, settings)
        _measure(encoder, data, measure, templates, also, settings, common)


@measuring
def knn(
    train: transfer.Train,
    test: transfer.Test,
    neighbours: Neighbours = 20,
    temperature: Temperature = None,
    features: transfer.Features = "embeddings",
    names: options.Names = None,
    templates: options.Templates = "plain",
    allow_overlap: options.AllowOverlap = False,
    *,
    common: MeasureOptions,
) -> None:
    """Classify the pictures of TEST by their nearest neighbours in TRAIN, without training.

    [bold]Examples[/bold]

      diptych evaluate knn cifar10-train.tar.gz cifar10-test.tar.gz

      diptych evaluate knn flowers/train flowers/test -k 5 --temperature 0.07
    """
    (data,) = transfer.with_distinct_names([transfer.load_parts(train, test, None, names, common.limit)])
    transfer.compare_contents(data.parts, allow=allow_overlap, quiet=common.quiet, roles=data.roles)
    also = transfer.own_metrics(test, data.test)
    encoder = common.encoder()

    def measure(**settings: Any) -> Result:
        from diptych.evaluation import evaluate_knn

        return evaluate_knn(
            encoder,
            data.train,
            data.test,
            k=neighbours,
            temperature=temperature,
            features=features,  # type: ignore[arg-type]  # checked by the callee
            also=also,
            **settings,
        )

    with transfer.feature_store(common.cache) as store:
        settings = common.settings(store)
        settings["allow_overlap"] = allow_overlap
        transfer.embed_parts(encoder, data, features, common.quiet, settings)
        _measure(encoder, data, measure, templates, also, settings, common)


def _measure(
    encoder: Encoder,
    data: transfer.TransferData,
    measure: Callable[..., Result],
    templates: str,
    also: Sequence[str],
    settings: Settings,
    common: MeasureOptions,
) -> None:
    """Measure the classifier and zero-shot beside it, and print the report."""
    from diptych.evaluation.probes.probe_report import probe_report
    from diptych.evaluation.protocols.settings import Setup

    result = measure(**settings)
    zero_shot = transfer.measure_zero_shot(encoder, data, templates, common.quiet, settings, also)
    facts = Setup.of(**settings).facts(encoder, *data.parts)
    print_report(probe_report(result, zero_shot, facts), common.report, json=common.json, quiet=common.quiet)
    exit_on_failures([result])
