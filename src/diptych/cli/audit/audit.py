"""`diptych audit` on generated pictures: counting, relations, abstract, distance.

Audits of labelled data are in `labelled.py`, those of people in `people.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.auditing import Seed, run_audit
from diptych.cli.shared.measuring import EncoderOptions, MeasureOptions, measuring
from diptych.cli.shared.options import argument, option

app = typer.Typer(
    no_args_is_help=True, help="Audit a model: its limits, biases and labels, each with chance and a verdict."
)

Each = Annotated[int, option("N", "Number of pictures of each kind.", min=1)]
Clevr = Annotated[Path | None, option("DIR", "Use CLEVR_v1.0 instead of generated pictures.")]


@app.command("counting")
@measuring
def counting(
    data: Annotated[
        Path | None, argument("DATA", "Pictures in folders named by the number of objects.")
    ] = None,
    clevr: Clevr = None,
    things: Annotated[str, option("TEXT", "The objects to count in DATA, in the plural.")] = "objects",
    most: Annotated[int, option("N", "The largest number of objects.", min=2, max=20)] = 10,
    each: Each = 48,
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Audit counting: the number of objects in generated pictures, in CLEVR, or in your own.

    [bold]Examples[/bold]

      diptych audit counting --report counting

      diptych audit counting --clevr CLEVR_v1.0 --limit 2000
    """
    from diptych.audits.limits.annotated import clevr_counts
    from diptych.audits.limits.counting import audit_counting
    from diptych.datasets import load_labelled

    if data is not None and clevr is not None:
        raise typer.BadParameter("DATA and --clevr exclude each other: give one")
    dataset = clevr_counts(clevr) if clevr else load_labelled(data) if data else None
    if dataset is None:
        _refuse_limit(common, "DATA or --clevr")
    else:
        dataset = common.limited(dataset, seed)
    run_audit(common, "counting", audit_counting, dataset, most=most, each=each, things=things, seed=seed)


@app.command("relations")
@measuring
def relations(
    kind: Annotated[
        list[str] | None,
        option("NAME", "Test only this relation, e.g. left or binding; repeat it for several."),
    ] = None,
    each: Each = 100,
    seed: Seed = 0,
    *,
    common: EncoderOptions,
) -> None:
    """Audit relations: left, above, inside, in front, larger; a sentence against its swapped version.

    [bold]Examples[/bold]

      diptych audit relations

      diptych audit relations --kind left --kind binding --each 500
    """
    from diptych.audits.limits.relations import SENTENCES, audit_relations

    run_audit(common, "relations", audit_relations, kinds=kind or tuple(SENTENCES), each=each, seed=seed)


@app.command("abstract")
@measuring
def abstract(each: Each = 100, seed: Seed = 0, *, common: EncoderOptions) -> None:
    """Audit abstract properties of drawings: same, symmetric, upright, sorted by size; chance is 0.5.

    [bold]Example[/bold]

      diptych audit abstract --report abstract
    """
    from diptych.audits.limits.abstract import audit_abstract

    run_audit(common, "abstract", audit_abstract, each=each, seed=seed)


@app.command("distance")
@measuring
def distance(
    clevr: Clevr = None,
    kitti: Annotated[
        Path | None, option("DIR", "Use KITTI, a folder with label_2 and image_2: the paper's task.")
    ] = None,
    each: Each = 60,
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Audit distance: how far the nearest object is, in generated scenes, CLEVR or KITTI.

    [bold]Examples[/bold]

      diptych audit distance

      diptych audit distance --kitti kitti/training --limit 1000
    """
    from diptych.audits.limits.annotated import clevr_distances, kitti_distances
    from diptych.audits.limits.distance import CLEVR_TEMPLATES, KITTI_TEMPLATES, TEMPLATES, audit_distance

    if clevr is not None and kitti is not None:
        raise typer.BadParameter("--clevr and --kitti exclude each other: give one")
    dataset = clevr_distances(clevr) if clevr else kitti_distances(kitti) if kitti else None
    templates = CLEVR_TEMPLATES if clevr else KITTI_TEMPLATES if kitti else TEMPLATES
    if dataset is None:
        _refuse_limit(common, "--clevr or --kitti")
    else:
        dataset = common.limited(dataset, seed)
    run_audit(common, "distance", audit_distance, dataset, templates=templates, each=each, seed=seed)


def _refuse_limit(common: MeasureOptions, data: str) -> None:
    """Refuse --limit for generated pictures, whose number --each sets."""
    if common.limit is not None:
        raise typer.BadParameter(f"--limit needs {data}; --each sets the number of generated pictures")
