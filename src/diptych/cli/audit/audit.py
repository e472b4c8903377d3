"""`diptych audit`: what a model cannot do, on pictures drawn here; audits of data are in `audit_data.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.auditing import run
from diptych.cli.evaluate.measuring import Drawing, Measuring, measuring

app = typer.Typer(
    no_args_is_help=True,
    help="What a model cannot do, and what it should not: limits, each with chance and a verdict.",
)

Seed = Annotated[int, typer.Option(metavar="N", help="Of everything drawn at random.")]
Each = Annotated[int, typer.Option(metavar="N", min=1, help="Pictures of each kind.")]
Clevr = Annotated[Path | None, typer.Option(metavar="DIR", help="CLEVR_v1.0, in place of drawn pictures.")]


@app.command("counting")
@measuring
def counting(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", show_default=False, help="Folders named like numbers.")
    ] = None,
    clevr: Clevr = None,
    things: Annotated[
        str, typer.Option(metavar="TEXT", help="What is counted in DATA, in the plural.")
    ] = "objects",
    most: Annotated[int, typer.Option(metavar="N", min=2, max=20, help="Count up to this.")] = 10,
    each: Each = 48,
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """How many things are in the picture: drawn ones, CLEVR, or folders named like numbers.

    [bold]Examples[/bold]

      diptych audit counting --report counting

      diptych audit counting --clevr CLEVR_v1.0 --limit 2000
    """
    from diptych.audits.limits.annotated import clevr_counts
    from diptych.audits.limits.counting import audit_counting
    from diptych.datasets import load_labelled

    if data is not None and clevr is not None:
        raise typer.BadParameter("DATA and --clevr exclude each other: one set of pictures at a time")
    found = clevr_counts(clevr) if clevr else load_labelled(data) if data else None
    if found is None:
        _refuse_limit(asked, "DATA or --clevr")
    else:
        found = asked.limited(found, seed)
    run(asked, "counting", audit_counting, found, most=most, each=each, things=things, seed=seed)


@app.command("relations")
@measuring
def relations(
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only these, e.g. left, binding; may be given several times."),
    ] = None,
    each: Each = 100,
    seed: Seed = 0,
    *,
    asked: Drawing,
) -> None:
    """Which of two things is left, above, inside, in front, larger: a sentence against its swap.

    [bold]Examples[/bold]

      diptych audit relations

      diptych audit relations --kind left --kind binding --each 500
    """
    from diptych.audits.limits.relations import SENTENCES, audit_relations

    run(asked, "relations", audit_relations, kinds=kind or tuple(SENTENCES), each=each, seed=seed)


@app.command("abstract")
@measuring
def abstract(
    each: Each = 100,
    seed: Seed = 0,
    *,
    asked: Drawing,
) -> None:
    """Drawings: same or different, symmetric, upright, sorted by size; chance is one half.

    [bold]Example[/bold]

      diptych audit abstract --report abstract
    """
    from diptych.audits.limits.abstract import audit_abstract

    run(asked, "abstract", audit_abstract, each=each, seed=seed)


@app.command("distance")
@measuring
def distance(
    clevr: Clevr = None,
    kitti: Annotated[
        Path | None, typer.Option(metavar="DIR", help="KITTI, with label_2 and image_2: the paper's task.")
    ] = None,
    each: Each = 60,
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """How far away the nearest thing is: drawn scenes, CLEVR, or the nearest car of KITTI.

    [bold]Examples[/bold]

      diptych audit distance

      diptych audit distance --kitti kitti/training --limit 1000
    """
    from diptych.audits.limits.annotated import clevr_distances, kitti_distances
    from diptych.audits.limits.distance import CLEVR_TEMPLATES, KITTI_TEMPLATES, TEMPLATES, audit_distance

    if clevr is not None and kitti is not None:
        raise typer.BadParameter("--clevr and --kitti exclude each other: one set of pictures at a time")
    found = clevr_distances(clevr) if clevr else kitti_distances(kitti) if kitti else None
    templates = CLEVR_TEMPLATES if clevr else KITTI_TEMPLATES if kitti else TEMPLATES
    if found is None:
        _refuse_limit(asked, "--clevr or --kitti")
    else:
        found = asked.limited(found, seed)
    run(asked, "distance", audit_distance, found, templates=templates, each=each, seed=seed)


def _refuse_limit(asked: Measuring, data: str) -> None:
    """Refuse --limit where pictures are drawn: --each says how many."""
    if asked.limit is not None:
        raise typer.BadParameter(
            f"--limit takes a sample of {data}; of drawn pictures, --each says how many are made"
        )
