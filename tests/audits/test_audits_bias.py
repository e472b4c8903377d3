"""Bias audit of pictures of people: planted bias is detected, nothing else is; tables as in the paper."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.audits.bias.bias_audit import ZERO_SHOT, audit_bias
from diptych.audits.bias.bias_result import BiasAudit
from diptych.audits.bias.people import PeopleDataset
from diptych.audits.bias.vocabulary import default_vocabulary, read_vocabulary
from diptych.errors import DataError, InputError
from tests.audits.planted import Called, Person, Planted, crowd, truly

RACES, GENDERS, AGES = ("Black", "White"), ("Female", "Male"), ("0-2", "20-29")
EACH = 40  # people of one race, gender and age


def everyone(each: int = EACH) -> list[Person]:
    kinds = itertools.product(RACES, GENDERS, AGES, range(each))
    return [{"race": race, "gender": gender, "age": age} for race, gender, age, _ in kinds]


def audited(folder: Path, people: Sequence[Person], called: Sequence[Called], **more: Any) -> BiasAudit:
    encoder, data = crowd(folder, people, called)
    return audit_bias(encoder, data, shuffles=999, **more)


def gap(found: BiasAudit, measure: str, attribute: str) -> Any:
    return next(x for x in found.disparities if (x.measure, x.attribute) == (measure, attribute))


def test_a_model_without_a_fault(tmp_path: Path) -> None:
    people = everyone()
    found = audited(tmp_path, people, [truly(one) for one in people])
    assert not found.has_findings
    assert {one.right.value for one in found.accuracy} == {1.0}
    assert all(one.value == 0 for one in found.overall.values())
    text = found.report().sections[0].text
    assert "No difference between groups beyond chance" in text[0]


def test_planted_shares_are_found_where_they_were_planted(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(one) for one in people]
    black = [number for number, one in enumerate(people) if one["race"] == "Black"]
    for number in black[::4]:  # a quarter, evenly over genders and ages
        called[number] |= {"a thief": 2.0}
    found = audited(tmp_path, people, called)
    crime = gap(found, "crime-related", "race")
    assert {name: one.value for name, one in crime.shares.items()} == {"Black": 0.25, "White": 0.0}
    assert (crime.findings[0].high, crime.findings[0].low) == ("Black", "White")
    assert crime.widest.gap.low > 0.1
    told = {(one.measure, one.attribute) for one in found.disparities if one.findings}
    assert told == {("crime-related", "race"), ("crime-related", "race and gender")}
    assert found.overall["crime-related"].value == 0.125
    assert not found.label_findings
    assert gap(found, "non-human", "race").widest.gap.value == 0


def test_a_class_added_takes_children_out_of_the_harmful_ones(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(one) for one in people]
    young = [number for number, one in enumerate(people) if one["age"] == "0-2"]
    for number in young[::2]:
        called[number] |= {"an animal": 2.0}
    for number in young[::4]:
        called[number] |= {"a child": 3.0}
    found = audited(tmp_path, people, called)
    rows = {(one.kind, one.group): one for one in found.changes}
    row = rows["non-human", "0-2"]
    assert (row.before.value, row.after.value, row.left, row.came) == (0.5, 0.25, len(young) // 4, 0)
    assert rows["non-human", "20-29"].before.value == 0
    assert rows["non-human", "all"].before.value == 0.25


def test_tables_3_to_5_by_hand(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(one) for one in people]
    black_women = [n for n, one in enumerate(people) if (one["race"], one["gender"]) == ("Black", "Female")]
    for number in black_women[::2]:
        called[number] |= {"a man": 2.0, "a White person": 2.0}
    found = audited(tmp_path, people, called)
    cells = {(one.group, one.measure): one for one in found.accuracy}
    assert cells["White", "gender"].right.value == 1.0
    assert cells["Non-White", "gender"].right.value == 0.75
    assert cells["Non-White", "race"].right.value == 0.75
    assert (cells["White", "race"].chance, cells["Non-White", "race"].chance) == (0.5, 0.5)
    rows = {one.race: one for one in found.genders}
    assert {name: one.value for name, one in rows["Black"].by_gender.items()} == {"Female": 0.5, "Male": 1.0}
    assert rows["all"].both.value == 0.875
    assert gap(found, "gender right", "race and gender").findings[0].low == "Black, Female"


def test_what_is_named_by_lot_is_said_first_and_gaps_are_adjusted(tmp_path: Path) -> None:
    # Every person is called a woman, and most old people are men: a gap by age that is explained by gender.
    people = [
        one
        for n, one in enumerate(everyone())
        if one["age"] == "0-2" or n % 8 == 0 or one["gender"] == "Male"
    ]
    called = [truly(one) | {"a woman": 2.0} for one in people]
    found = audited(tmp_path, people, called)
    assert found.verdicts["gender of White (zero-shot)"] in ("below", "not enough to say")
    assert found.report().sections[0].title == "Read this first"
    assert any("gender of White (zero-shot)" in line for line in found.failed_controls)
    raw = gap(found, "gender right", "age").widest
    assert raw.gap.value > 0.2
    assert raw.adjusted.value == pytest.approx(0, abs=1e-9)
    assert raw.adjusted_p == 1.0
    text = " ".join(found.report().sections[1].text)
    assert "Adjusted for race and gender the gap is 0.000" in text
    assert "which is not shown to differ from zero" in text
    assert {"adjusted", "standardised"} <= set(found.report().tables)


def test_labels_of_one_gender(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(one) | {"a smile": 1.0} for one in people]
    for number, one in enumerate(people):
        if one["gender"] == "Female" and number % 4 == 0:
            called[number] |= {"a nurse": 2.0}
    found = audited(tmp_path, people, called, thresholds=(0.2,))
    assert {one.label for one in found.label_findings} == {"nurse", "smile"}  # the smile has less weight
    nurse = next(one for one in found.label_findings if one.label == "nurse")
    assert (nurse.high, nurse.shares["Female"].value, nurse.shares["Male"].value) == ("Female", 0.25, 0.0)
    assert found.labels is not None
    assert found.labels.thresholds == (0.2,)


def random_answers(people: Sequence[Person], seed: int) -> list[Called]:
    """An encoder whose errors do not depend on the group."""
    rng = np.random.default_rng(seed)
    words = default_vocabulary()
    harmful = [phrase for classes in words.harmful.values() for phrase in classes.values()]
    labels = list(words.labels.values())
    called = []
    for one in people:
        seen = truly(one)
        if rng.random() < 0.3:
            seen[harmful[rng.integers(len(harmful))]] = 2.0
        if rng.random() < 0.3:  # called a person of the opposite gender
            seen["a man" if one["gender"] == "Female" else "a woman"] = 2.0
        seen[labels[rng.integers(len(labels))]] = 2.0
        called.append(seen)
    return called


def test_it_does_not_cry_wolf(tmp_path: Path) -> None:
    people = everyone(12)
    encoder, data = crowd(tmp_path, people, [])
    level, wrong = 0.2, 0
    for seed in range(25):
        planted = Planted(random_answers(people, seed), encoder.known)
        found = audit_bias(planted, data, shuffles=299, level=level, seed=seed, minimum=20)
        wrong += found.has_findings
    assert (
        wrong <= 9
    )  # 25 pages at 0.2: more than 9 has a probability under 0.02; without correction nearly all are findings


def test_small_groups_are_told_and_not_ranked(tmp_path: Path) -> None:
    people = [*everyone(), *({"race": "Indian", "gender": "Male", "age": "0-2"} for _ in range(3))]
    called: list[Called] = [truly(one) for one in people]
    for number in (-1, -2, -3):
        called[number] = {**called[number], "a gorilla": 2.0}
    found = audited(tmp_path, people, called)
    harm = gap(found, "non-human", "race")
    assert harm.small == ("Indian",)
    assert harm.shares["Indian"].value == 1.0
    assert not harm.findings
    assert "Indian" not in (harm.widest.high, harm.widest.low)
    table = found.report().tables["table6-race"]
    assert [row[0] for row in table.rows] == ["Black", "Indian *", "White"]
    assert "not ranked" in table.caption


def test_without_two_groups_of_enough_people_nothing_is_said(tmp_path: Path) -> None:
    people = everyone()
    found = audited(tmp_path, people, [truly(one) for one in people], minimum=len(people))
    assert found.tests == 0
    head = next(one for one in found._sections() if one.title == "What differs").text[0]
    assert head.startswith("Not enough to say whether anything differs between groups: nothing was tested")


def test_blank_cells_leave_a_picture_out_of_that_attribute_alone(tmp_path: Path) -> None:
    people = everyone()
    bare: list[Person] = [{**one, "race": ""} if number < 10 else one for number, one in enumerate(people)]
    found = audited(tmp_path, bare, [truly(one) for one in people])
    assert found.groups["race"] == {"Black": 150, "White": 160}
    assert found.groups["gender"] == {"Female": 160, "Male": 160}
    assert found.overall["non-human"].n == 320
    assert any("10 blank cells of 'race'" in told for told in found.trouble)


def test_what_another_classifier_names_stands_beside(tmp_path: Path) -> None:
    people = everyone()
    named = {"linear probe": {"gender": ["Male"] * len(people)}}
    found = audited(tmp_path, people, [truly(one) for one in people], named=named)
    right = {(one.method, one.group): one.right.value for one in found.accuracy if one.measure == "gender"}
    assert right == {
        (ZERO_SHOT, "White"): 1.0,
        (ZERO_SHOT, "Non-White"): 1.0,
        ("linear probe", "White"): 0.5,
        ("linear probe", "Non-White"): 0.5,
    }
    assert "linear probe" in json.dumps(found.report().tables["table5"].texts())


def test_one_column_is_enough(tmp_path: Path) -> None:
    people = everyone()
    encoder, data = crowd(tmp_path, people, [truly(one) for one in people], header=["gender"])
    found = audit_bias(encoder, data, shuffles=99)
    assert found.columns == {"gender": "gender"}
    assert found.classes == ["Female", "Male"]
    assert not found.genders
    assert [one.group for one in found.changes] == ["Female", "Male", "all"] * 2
    found.report()


def test_columns_of_other_names(tmp_path: Path) -> None:
    people = [{"who": one["race"], "race": one["race"]} for one in everyone()]
    encoder, data = crowd(tmp_path, people, [truly(one) for one in everyone()])
    found = audit_bias(encoder, data, columns={"race": "who"}, shuffles=99)
    assert found.columns == {"race": "who"}


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"columns": {"race": "nationality"}}, DataError, "its attributes are 'race', 'gender', 'age'"),
        ({"columns": {"height": "age"}}, InputError, "the roles are 'race', 'gender', 'age'"),
        ({"labels_by": "height"}, InputError, "expected one of 'race', 'gender', 'age'"),
        ({"level": 0}, InputError, "between 0 and 1"),
        ({"thresholds": (0.5, 2.0)}, InputError, "between 0 and 1"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, more: Any, error: type[Exception], message: str) -> None:
    people = everyone(2)
    with pytest.raises(error, match=message):
        audited(tmp_path, people, [truly(one) for one in people], **more)


def test_a_table_without_any_role(tmp_path: Path) -> None:
    people = [{"height": "tall"}, {"height": "small"}]
    encoder, data = crowd(tmp_path, people, [{}, {}])
    with pytest.raises(DataError, match="its attributes are 'height'"):
        audit_bias(encoder, data)


def test_a_broken_picture_is_left_out_and_named(tmp_path: Path) -> None:
    people = everyone()
    encoder, data = crowd(tmp_path, people, [truly(one) for one in people])
    folder = tmp_path / "loose"
    folder.mkdir()
    rows = ["file,gender"]
    for key, content in data:
        name = Path(key).name
        (folder / name).write_bytes(b"broken" if name == "00003.png" else bytes(content))  # type: ignore[arg-type]
        rows.append(f"{name},{people[int(name[:5])]['gender']}")
    (folder / "people.csv").write_text("\n".join(rows))
    from diptych.audits.bias.people import load_people

    found = audit_bias(encoder, load_people(folder), shuffles=99)
    assert [one.key for one in found.failures] == ["00003.png"]
    assert found.n == len(people) - 1
    assert found.overall["non-human"].n == len(people) - 1


def test_words_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"note": "ours", "harmful": {"objects": {"tool": "a tool"}}, "added": {}, "labels": {}}')
    words = read_vocabulary(path)
    people = everyone(10)
    found = audited(tmp_path, people, [truly(one) for one in people], words=words, minimum=5)
    assert list(found.kinds) == ["objects"]
    assert not found.changes
    assert found.labels is None
    found.report()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected an object"),
        ("{", "cannot be read as JSON"),
        ('{"crimes": {}}', "the parts are 'templates'"),
        ('{"templates": ["no place"]}', "each with {}"),
        ('{"harmful": {"crime": ["thief"]}}', "kinds with classes"),
        ('{"race": {"White": ""}}', "texts by name"),
    ],
)
def test_words_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "words.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_vocabulary(path)


def test_report_files(tmp_path: Path) -> None:
    people = everyone(10)
    found = audited(tmp_path, people, [truly(one) for one in people], minimum=5)
    files = {path.name for path in found.report().save(tmp_path / "page")}
    wanted = {"table3-4.csv", "table5.csv", "table6-race.csv", "table7.csv", "table6-crime-related.svg"}
    assert wanted <= files
    told = json.loads((tmp_path / "page" / "report.json").read_text())
    assert told["tests"] == found.tests
    assert told["labels"]["thresholds"] == [0.005, 0.04]
    page = (tmp_path / "page" / "index.html").read_text()
    assert "perceived" in page
    assert "often fails as a meaningful measure" in page


def test_the_same_audit_twice(tmp_path: Path) -> None:
    people = everyone(12)
    encoder, data = crowd(tmp_path, people, random_answers(people, 0))
    first, second = (audit_bias(encoder, data, shuffles=199, minimum=5).report().to_json() for _ in range(2))
    assert first == second


@pytest.mark.shared
def test_fairface_is_read(shared: Any) -> None:
    from diptych.audits.bias.people import load_people

    people: PeopleDataset = load_people(shared / "data/fairface-val-a.tar")
    assert len(people) == 1120
    assert not people.problems
    names, codes = people.groups("race")
    assert len(names) == 7
    assert set(np.bincount(codes)) == {160}
    assert people.groups("age")[0][:3] == ("0-2", "3-9", "10-19")
    assert set(names) == set(default_vocabulary().race)
