"""Association tests: effect sizes and p-values by hand, planted associations, and no false positives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.audits.association.association_audit import audit_association
from diptych.audits.association.association_sets import AssociationTests, default_tests, read_tests
from diptych.audits.association.association_tests import (
    effect_size,
    group_distances,
    partition_p_value,
    shuffle_p_values,
)
from diptych.errors import DataError, InputError
from tests.audits.planted import Planted, crowd

SETS = (
    '{"sets": {"t": {"x": {"men": ["a man", "a boy"]}, "y": {"women": ["a woman", "a girl"]},'
    ' "a": {"work": ["office", "salary"]}, "b": {"home": ["garden", "kitchen"]}}},'
    ' "pictures": {"p": {"a": {"work": ["office", "salary"]}, "b": {"home": ["garden", "kitchen"]}}}}'
)


def sets(tmp_path: Path, text: str = SETS) -> AssociationTests:
    path = tmp_path / "sets.json"
    path.write_text(text)
    return read_tests(path)


class SentenceEncoder(Planted):
    """An encoder of planted people whose texts lie where `lean` says: work at 1, home at -1."""

    lean: dict[str, float]

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            seed = [ord(letter) for letter in text]
            rows[row] = np.random.default_rng(seed).normal(size=self.dim) / 50
            rows[row, :2] += next((weight for word, weight in self.where.items() if word in text), (0.0, 0.0))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    where: dict[str, tuple[float, float]] = {}  # noqa: RUF012


WORK, HOME = (1.0, 0.0), (0.0, 1.0)


def worded(where: dict[str, tuple[float, float]], called: Sequence[Any] = ()) -> SentenceEncoder:
    encoder = SentenceEncoder(called, ["work", "home", *map(str, range(20))])
    encoder.where = {"office": WORK, "salary": WORK, "garden": HOME, "kitchen": HOME} | where
    return encoder


def test_effect_size_by_hand() -> None:
    first, second = np.array([3.0, 5.0]), np.array([1.0, 3.0])
    # means 4 and 2; all four 3, 5, 1, 3 have a deviation of sqrt(8/3)
    assert effect_size(first, second).value == pytest.approx(2 / np.sqrt(8 / 3))
    assert effect_size(second, first).value == pytest.approx(-2 / np.sqrt(8 / 3))
    assert effect_size(np.ones(3), np.ones(3)).value == 0.0
    with pytest.raises(InputError, match="at least two"):
        effect_size(np.ones(1), np.ones(3))


def test_p_counts_partitions() -> None:
    assert partition_p_value(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), 99) == pytest.approx(
        2 / 20
    )
    assert partition_p_value(np.zeros(3), np.zeros(3), 99) == 1.0


def test_drawn_partitions_agree_with_counted_ones() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=8), rng.normal(size=8) + 0.7
    counted = partition_p_value(first, second, 0)
    values, groups = np.concatenate([first, second])[:, None], np.repeat([0, 1], 8)
    drawn = shuffle_p_values(values, groups, 2, 9999)[0, 0]
    assert 0.01 < counted < 0.9
    assert drawn == pytest.approx(counted, abs=0.015)


def test_a_planted_association_of_texts(tmp_path: Path) -> None:
    names = [f"m{n}" for n in range(6)], [f"w{n}" for n in range(6)]
    text = SETS.replace('["a man", "a boy"]', str(list(names[0])).replace("'", '"'))
    text = text.replace('["a woman", "a girl"]', str(list(names[1])).replace("'", '"'))
    leaning = dict.fromkeys(names[0], (0.8, 0.2)) | dict.fromkeys(names[1], (0.2, 0.8))
    result = audit_association(worded(leaning), tests=sets(tmp_path, text))
    (single,) = result.effects
    assert single.d.value > 1.7
    assert single.p == pytest.approx(2 / 924)
    assert result.findings == [single]
    assert single.statement == "men nearer to work than to home, compared with women"
    turned = audit_association(
        worded({k: (v[1], v[0]) for k, v in leaning.items()}), tests=sets(tmp_path, text)
    )
    assert turned.effects[0].d.value < -1.7
    assert turned.effects[0].statement == "men nearer to home than to work, compared with women"


def test_no_association_of_texts(tmp_path: Path) -> None:
    result = audit_association(worded({}), tests=sets(tmp_path))
    assert result.findings == []
    assert "No association beyond chance in 1 test at" in result.report().sections[0].text[0]


def test_a_control_that_fails_is_said_first(tmp_path: Path) -> None:
    names = [f"m{n}" for n in range(6)], [f"w{n}" for n in range(6)]
    text = SETS.replace('["a man", "a boy"]', str(list(names[0])).replace("'", '"'))
    text = text.replace('["a woman", "a girl"]', str(list(names[1])).replace("'", '"'))
    given = json.loads(text)
    (name,) = given["sets"]
    given["sets"]["known"] = {**given["sets"][name], "control": True}
    path = sets(tmp_path, json.dumps(given))
    leaning = dict.fromkeys(names[0], (0.8, 0.2)) | dict.fromkeys(names[1], (0.2, 0.8))
    result = audit_association(worded(leaning), tests=path)
    assert [item.control for item in result.effects] == [False, True]
    assert result.failed_controls == []
    assert [item.name for item in result.findings] == [name]  # a control is not a finding
    turned = {k: (v[1], v[0]) for k, v in leaning.items()}
    for bad in ({}, turned):  # no association, or the opposite direction
        result = audit_association(worded(bad), tests=path)
        first, second = result.report().sections[:2]
        assert first.title == "Read this first"
        assert first.text[0].startswith("The control fails: known")
        assert second.text[0].startswith("With a control that failed, ")
        assert next(iter(result.to_dict())) == "failed_controls"
    with pytest.raises(DataError, match="may have 'control'"):
        sets(tmp_path, text.replace('"x"', '"control": 1, "x"', 1))


def people_of(folder: Path, work: float, seed: int = 0) -> tuple[SentenceEncoder, Any]:
    """60 men and 60 women; men lean `work` more than women do."""
    rng = np.random.default_rng(seed)
    people = [{"gender": "Male" if n % 2 else "Female", "town": "AB"[n % 4 // 2]} for n in range(120)]
    called = [
        {"work": 1 + work * (n % 2) + rng.normal() / 4, "home": 1 + rng.normal() / 4}
        | {str(k): rng.normal() / 4 for k in range(20)}
        for n in range(120)
    ]
    _, data = crowd(folder, people, [])
    return worded({}, called), data


def test_a_planted_association_of_pictures(tmp_path: Path) -> None:
    encoder, data = people_of(tmp_path, 0.5)
    result = audit_association(encoder, data, tests=sets(tmp_path), shuffles=999)
    by_name = {item.name: item for item in result.effects if item.kind == "pictures"}
    assert (by_name["gender, p"].x, by_name["gender, p"].y) == ("Female", "Male")
    assert by_name["gender, p"].d.value < -0.8
    assert [item.name for item in result.findings] == ["gender, p"]
    apart = {item.attribute: item for item in result.distances}
    assert apart["gender"].p <= 0.01 < apart["town"].p
    assert apart["gender"].distance > apart["town"].distance
    result.report().save(tmp_path / "page")


def test_pictures_without_an_association(tmp_path: Path) -> None:
    wrong = 0
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        encoder, data = people_of(folder, 0.0, seed)
        result = audit_association(encoder, data, tests=sets(tmp_path), level=0.2, shuffles=199, seed=seed)
        wrong += bool(result.findings)
    assert wrong <= 8  # 4 are expected; more than 8 have a probability of 0.01


def test_several_groups_each_against_the_others(tmp_path: Path) -> None:
    encoder, _ = people_of(tmp_path, 0.5)
    people = [{"race": "ABC"[n % 3] if n < 117 else "D"} for n in range(120)]
    _, data = crowd(tmp_path, people, [])
    result = audit_association(encoder, data, attributes=["race"], tests=sets(tmp_path), shuffles=99)
    pictured = [item for item in result.effects if item.kind == "pictures"]
    assert [(item.x, item.y, item.x_count, item.y_count) for item in pictured] == [
        ("A", "all others", 39, 78),
        ("B", "all others", 39, 78),
        ("C", "all others", 39, 78),
    ]
    assert result.small == {"race": ("D",)}
    assert len(result.distances) == 3
    assert any("fewer than 30 pictures, by race: D" in text for text in result.report().sections[-1].text)


def test_distances_of_nothing_are_near_nothing() -> None:
    rows = np.random.default_rng(0).normal(size=(90, 256)).astype(np.float32)
    result = group_distances("toy", ["a", "b", "c"], np.arange(90) % 3, rows, 499)
    assert all(item.distance < 0.15 for item in result)  # 0.26 without the correction for scatter
    assert min(item.p for item in result) > 0.01


def test_holm_corrects_all_tests_together(tmp_path: Path) -> None:
    encoder, data = people_of(tmp_path, 0.5)
    result = audit_association(encoder, data, tests=sets(tmp_path), shuffles=999)
    ordered = sorted(result.effects, key=lambda one: one.p)
    assert ordered[0].corrected == pytest.approx(ordered[0].p * len(ordered))
    assert all(one.corrected >= one.p for one in ordered)


def test_the_built_in_sets() -> None:
    tests = default_tests()
    assert len(tests.texts) == 3
    assert [item.name for item in tests.texts if item.control] == ["flowers and insects, pleasant"]
    assert all(item.x and item.y and len(item.x.texts) == len(item.y.texts) for item in tests.texts)
    assert all(len(item.a.texts) == len(item.b.texts) for item in (*tests.texts, *tests.pictures))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected an object with 'sets'"),
        ('{"sets": {}, "more": 1}', "expected an object with 'sets'"),
        ('{"sets": []}', "got a list, expected an object"),
        ('{"sets": {"t": {"x": {}}}}', "needs exactly the parts 'a', 'b', 'x', 'y'"),
        (SETS.replace('["a man", "a boy"]', '["a man"]'), "with at least 2 texts"),
        (SETS.replace('"a boy"', "3"), "with at least 2 texts"),
    ],
)
def test_sets_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sets(tmp_path, text)
    with pytest.raises(DataError, match="cannot be read"):
        read_tests(tmp_path / "gone.json")


def test_columns_that_cannot_be_compared(tmp_path: Path) -> None:
    encoder, data = people_of(tmp_path, 0.0)
    with pytest.raises(DataError, match="its attributes are 'gender', 'town'"):
        audit_association(encoder, data, attributes=["race"])
    _, alone = crowd(tmp_path, [{"gender": "Male"}] * 4, [])
    with pytest.raises(DataError, match="no column with 2 to 20 groups"):
        audit_association(encoder, alone)
    with pytest.raises(InputError, match="between 0 and 1"):
        audit_association(encoder, level=1.0)
