"""`diptych evaluate probe` and `diptych evaluate knn`: train on TRAIN, classify the pictures of TEST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.evaluate import transfer
from diptych.cli.shared.console import exit_on_failures
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.options import option

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Result, Settings


@measuring
def probe(
    train: transfer.Train,
    test: transfer.Test,
    val: transfer.Validation = None,
    features: transfer.Features = "tower",
    strength: Annotated[
        float | None, option("C", "Inverse L2 strength (1 / lambda). Default: found by the paper's search.")
    ] = None,
    seed: Annotated[int, option("N", "Random seed of the part of TRAIN that chooses the L2 strength.")] = 0,
    *,
    classes: transfer.ClassOptions,
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

    def evaluate(encoder: Encoder, data: transfer.TransferData, **settings: Any) -> Result:
        from diptych.evaluation import evaluate_linear_probe

        settings |= {"validation": data.validation, "features": features, "c": strength, "seed": seed}
        return evaluate_linear_probe(encoder, data.train, data.test, **settings)

    data = transfer.load_parts(train, test, val, classes.names, common.limit)
    _measure(evaluate, data, test, features, classes, common)


@measuring
def knn(
    train: transfer.Train,
    test: transfer.Test,
    neighbours: Annotated[int, option("K", "Number of neighbours that vote.", "--neighbours", "-k")] = 20,
    temperature: Annotated[
        float | None,
        option("T", "Weight votes by exp(cosine / T), as DINO does (0.07). Default: equal weights."),
    ] = None,
    features: transfer.Features = "embeddings",
    *,
    classes: transfer.ClassOptions,
    common: MeasureOptions,
) -> None:
    """Classify the pictures of TEST by their nearest neighbours in TRAIN, without training.

    [bold]Examples[/bold]

      diptych evaluate knn cifar10-train.tar.gz cifar10-test.tar.gz

      diptych evaluate knn flowers/train flowers/test -k 5 --temperature 0.07
    """

    def evaluate(encoder: Encoder, data: transfer.TransferData, **settings: Any) -> Result:
        from diptych.evaluation import evaluate_knn

        settings |= {"features": features, "k": neighbours, "temperature": temperature}
        return evaluate_knn(encoder, data.train, data.test, **settings)

    data = transfer.load_parts(train, test, None, classes.names, common.limit)
    _measure(evaluate, data, test, features, classes, common)


def _measure(
    evaluate: Callable[..., Result],
    loaded: transfer.TransferData,
    test: Path,
    features: str,
    classes: transfer.ClassOptions,
    common: MeasureOptions,
) -> None:
    """Measure the classifier and zero-shot beside it, and print the report."""
    from diptych.evaluation.probes.probe_report import probe_report
    from diptych.evaluation.protocols.settings import Setup

    (data,) = transfer.with_distinct_names([loaded])
    transfer.compare_contents(data.parts, common, allow=classes.allow_overlap, roles=data.roles)
    also = transfer.own_metrics(test, data.test)
    encoder = common.encoder()
    with transfer.feature_store(common.cache) as store:
        settings: Settings = {**common.settings(store), "allow_overlap": classes.allow_overlap}
        transfer.embed_parts(encoder, data, features, settings, common)
        result = evaluate(encoder, data, also=also, **settings)
        zero_shot = transfer.measure_zero_shot(encoder, data, classes.templates, settings, common, also)
        facts = Setup.of(**settings).facts(encoder, *data.parts)
        common.print_report(probe_report(result, zero_shot, facts))
        exit_on_failures([result])
