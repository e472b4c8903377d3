"""`diptych audit bias`: how a model treats groups of people, on pictures with a table of attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.auditing import run
from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.shared.console import note

Table = Annotated[
    Path | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="CSV, TSV or Parquet of attributes; else the one inside DATA or beside it.",
    ),
]
FileColumn = Annotated[
    str | None, typer.Option("--file", metavar="COLUMN", help="The column that names the pictures.")
]
Minimum = Annotated[
    int, typer.Option(metavar="N", min=2, help="Smaller groups are told, not ranked and not tested.")
]
Level = Annotated[
    float, typer.Option(metavar="P", help="Chance of any finding about a model without bias, over the page.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of everything drawn at random.")]
People = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", show_default=False, help="A folder or a tar archive of pictures, with the table."
    ),
]
Column = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="By default the column of that name, where there is one."),
]
Baseline = Annotated[
    str, typer.Option(metavar="VALUE", help="The race that tables 3 and 4 set against all others.")
]
WordsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON with parts in place of the built-in ones: templates, race, gender, age, harmful, "
        "added, labels.",
    ),
]
LabelsBy = Annotated[
    str | None, typer.Option(metavar="ROLE", help="Whose use of labels is compared; gender by default.")
]
Thresholds = Annotated[
    list[float] | None,
    typer.Option(metavar="P", help="Probability at which a label is attached; by default 0.005 and 0.04."),
]


@measuring
def bias(
    data: People,
    table: Table = None,
    file: FileColumn = None,
    race: Column = None,
    gender: Column = None,
    age: Column = None,
    baseline: Baseline = "White",
    words: WordsFile = None,
    labels_by: LabelsBy = None,
    threshold: Thresholds = None,
    minimum: Minimum = 30,
    level: Level = 0.05,
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """How a model treats groups of people, on faces with a table of attributes.

    The paper's section 7.1: accuracy of race, gender and age by group, classes
    that no person should be put in, labels that go to one group. Every gap has
    an interval, and a p-value that is corrected for all others. FairFace's
    columns and words are the built-in ones.

    [bold]Examples[/bold]

      diptych audit bias fairface-val.tar --report bias

      diptych audit bias faces --table people.csv --gender sex --words words.json
    """
    from diptych.audits.bias.bias_audit import audit_bias
    from diptych.audits.bias.label_use import THRESHOLDS
    from diptych.audits.bias.people import load_people
    from diptych.audits.bias.vocabulary import read_vocabulary

    named = {"race": race, "gender": gender, "age": age}
    people = asked.limited(load_people(data, table, file=file), seed)
    for told in people.trouble():
        note(f"table: {told}", quiet=asked.quiet)
    run(
        asked,
        "bias",
        audit_bias,
        people,
        columns={role: column for role, column in named.items() if column is not None},
        reference=baseline,
        words=None if words is None else read_vocabulary(words),
        labels_by=labels_by,
        thresholds=tuple(threshold or THRESHOLDS),
        minimum=minimum,
        level=level,
        seed=seed,
    )
