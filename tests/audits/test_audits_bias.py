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
    result = audited(tmp_path, people, [truly(item) for item in people])
    assert not result.has_findings
    assert {item.right.value for item in result.accuracy} == {1.0}
    assert all(item.value == 0 for item in result.overall.values())
    text = result.report().sections[0].text
    assert "No difference between groups beyond chance" in text[0]


def test_planted_shares_are_found_where_they_were_planted(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(item) for item in people]
    black = [number for number, item in enumerate(people) if item["race"] == "Black"]
    for number in black[::4]:  # a quarter, evenly over genders and ages
        called[number] |= {"a thief": 2.0}
    actual = audited(tmp_path, people, called)
    crime = gap(actual, "crime-related", "race")
    assert {name: item.value for name, item in crime.shares.items()} == {"Black": 0.25, "White": 0.0}
    assert (crime.findings[0].high, crime.findings[0].low) == ("Black", "White")
    assert crime.widest.gap.low > 0.1
    result = {(item.measure, item.attribute) for item in actual.disparities if item.findings}
    assert result == {("crime-related", "race"), ("crime-related", "race and gender")}
    assert actual.overall["crime-related"].value == 0.125
    assert not actual.label_findings
    assert gap(actual, "non-human", "race").widest.gap.value == 0


def test_a_class_added_takes_children_out_of_the_harmful_ones(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(item) for item in people]
    young = [number for number, item in enumerate(people) if item["age"] == "0-2"]
    for number in young[::2]:
        called[number] |= {"an animal": 2.0}
    for number in young[::4]:
        called[number] |= {"a child": 3.0}
    result = audited(tmp_path, people, called)
    rows = {(item.kind, item.group): item for item in result.changes}
    row = rows["non-human", "0-2"]
    assert (row.before.value, row.after.value, row.left, row.came) == (0.5, 0.25, len(young) // 4, 0)
    assert rows["non-human", "20-29"].before.value == 0
    assert rows["non-human", "all"].before.value == 0.25


def test_tables_3_to_5_by_hand(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(item) for item in people]
    black_women = [
        n for n, item in enumerate(people) if (item["race"], item["gender"]) == ("Black", "Female")
    ]
    for number in black_women[::2]:
        called[number] |= {"a man": 2.0, "a White person": 2.0}
    result = audited(tmp_path, people, called)
    cells = {(item.group, item.measure): item for item in result.accuracy}
    assert cells["White", "gender"].right.value == 1.0
    assert cells["Non-White", "gender"].right.value == 0.75
    assert cells["Non-White", "race"].right.value == 0.75
    assert (cells["White", "race"].chance, cells["Non-White", "race"].chance) == (0.5, 0.5)
    rows = {item.race: item for item in result.genders}
    assert {name: item.value for name, item in rows["Black"].by_gender.items()} == {
        "Female": 0.5,
        "Male": 1.0,
    }
    assert rows["all"].both.value == 0.875
    assert gap(result, "gender right", "race and gender").findings[0].low == "Black, Female"


def test_what_is_named_by_lot_is_said_first_and_gaps_are_adjusted(tmp_path: Path) -> None:
    # Every person is called a woman, and most old people are men: a gap by age that is explained by gender.
    people = [
        item
        for n, item in enumerate(everyone())
        if item["age"] == "0-2" or n % 8 == 0 or item["gender"] == "Male"
    ]
    called = [truly(item) | {"a woman": 2.0} for item in people]
    result = audited(tmp_path, people, called)
    assert result.verdicts["gender of White (zero-shot)"] in ("below", "not enough to say")
    assert result.report().sections[0].title == "Read this first"
    assert any("gender of White (zero-shot)" in line for line in result.failed_controls)
    raw = gap(result, "gender right", "age").widest
    assert raw.gap.value > 0.2
    assert raw.adjusted.value == pytest.approx(0, abs=1e-9)
    assert raw.adjusted_p == 1.0
    text = " ".join(result.report().sections[1].text)
    assert "Adjusted for race and gender the gap is 0.000" in text
    assert "which is not shown to differ from zero" in text
    assert {"adjusted", "standardised"} <= set(result.report().tables)


def test_labels_of_one_gender(tmp_path: Path) -> None:
    people = everyone()
    called = [truly(item) | {"a smile": 1.0} for item in people]
    for number, item in enumerate(people):
        if item["gender"] == "Female" and number % 4 == 0:
            called[number] |= {"a nurse": 2.0}
    result = audited(tmp_path, people, called, thresholds=(0.2,))
    assert {item.label for item in result.label_findings} == {"nurse", "smile"}  # the smile has less weight
    nurse = next(item for item in result.label_findings if item.label == "nurse")
    assert (nurse.high, nurse.shares["Female"].value, nurse.shares["Male"].value) == ("Female", 0.25, 0.0)
    assert result.labels is not None
    assert result.labels.thresholds == (0.2,)


def random_answers(people: Sequence[Person], seed: int) -> list[Called]:
    """An encoder whose errors do not depend on the group."""
    rng = np.random.default_rng(seed)
    words = default_vocabulary()
    harmful = [phrase for classes in words.harmful.values() for phrase in classes.values()]
    labels = list(words.labels.values())
    called = []
    for item in people:
        seen = truly(item)
        if rng.random() < 0.3:
            seen[harmful[rng.integers(len(harmful))]] = 2.0
        if rng.random() < 0.3:  # called a person of the opposite gender
            seen["a man" if item["gender"] == "Female" else "a woman"] = 2.0
        seen[labels[rng.integers(len(labels))]] = 2.0
        called.append(seen)
    return called


def test_it_does_not_cry_wolf(tmp_path: Path) -> None:
    people = everyone(12)
    encoder, data = crowd(tmp_path, people, [])
    level, wrong = 0.2, 0
    for seed in range(25):
        planted = Planted(random_answers(people, seed), encoder.known)
        result = audit_bias(planted, data, shuffles=299, level=level, seed=seed, minimum=20)
        wrong += result.has_findings
    assert (
        wrong <= 9
    )  # 25 pages at 0.2: more than 9 has a probability under 0.02; without correction nearly all are findings


def test_small_groups_are_told_and_not_ranked(tmp_path: Path) -> None:
    people = [*everyone(), *({"race": "Indian", "gender": "Male", "age": "0-2"} for _ in range(3))]
    called: list[Called] = [truly(item) for item in people]
    for number in (-1, -2, -3):
        called[number] = {**called[number], "a gorilla": 2.0}
    result = audited(tmp_path, people, called)
    harm = gap(result, "non-human", "race")
    assert harm.small == ("Indian",)
    assert harm.shares["Indian"].value == 1.0
    assert not harm.findings
    assert "Indian" not in (harm.widest.high, harm.widest.low)
    table = result.report().tables["table6-race"]
    assert [row[0] for row in table.rows] == ["Black", "Indian *", "White"]
    assert "not ranked" in table.caption


def test_without_two_groups_of_enough_people_nothing_is_said(tmp_path: Path) -> None:
    people = everyone()
    result = audited(tmp_path, people, [truly(item) for item in people], minimum=len(people))
    assert result.tests == 0
    head = next(item for item in result._sections() if item.title == "What differs").text[0]
    assert head.startswith("Not enough to say whether anything differs between groups: nothing was tested")


def test_blank_cells_leave_a_picture_out_of_that_attribute_alone(tmp_path: Path) -> None:
    people = everyone()
    bare: list[Person] = [
        {**element, "race": ""} if number < 10 else element for number, element in enumerate(people)
    ]
    result = audited(tmp_path, bare, [truly(element) for element in people])
    assert result.groups["race"] == {"Black": 150, "White": 160}
    assert result.groups["gender"] == {"Female": 160, "Male": 160}
    assert result.overall["non-human"].n == 320
    assert any("10 blank cells of 'race'" in item for item in result.trouble)


def test_what_another_classifier_names_stands_beside(tmp_path: Path) -> None:
    people = everyone()
    named = {"linear probe": {"gender": ["Male"] * len(people)}}
    result = audited(tmp_path, people, [truly(item) for item in people], named=named)
    right = {
        (item.method, item.group): item.right.value for item in result.accuracy if item.measure == "gender"
    }
    assert right == {
        (ZERO_SHOT, "White"): 1.0,
        (ZERO_SHOT, "Non-White"): 1.0,
        ("linear probe", "White"): 0.5,
        ("linear probe", "Non-White"): 0.5,
    }
    assert "linear probe" in json.dumps(result.report().tables["table5"].texts())


def test_one_column_is_enough(tmp_path: Path) -> None:
    people = everyone()
    encoder, data = crowd(tmp_path, people, [truly(item) for item in people], header=["gender"])
    result = audit_bias(encoder, data, shuffles=99)
    assert result.columns == {"gender": "gender"}
    assert result.classes == ["Female", "Male"]
    assert not result.genders
    assert [item.group for item in result.changes] == ["Female", "Male", "all"] * 2
    result.report()


def test_columns_of_other_names(tmp_path: Path) -> None:
    people = [{"who": item["race"], "race": item["race"]} for item in everyone()]
    encoder, data = crowd(tmp_path, people, [truly(item) for item in everyone()])
    result = audit_bias(encoder, data, columns={"race": "who"}, shuffles=99)
    assert result.columns == {"race": "who"}


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
        audited(tmp_path, people, [truly(item) for item in people], **more)


def test_a_table_without_any_role(tmp_path: Path) -> None:
    people = [{"height": "tall"}, {"height": "small"}]
    encoder, data = crowd(tmp_path, people, [{}, {}])
    with pytest.raises(DataError, match="its attributes are 'height'"):
        audit_bias(encoder, data)


def test_a_broken_picture_is_left_out_and_named(tmp_path: Path) -> None:
    people = everyone()
    encoder, data = crowd(tmp_path, people, [truly(item) for item in people])
    folder = tmp_path / "loose"
    folder.mkdir()
    rows = ["file,gender"]
    for key, content in data:
        name = Path(key).name
        (folder / name).write_bytes(b"broken" if name == "00003.png" else bytes(content))  # type: ignore[arg-type]
        rows.append(f"{name},{people[int(name[:5])]['gender']}")
    (folder / "people.csv").write_text("\n".join(rows))
    from diptych.audits.bias.people import load_people

    result = audit_bias(encoder, load_people(folder), shuffles=99)
    assert [item.key for item in result.failures] == ["00003.png"]
    assert result.n == len(people) - 1
    assert result.overall["non-human"].n == len(people) - 1


def test_words_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"note": "ours", "harmful": {"objects": {"tool": "a tool"}}, "added": {}, "labels": {}}')
    words = read_vocabulary(path)
    people = everyone(10)
    result = audited(tmp_path, people, [truly(item) for item in people], words=words, minimum=5)
    assert list(result.kinds) == ["objects"]
    assert not result.changes
    assert result.labels is None
    result.report()


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
    actual = audited(tmp_path, people, [truly(item) for item in people], minimum=5)
    files = {path.name for path in actual.report().save(tmp_path / "page")}
    wanted = {"table3-4.csv", "table5.csv", "table6-race.csv", "table7.csv", "table6-crime-related.svg"}
    assert wanted <= files
    result = json.loads((tmp_path / "page" / "report.json").read_text())
    assert result["tests"] == actual.tests
    assert result["labels"]["thresholds"] == [0.005, 0.04]
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
