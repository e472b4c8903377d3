"""Evaluation of compositional benchmarks: scores by hand, categories, means, caches, comparisons."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diptych.datasets import load_compositional
from diptych.errors import DataError
from diptych.evaluation import FeatureStore, Result, compare, evaluate_compositional
from diptych.evaluation.protocols.compositional import case_hits
from diptych.evaluation.results.averages import collection_means
from diptych.evaluation.results.results_report import overview, results_report
from tests.compositional_files import (
    ATTRIBUTE_SCORES,
    RELATION_SCORES,
    SUGAR_CREPE_MEANS,
    SUGAR_CREPE_SCORES,
    WINOGROUND,
    WINOGROUND_SCORES,
    aro_record,
    write_aro,
    write_sugar_crepe,
    write_winoground,
)
from tests.toys import ToyEncoder


class Blind(ToyEncoder):
    """An encoder that gives all texts the same row."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().encode_texts(["nothing"] * len(texts))


def measured(folder: Path, encoder: ToyEncoder | None = None, **settings: object) -> dict[str, Result]:
    """Results by name of the task."""
    return {
        result.dataset: result
        for item in load_compositional(folder)
        for result in evaluate_compositional(encoder or ToyEncoder(), item, **settings)  # type: ignore[arg-type]
    }


def images_encoded(encoder: ToyEncoder) -> int:
    return sum(count for what, count in encoder.calls if what == "images")


@pytest.mark.parametrize("form", ["zip", "folder", "parquet"])
def test_winoground(tmp_path: Path, form: str) -> None:
    result = measured(write_winoground(tmp_path, form))["winoground"]
    assert result.metrics == WINOGROUND_SCORES
    assert result.task == "image_caption_selection"
    assert result.chance == {"text_acc": 0.25, "image_acc": 0.25, "acc": 1 / 6}
    assert result.intervals.keys() == result.metrics.keys()
    assert (result.n, result.failures, result.sampled_from) == (5, (), None)
    assert result.outcomes == {
        "text_acc": [1.0, 0.0, 0.0, 1.0, 0.0],
        "image_acc": [1.0, 0.0, 0.0, 0.0, 1.0],
        "acc": [1.0, 0.0, 0.0, 0.0, 0.0],
    }
    categories = {
        (item["kind"], item["category"]): (item["n"], *item["metrics"].values())
        for item in result.details["categories"]
    }
    assert categories == {
        ("collapsed_tag", "Relation"): (3, 1 / 3, 1 / 3, 0.0),
        ("collapsed_tag", "Object"): (2, 1 / 2, 1 / 2, 1 / 2),
        ("num_main_preds", "1"): (3, 1 / 3, 2 / 3, 1 / 3),
        ("num_main_preds", "2"): (2, 1 / 2, 0.0, 0.0),
        ("secondary_tag", "Series"): (2, 0.0, 1 / 2, 0.0),
        ("tag", "Noun"): (5, *WINOGROUND_SCORES.values()),
    }


def test_aro(tmp_path: Path) -> None:
    result = measured(write_aro(tmp_path))
    relation, attribution = result["aro/vg_relation"], result["aro/vg_attribution"]
    assert relation.metrics == RELATION_SCORES
    assert attribution.metrics == pytest.approx(ATTRIBUTE_SCORES)
    assert relation.chance == {"acc": 0.5, "macro_acc": 0.5}
    assert relation.per_class == {"on": 0.5, "under": 1.0}
    assert relation.labels == (0, 0, 1, -1, -1, -1)
    counted = {item["category"]: (item["n"], item["counted"]) for item in relation.details["categories"]}
    assert counted == {"next to": (3, False), "on": (2, True), "under": (1, True)}
    low, high = relation.intervals["acc"]
    assert high - low > 0.7  # six cases of one picture are not independent


def test_aro_without_a_counted_category_has_no_mean(tmp_path: Path) -> None:
    write_aro(tmp_path)
    cases = [aro_record("blue", "red", relation_name="next to")]
    (tmp_path / "visual_genome_relation.json").write_text(json.dumps(cases))
    result = measured(tmp_path)["aro/vg_relation"]
    assert (result.metrics, result.labels, result.per_class) == ({"acc": 1.0}, (), {})


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_sugar_crepe(tmp_path: Path, form: str) -> None:
    encoder = ToyEncoder()
    actual = measured(write_sugar_crepe(tmp_path, form=form), encoder)
    assert {
        name.partition("/")[2]: result.metrics["acc"] for name, result in actual.items()
    } == pytest.approx(SUGAR_CREPE_SCORES)
    assert all(result.metrics.keys() == {"acc"} == result.chance.keys() for result in actual.values())
    assert images_encoded(encoder) == 3  # six files share three pictures
    means = {item.collection: item for item in collection_means(actual.values())}
    assert {name: item.value.value for name, item in means.items()} == pytest.approx(SUGAR_CREPE_MEANS)
    assert means["SugarCrepe's swap"].missing == ()
    (add,) = [name for name in actual if "/add_" in name]
    assert not any(add in item.figures for item in means.values())


def test_an_encoder_that_ties_everything_is_always_wrong(tmp_path: Path) -> None:
    write_winoground(tmp_path)
    write_sugar_crepe(tmp_path)
    for name, result in measured(tmp_path, Blind()).items():
        assert result.metrics["acc"] == 0.0, name
    assert measured(tmp_path, Blind())["winoground"].metrics["text_acc"] == 0.0


ROWS = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)


@given(st.lists(ROWS, min_size=2, max_size=2), st.lists(ROWS, min_size=2, max_size=2))
def test_two_pictures_by_the_equations_of_the_paper(
    images: list[list[float]], texts: list[list[float]]
) -> None:
    first, second = np.array(images, np.float32), np.array(texts, np.float32)
    s = (first @ second.T).astype(np.float64)  # s[i, c]: picture i and caption c
    close = [abs(a - b) for a, b in itertools.combinations(s.ravel().tolist(), 2)]
    if any(gap <= 1e-5 for gap in close):
        return  # another test covers ties
    text = s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]
    image = s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1]
    hits = {name: bool(item[0]) for name, item in case_hits([first], [second]).items()}
    assert hits == {"text_acc": text, "image_acc": image, "acc": text and image}


def test_chance_is_what_random_scores_get() -> None:
    # Products of random rows are not independent, so the caption rows select independently drawn scores.
    scores = np.random.default_rng(0).normal(size=(20_000, 2, 2)).astype(np.float32)
    hits = case_hits(list(scores), [np.eye(2, dtype=np.float32)] * len(scores))
    means = {name: float(item.mean()) for name, item in hits.items()}
    assert means == pytest.approx({"text_acc": 1 / 4, "image_acc": 1 / 4, "acc": 1 / 6}, abs=0.012)


def test_what_is_missing_is_left_out_and_told(tmp_path: Path) -> None:
    write_winoground(tmp_path, "folder")
    (tmp_path / "data" / "images" / "ex_0_img_1.png").unlink()
    (tmp_path / "data" / "images" / "ex_4_img_0.png").write_bytes(b"broken")
    result = measured(tmp_path)["winoground"]
    assert result.n == 3
    assert result.metrics == {"text_acc": 1 / 3, "image_acc": 0.0, "acc": 0.0}
    assert [item.key for item in result.failures] == ["ex_4_img_0.png", "ex_0_img_1"]
    assert result.failures[1].reason == "named by a test case, but missing"
    assert result.outcomes["acc"] == [0.0, 0.0, 0.0, None]


def test_a_task_without_a_picture_is_refused(tmp_path: Path) -> None:
    write_sugar_crepe(tmp_path)
    (tmp_path / "val2017" / "green.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of the 1 cases of sugar_crepe/swap_obj .* green.png"):
        measured(tmp_path)


def test_a_second_measurement_encodes_no_picture(tmp_path: Path) -> None:
    for folder in (write_aro(tmp_path / "aro"), write_sugar_crepe(tmp_path / "sugar")):
        store, first, again = FeatureStore(tmp_path / "kept"), ToyEncoder(), ToyEncoder()
        single, other = (measured(folder, encoder, store=store) for encoder in (first, again))
        assert images_encoded(first) > 0
        assert images_encoded(again) == 0
        assert {name: result.metrics for name, result in single.items()} == {
            name: result.metrics for name, result in other.items()
        }


def test_another_box_is_encoded_anew(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "kept")
    folder = write_aro(tmp_path / "aro")
    (folder / "visual_genome_attribution.json").unlink()
    for x, right in ((10, 1.0), (0, 0.0)):
        cases = [aro_record("blue", "red", x=x, relation_name="on")]
        (folder / "visual_genome_relation.json").write_text(json.dumps(cases))
        assert measured(folder, store=store)["aro/vg_relation"].metrics["acc"] == right


def test_a_sample_is_told(tmp_path: Path) -> None:
    (single,) = load_compositional(write_winoground(tmp_path))
    (result,) = evaluate_compositional(ToyEncoder(), single.sample(2))
    assert (result.n, result.sampled_from, result.measured) == (2, 5, "2 of 5")


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    for result in measured(write_aro(tmp_path / "aro")).values():
        result.save(tmp_path / "result.json")
        back = Result.read(tmp_path / "result.json")
        assert (back.metrics, back.labels, back.details) == (result.metrics, result.labels, result.details)


def test_the_report_has_categories_and_means(tmp_path: Path) -> None:
    write_winoground(tmp_path)
    write_aro(tmp_path)
    write_sugar_crepe(tmp_path)
    results = list(measured(tmp_path).values())
    report = results_report(results)
    titles = [section.title for section in report.sections]
    assert titles[:2] == ["All figures", "Means over data sets"]
    assert "winoground, selection" in titles
    tables = {name: table for section in report.sections for name, table in section.tables.items()}
    assert [name for name in tables if name.startswith("winoground")] == [
        f"winoground-image_caption_selection-{kind}"
        for kind in ("collapsed_tag", "num_main_preds", "secondary_tag", "tag")
    ]
    relation = tables["aro-vg_relation-image_caption_selection-relation"]
    assert list(relation.columns) == ["relation", "acc", "n", "counted"]
    assert [(row[0], row[-1]) for row in relation.rows] == [
        ("next to", "no"),
        ("on", "yes"),
        ("under", "yes"),
    ]
    assert "better than chance in choosing captions: winoground" in overview(results).text[0]


def test_two_results_are_compared_case_by_case(tmp_path: Path) -> None:
    """The mean over relations is compared only by the cases that count towards it."""
    write_aro(tmp_path)
    sizes = {"on": 40, "under": 4, "next to": 60}
    right = {"on": 40, "under": 0, "next to": 0}
    cases = [
        aro_record(*(("blue", "red") if number < right[name] else ("red", "blue")), relation_name=name)
        for name, size in sizes.items()
        for number in range(size)
    ]
    (tmp_path / "visual_genome_relation.json").write_text(json.dumps(cases))
    (tmp_path / "visual_genome_attribution.json").unlink()
    good, blind = (list(measured(tmp_path, encoder).values()) for encoder in (ToyEncoder(), Blind()))
    result = {row.metric: row for row in compare(blind, good, names=("blind", "good")).rows}
    assert result.keys() == {"acc", "macro_acc"}
    assert result["acc"].change.n == 104
    assert result["acc"].change.value == pytest.approx(40 / 104)
    assert result["acc"].verdict == "better"
    assert result["macro_acc"].change.n == 44  # "next to" does not count
    assert result["macro_acc"].change.value == pytest.approx(0.5)
    assert (result["macro_acc"].first, result["macro_acc"].second) == (0.0, 0.5)


def test_winoground_is_compared_by_all_three_scores(tmp_path: Path) -> None:
    folder = write_winoground(tmp_path, cases=[WINOGROUND[0]] * 40)
    good, blind = (list(measured(folder, encoder).values()) for encoder in (ToyEncoder(), Blind()))
    rows = compare(good, blind, names=("good", "blind")).rows
    assert [(row.metric, row.verdict) for row in rows] == [
        *((name, "worse") for name in ("text_acc", "image_acc", "acc"))
    ]
