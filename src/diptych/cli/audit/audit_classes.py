"""`diptych audit classes`: a list of labels looked through before anyone deploys it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.audit_bias import Seed
from diptych.cli.audit.auditing import run
from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.shared import options


@measuring
def classes(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS", show_default=False, help="One label a line; or JSON, a list or name -> texts."
        ),
    ],
    sample: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Pictures like those the labels are for.")
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Pictures that show none of the labels; else drawn ones."),
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Try a label more: which pictures would move.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Try a label less; both may be given several times."),
    ] = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """Look through a list of labels: what attracts, what is near, what harms.

    Exit status 1 with a serious warning: a label that harms or degrades people,
    comes twice, or attracts what fits no other; no label for what fits none
    while many answers are unsure. Notices leave the status at 0.

    [bold]Examples[/bold]

      diptych audit classes labels.txt

      diptych audit classes labels.txt --sample photos --add "other"
    """
    from diptych.audits.bias.people import load_pictures
    from diptych.audits.labels.class_design import audit_classes
    from diptych.audits.labels.class_design_result import ClassDesignAudit
    from diptych.zeroshot.label_files import read_labels_file

    names = read_labels_file(labels)
    found = run(
        asked,
        "classes",
        audit_classes,
        names,
        None if sample is None else asked.limited(load_pictures(sample), seed),
        background=None if background is None else asked.limited(load_pictures(background), seed),
        add=tuple(add or ()),
        remove=tuple(remove or ()),
        templates=templates,
        seed=seed,
    )
    if isinstance(found, ClassDesignAudit) and found.serious:
        raise typer.Exit(1)
