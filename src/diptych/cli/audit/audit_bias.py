"""`diptych audit bias`: differences between groups of people, on pictures with a table of attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.audit.auditing import run_audit
from diptych.cli.shared.console import note
from diptych.cli.shared.measuring import MeasureOptions, measuring

Table = Annotated[
    Path | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="The table of attributes: CSV, TSV or Parquet. Default: the one inside or beside DATA.",
    ),
]
FileColumn = Annotated[
    str | None, typer.Option("--file", metavar="COLUMN", help="The column with the file names.")
]
Minimum = Annotated[
    int,
    typer.Option(
        metavar="N", min=2, help="Smallest group that is ranked and tested; smaller ones are only listed."
    ),
]
Level = Annotated[
    float, typer.Option(metavar="P", help="Probability of any false finding in the whole report.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Random seed.")]
People = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help="A folder or tar archive of pictures, with a table of attributes.",
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column of this attribute. Default: the column of the same name, if there is one.",
    ),
]
Baseline = Annotated[
    str, typer.Option(metavar="VALUE", help="The race that tables 3 and 4 compare with all others.")
]
WordsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A JSON file with words that replace the built-in ones: templates, race, gender, age, harmful, "
        "added, labels.",
    ),
]
LabelsBy = Annotated[
    str | None,
    typer.Option(
        metavar="ROLE", help="The attribute by which the use of labels is compared. Default: gender."
    ),
]
Thresholds = Annotated[
    list[float] | None,
    typer.Option(
        metavar="P",
        help="Probability from which a label counts as given; repeat it for several. Default: 0.005, 0.04.",
    ),
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
    common: MeasureOptions,
) -> None:
    """Audit bias between groups of people, on faces with a table of attributes.

    The paper's section 7.1: accuracy of race, gender and age by group, harmful
    classes, and labels given mostly to one group. Every gap has an interval
    and a p-value corrected for multiple tests. Columns and words are FairFace's
    by default.

    [bold]Examples[/bold]

      diptych audit bias fairface-val.tar --report bias

      diptych audit bias faces --table people.csv --gender sex --words words.json
    """
    from diptych.audits.bias.bias_audit import audit_bias
    from diptych.audits.bias.label_use import THRESHOLDS
    from diptych.audits.bias.people import load_people
    from diptych.audits.bias.vocabulary import read_vocabulary

    columns = {"race": race, "gender": gender, "age": age}
    people = common.limited(load_people(data, table, file=file), seed)
    for problem in people.trouble():
        note(f"table: {problem}", quiet=common.quiet)
    run_audit(
        common,
        "bias",
        audit_bias,
        people,
        columns={role: column for role, column in columns.items() if column is not None},
        reference=baseline,
        words=None if words is None else read_vocabulary(words),
        labels_by=labels_by,
        thresholds=tuple(threshold or THRESHOLDS),
        minimum=minimum,
        level=level,
        seed=seed,
    )
