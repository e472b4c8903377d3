"""`diptych audit classes`: check a list of labels before deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.audit_bias import Seed
from diptych.cli.audit.auditing import run_audit
from diptych.cli.shared import options
from diptych.cli.shared.measuring import MeasureOptions, measuring


@measuring
def classes(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            show_default=False,
            help="A file of labels: one per line, or JSON, a list or name -> texts.",
        ),
    ],
    sample: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Sample pictures of the kind to be classified.")
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Pictures that show none of the labels. Default: generated ones."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Show what adding this label would change; repeat it for several."),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Show what removing this label would change; repeat it for several."
        ),
    ] = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Check a list of labels: too general, too similar or harmful ones, and missing ones.

    Exit status 1 with a serious warning: a label that harms or degrades people,
    appears twice, or attracts pictures that fit no other; or no label for
    "other" while many answers are unsure. With notices only, the status is 0.

    [bold]Examples[/bold]

      diptych audit classes labels.txt

      diptych audit classes labels.txt --sample photos --add "other"
    """
    from diptych.audits.bias.people import load_pictures
    from diptych.audits.labels.class_design import audit_classes
    from diptych.audits.labels.class_design_result import ClassDesignAudit
    from diptych.zeroshot.label_files import read_labels_file

    names = read_labels_file(labels)
    audit = run_audit(
        common,
        "classes",
        audit_classes,
        names,
        None if sample is None else common.limited(load_pictures(sample), seed),
        background=None if background is None else common.limited(load_pictures(background), seed),
        add=tuple(add or ()),
        remove=tuple(remove or ()),
        templates=templates,
        seed=seed,
    )
    if isinstance(audit, ClassDesignAudit) and audit.serious:
        raise typer.Exit(1)
