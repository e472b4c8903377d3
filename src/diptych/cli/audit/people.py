"""`diptych audit bias` and `association`: people, on pictures with a table of attributes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from diptych.cli.audit.auditing import Seed, run_audit
from diptych.cli.shared import options
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.options import argument, option
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.audits.bias.people import PeopleDataset

Attribute = Annotated[
    str | None,
    option("COLUMN", "The column of this attribute. Default: the column of the same name, if there is one."),
]
_PEOPLE = argument("DATA", "A folder or tar archive of pictures, with a table of attributes.")


@dataclass(frozen=True)
class TableOptions:
    """The table of attributes of the people."""

    table: Annotated[
        Path | None,
        option(
            "FILE", "The table of attributes: CSV, TSV or Parquet. Default: the one inside or beside DATA."
        ),
    ] = None
    file: Annotated[str | None, option("COLUMN", "The column with the file names.")] = None

    def load(self, data: Path, common: MeasureOptions, seed: int) -> PeopleDataset:
        """The people, sampled by --limit; prints what is wrong with the table."""
        from diptych.audits.bias.people import load_people

        people = common.limited(load_people(data, self.table, file=self.file), seed)
        for problem in people.trouble():
            common.note(f"table: {problem}")
        return people


@dataclass(frozen=True)
class SignificanceOptions:
    """Which groups are tested, and how strictly."""

    minimum: Annotated[
        int, option("N", "Smallest group that is ranked and tested; smaller ones are only listed.", min=2)
    ] = 30
    level: Annotated[float, option("P", "Probability of any false finding in the whole report.")] = 0.05
    seed: Seed = 0


@dataclass(frozen=True)
class BiasOptions:
    """What is compared between groups of people."""

    race: Attribute = None
    gender: Attribute = None
    age: Attribute = None
    baseline: Annotated[
        str,
        option("VALUE", "The race that tables 3 and 4 compare with all others."),
    ] = "White"
    words: Annotated[
        Path | None,
        option(
            "FILE",
            "A JSON file with words that replace the built-in ones: templates, race, gender, age, "
            "harmful, added, labels.",
        ),
    ] = None
    labels_by: Annotated[
        str | None, option("ROLE", "The attribute by which the use of labels is compared. Default: gender.")
    ] = None
    threshold: Annotated[
        list[float] | None,
        option(
            "P",
            "Probability from which a label counts as given; repeat it for several. Default: 0.005, 0.04.",
        ),
    ] = None


@measuring
def bias(
    data: Annotated[Path, _PEOPLE],
    *,
    table: TableOptions,
    compared: BiasOptions,
    tests: SignificanceOptions,
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
    from diptych.audits.bias.vocabulary import read_vocabulary

    columns = {"race": compared.race, "gender": compared.gender, "age": compared.age}
    run_audit(
        common,
        "bias",
        audit_bias,
        table.load(data, common, tests.seed),
        columns={role: column for role, column in columns.items() if column is not None},
        reference=compared.baseline,
        words=None if compared.words is None else read_vocabulary(compared.words),
        labels_by=compared.labels_by,
        thresholds=tuple(compared.threshold or THRESHOLDS),
        minimum=tests.minimum,
        level=tests.level,
        seed=tests.seed,
    )


@measuring
def association(
    data: Annotated[Path | None, _PEOPLE] = None,
    *,
    table: TableOptions,
    by: Annotated[
        list[str] | None, option("COLUMN", "Compare the groups of this column; repeat it for several.")
    ] = None,
    sets: Annotated[
        Path | None, option("FILE", "A JSON file with sets of words that replace the built-in ones.")
    ] = None,
    templates: options.Templates = "plain",
    tests: SignificanceOptions,
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

    if data is None and (table.table or table.file or by):
        raise InputError("--table, --file and --by need pictures: give DATA")
    run_audit(
        common,
        "association",
        audit_association,
        None if data is None else table.load(data, common, tests.seed),
        attributes=by,
        tests=None if sets is None else read_tests(sets),
        templates=templates,
        minimum=tests.minimum,
        level=tests.level,
        seed=tests.seed,
    )
