"""`diptych audit association`: association tests of words and of pictures of people (WEAT, iEAT)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.audit_bias import FileColumn, Level, Minimum, Seed, Table
from diptych.cli.audit.auditing import run_audit
from diptych.cli.shared import options
from diptych.cli.shared.console import note
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.errors import InputError


@measuring
def association(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            show_default=False,
            help="A folder or tar archive of pictures, with a table of attributes.",
        ),
    ] = None,
    table: Table = None,
    file: FileColumn = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Compare the groups of this column; repeat it for several."),
    ] = None,
    sets: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A JSON file with sets of words that replace the built-in ones."),
    ] = None,
    templates: options.Templates = "plain",
    minimum: Minimum = 30,
    level: Level = 0.05,
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Audit associations of words, and of people in pictures (WEAT, iEAT).

    With pictures of groups, the distances between the groups are measured too.
    Without DATA only texts are tested.

    [bold]Examples[/bold]

      diptych audit association

      diptych audit association fairface-val.tar --by race --by gender
    """
    from diptych.audits.association.association_audit import audit_association
    from diptych.audits.association.association_sets import read_tests
    from diptych.audits.bias.people import load_people

    if data is None and (table or file or by):
        raise InputError("--table, --file and --by need pictures: give DATA")
    people = None if data is None else common.limited(load_people(data, table, file=file), seed)
    for problem in people.trouble() if people else ():
        note(f"table: {problem}", quiet=common.quiet)
    run_audit(
        common,
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
