"""`diptych evaluate probe` and `diptych evaluate knn`: learn from TRAIN, name the pictures of TEST."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate import transfer
from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.evaluate.reporting import tell
from diptych.cli.shared import options
from diptych.cli.shared.console import tell_failures

if TYPE_CHECKING:
    from diptych.encoder import Encoder
    from diptych.evaluation import Result, Settings

Strength = Annotated[
    float | None,
    typer.Option("--strength", metavar="C", help="1 / lambda of L2; else the paper's search finds it."),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Which part of TRAIN chooses the strength of L2.")]
Neighbours = Annotated[int, typer.Option("--neighbours", "-k", metavar="K", help="How many vote.")]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="T", help="Votes weigh exp(cosine / T), as in DINO (0.07); else all the same."),
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
    asked: Measuring,
) -> None:
    """Learn a linear classifier on the encoder's features of TRAIN and name the pictures of TEST.

    The protocol is the paper's: logistic regression on features before the
    projection; the strength of L2 is looked for on a fifth of TRAIN, or on
    --val. --names and --templates are for the zero-shot figures beside.

    [bold]Examples[/bold]

      diptych evaluate probe cifar10-train.tar.gz cifar10-test.tar.gz --report probe

      diptych evaluate probe flowers/train flowers/test --val flowers/val
    """
    (data,) = transfer.distinct([transfer.read(train, test, val, names, asked.limit)])
    transfer.compare_contents(data.parts, allow=allow_overlap, quiet=asked.quiet, roles=data.roles)
    also = transfer.own_metrics(test, data.test)
    encoder = asked.encoder()

    def measure(**settings: Any) -> Result:
        from diptych.evaluation import evaluate_linear_probe

        return evaluate_linear_probe(
            encoder,
            data.train,
            data.test,
            validation=data.validation,
            features=features,  # type: ignore[arg-type]  # checked there
            c=strength,
            seed=seed,
            also=also,
            **settings,
        )

    with transfer.kept(asked.cache) as store:
        settings = asked.settings(store)
        settings["allow_overlap"] = allow_overlap
        transfer.encode(encoder, data, features, asked.quiet, settings)
        _measure(encoder, data, measure, templates, also, settings, asked)


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
    asked: Measuring,
) -> None:
    """Name the pictures of TEST by their nearest neighbours in TRAIN; nothing is learnt.

    [bold]Examples[/bold]

      diptych evaluate knn cifar10-train.tar.gz cifar10-test.tar.gz

      diptych evaluate knn flowers/train flowers/test -k 5 --temperature 0.07
    """
    (data,) = transfer.distinct([transfer.read(train, test, None, names, asked.limit)])
    transfer.compare_contents(data.parts, allow=allow_overlap, quiet=asked.quiet, roles=data.roles)
    also = transfer.own_metrics(test, data.test)
    encoder = asked.encoder()

    def measure(**settings: Any) -> Result:
        from diptych.evaluation import evaluate_knn

        return evaluate_knn(
            encoder,
            data.train,
            data.test,
            k=neighbours,
            temperature=temperature,
            features=features,  # type: ignore[arg-type]  # checked there
            also=also,
            **settings,
        )

    with transfer.kept(asked.cache) as store:
        settings = asked.settings(store)
        settings["allow_overlap"] = allow_overlap
        transfer.encode(encoder, data, features, asked.quiet, settings)
        _measure(encoder, data, measure, templates, also, settings, asked)


def _measure(
    encoder: Encoder,
    data: transfer.Data,
    measure: Callable[..., Result],
    templates: str,
    also: Sequence[str],
    settings: Settings,
    asked: Measuring,
) -> None:
    """Measure, with zero-shot beside, and tell."""
    from diptych.evaluation.probes.probe_report import probe_report
    from diptych.evaluation.protocols.settings import Setup

    result = measure(**settings)
    level = transfer.zero_shot(encoder, data, templates, asked.quiet, settings, also)
    facts = Setup.of(**settings).facts(encoder, *data.parts)
    tell(probe_report(result, level, facts), asked.report, json=asked.json, quiet=asked.quiet)
    tell_failures([result])
