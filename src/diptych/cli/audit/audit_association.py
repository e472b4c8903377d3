"""`diptych audit association`: what words and people in pictures lie near, and how far groups lie apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.audit_bias import FileColumn, Level, Minimum, Seed, Table
from diptych.cli.audit.auditing import run
from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.shared import options
from diptych.cli.shared.console import note
from diptych.errors import InputError


@measuring
def association(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA", show_default=False, help="A folder or a tar archive of pictures, with the table."
        ),
    ] = None,
    table: Table = None,
    file: FileColumn = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Compare the groups of this column; may be given several times."),
    ] = None,
    sets: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON with sets of words in place of the built-in ones."),
    ] = None,
    templates: options.Templates = "plain",
    minimum: Minimum = 30,
    level: Level = 0.05,
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """What words, and people in pictures, are associated with (WEAT, iEAT).

    With pictures of groups also how far these lie apart. Without DATA texts
    alone are tested.

    [bold]Examples[/bold]

      diptych audit association

      diptych audit association fairface-val.tar --by race --by gender
    """
    from diptych.audits.association.association_audit import audit_association
    from diptych.audits.association.association_sets import read_tests
    from diptych.audits.bias.people import load_people

    if data is None and (table or file or by):
        raise InputError("--table, --file and --by speak of pictures: name DATA")
    people = None if data is None else asked.limited(load_people(data, table, file=file), seed)
    for told in people.trouble() if people else ():
        note(f"table: {told}", quiet=asked.quiet)
    run(
        asked,
        "association",
        audit_association,
        people,
        attributes=by,
        tests=None if sets is None else read_tests(sets),
        templates=templates,
        minimum=minimum,
        level=level,
        seed=seed,
    )
