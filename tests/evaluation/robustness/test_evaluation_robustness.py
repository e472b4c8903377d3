"""Robustness to distribution shifts: groups of shifts, the line of ordinary models, effective robustness."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.datasets import ImageDataset, domains, load_labelled
from diptych.errors import DataError, InputError
from diptych.evaluation import (
    LinearScorer,
    Result,
    Scorer,
    ShiftGroup,
    ShiftResults,
    ZeroShotScorer,
    compare_robustness,
    corruptions_of,
    evaluate_zero_shot,
    measure_shifts,
    robustness_report,
)
from diptych.evaluation.robustness.effective import fit_line, logit, predicted_draws
from diptych.evaluation.robustness.robustness_report import robustness_verdicts
from tests.toys import COLOURS, ToyEncoder, picture_bytes, tar_bytes

NAMES = ("blue", "green", "red")


class Brightest:
    """A classifier by the brightest channel, which is wrong for pictures darker than `least`."""

    identity, input_size = "brightest", 8

    def __init__(self, least: int = 0) -> None:
        self.least = least
        self.identity = f"brightest {least}"

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        rows = [np.asarray(image).reshape(-1, 3).mean(0) for image in images]
        return np.array([[b, g, r] if max(r, g, b) >= self.least else [0, 0, 0] for r, g, b in rows])


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Photographs in full colour and sketches in dark colour of three classes; one sketch is broken."""
    files = {}
    for domain, light in (("photo", 255), ("sketch", 90)):
        for name in NAMES:
            for number in range(4):
                colour = tuple(min(c, light) for c in COLOURS[name])
                files[f"pack/{domain}/{name}/{number}.png"] = picture_bytes(colour)  # type: ignore[arg-type]
    files["pack/sketch/red/broken.png"] = b"broken"
    path = tmp_path / "pack.tar"
    path.write_bytes(tar_bytes(files))
    return path


@pytest.fixture
def group(pack: Path) -> ShiftGroup:
    first, *others = (load_labelled(pack, domain=item) for item in domains(pack))
    return ShiftGroup(first, others)


def standing(model: str, reference: float, shifted: float, n: int = 1000) -> ShiftResults:
    """Results of a model with these accuracies."""

    def result(name: str, right: float) -> Result:
        good = round(right * n)
        return Result(
            dataset=name,
            task="classification_under_shift",
            metrics={"acc1": good / n},
            chance={"acc1": 0.1},
            intervals={"acc1": (good / n - 0.01, good / n + 0.01)},
            n=n,
            identity=model,
            data_fingerprint=name,
            outcomes={"acc1": [1.0] * good + [0.0] * (n - good)},
        )

    return ShiftResults(model, result("clean", reference), [result("shift", shifted)])


def tables(*names: str) -> ImageDataset:
    return ImageDataset("x", (), np.zeros(0, np.int64), names)


PLAIN = ShiftGroup(
    ImageDataset("clean", (), np.zeros(0, np.int64), NAMES),
    [ImageDataset("shift", (), np.zeros(0, np.int64), NAMES)],
)


# ---- the line ----


def test_logits_by_hand() -> None:
    assert logit([0.5, 0.8, 0.0, 1.0], 50).tolist() == pytest.approx(
        [0, math.log(4), math.log(0.01 / 0.99), math.log(0.99 / 0.01)]
    )
    with pytest.raises(InputError, match="0 to 1"):
        logit([1.2], 50)
    with pytest.raises(InputError, match="0 to 1"):
        logit([float("nan")], 50)


def test_the_line_by_hand() -> None:
    # Logits of the reference: -1, 0, 1; of the shift: -2, -1.5, 0. Slope 1, intercept -3.5 / 3.
    reference = [1 / (1 + math.exp(-x)) for x in (-1, 0, 1)]
    shifted = [1 / (1 + math.exp(-y)) for y in (-2, -1.5, 0)]
    line = fit_line(reference, shifted, 10**6)
    assert line.slope == pytest.approx(1, abs=1e-6)
    assert line.intercept == pytest.approx(-3.5 / 3, abs=1e-6)
    assert line.residual == pytest.approx(math.sqrt((1 / 6) ** 2 * (1 + 4 + 1) / 3), abs=1e-6)
    assert line.predict(0.5, 10**6).item() == pytest.approx(1 / (1 + math.exp(3.5 / 3)))
    low, high = line.band([0.5], 10**6)
    assert low[0] < line.predict(0.5, 10**6).item() < high[0]
    assert fit_line(reference, shifted, 10**6).resampled.tolist() == line.resampled.tolist()


def test_a_model_on_the_line_has_no_effective_robustness() -> None:
    x = np.linspace(-1, 2, 8)
    line = fit_line((1 / (1 + np.exp(-x))).tolist(), (1 / (1 + np.exp(-(0.7 * x - 0.9)))).tolist(), 10**6)
    for place in (-0.5, 0.3, 1.7):
        reference, shifted = 1 / (1 + math.exp(-place)), 1 / (1 + math.exp(-(0.7 * place - 0.9)))
        assert line.predict(reference, 10**6).item() == pytest.approx(shifted, abs=1e-9)
    assert line.residual < 1e-9
    assert np.ptp(predicted_draws(np.full(50, 0.8), line, 10**6)) < 1e-9  # the line has no uncertainty


def test_what_makes_no_line() -> None:
    for reference, shifted, message in (
        ([], [], "0 ordinary models"),
        ([0.5], [0.4], "1 ordinary models"),
        ([0.5, 0.5, 0.5], [0.1, 0.2, 0.3], "no line"),
        ([0.5, 0.6], [0.1], "2 accuracies on the reference, 1"),
    ):
        with pytest.raises(InputError, match=message):
            fit_line(reference, shifted, 100)
    two = fit_line([0.5, 0.9], [0.2, 0.5], 100)
    with pytest.raises(InputError, match="no band"):
        two.band([0.5], 100)


def test_accuracies_of_nothing_and_of_everything_have_a_place() -> None:
    ordinary = [standing(f"o{n}", a, b) for n, (a, b) in enumerate([(0, 0), (0.5, 0.3), (1, 0.9)])]
    result = compare_robustness(PLAIN, [standing("perfect", 1, 1), standing("hopeless", 0, 0)], ordinary)
    for item in result.models[result.main]:
        assert item.effective is not None
        assert math.isfinite(item.effective.value)
        assert math.isfinite(item.effective.low or math.nan)


# ---- models side by side ----


def test_a_planted_robust_model_is_found_and_an_ordinary_one_is_not() -> None:
    x = np.linspace(-0.5, 2, 7)
    ordinary = [
        standing(f"o{n}", 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-(0.8 * a - 1)))) for n, a in enumerate(x)
    ]
    usual = standing("usual", 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.2)))
    robust = standing("robust", 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.2)) + 0.15)
    result = compare_robustness(PLAIN, [robust, usual], ordinary)
    first, second, *rest = result.models[result.main]
    assert first.effective is not None
    assert second.effective is not None
    assert first.effective.value == pytest.approx(0.15, abs=0.01)
    assert first.effective.low > 0  # type: ignore[operator]
    assert second.effective.low < 0 < second.effective.high  # type: ignore[operator]
    assert all(item.ordinary for item in rest)
    assert result.baseline == "o0"
    assert first.relative is not None
    assert first.relative.value == pytest.approx(robust.accuracies()[1, 0] - ordinary[0].accuracies()[1, 0])
    text = " ".join(robustness_report(result).sections[0].text)
    assert "above what ordinary models" in text
    assert "about what ordinary models of its accuracy have" in text
    assert "These 4 comparisons are corrected for their number (Holm 1979)" in text


def test_verdicts_are_corrected_for_the_number_of_models() -> None:
    """Ten ordinary models and one slightly above: significant alone, but not among many models."""
    x = np.linspace(-0.5, 2, 7)
    ordinary = [
        standing(f"o{n}", 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-(0.8 * a - 1)))) for n, a in enumerate(x)
    ]
    reference, shifted = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.2))
    lucky = standing("lucky", reference, shifted + 0.05)
    usual = [standing(f"usual {n}", reference, shifted) for n in range(10)]
    alone = compare_robustness(PLAIN, [lucky], ordinary)
    effective = alone.models[alone.main][0].effective
    assert effective is not None
    assert 0 < effective.low < 0.01  # type: ignore[operator]
    assert robustness_verdicts(alone)["lucky"] == {"drop": "above", "effective": "above"}
    assert "above what ordinary models" in " ".join(robustness_report(alone).sections[0].text)
    many = compare_robustness(PLAIN, [lucky, *usual], ordinary)
    assert robustness_verdicts(many)["lucky"]["effective"] == "not enough to say"
    report = robustness_report(many)
    assert "above what ordinary models" not in " ".join(report.sections[0].text)
    assert report.values["models"][0]["verdicts"]["effective"] == "not enough to say"


def test_differences_between_models_are_on_the_same_pictures() -> None:
    """Two models that agree on most pictures: their difference is more certain than either accuracy."""
    single, other = standing("a", 0.6, 0.50), standing("b", 0.6, 0.49)
    result = compare_robustness(PLAIN, [single, other])
    assert result.baseline == "a"
    relative = result.models[result.main][1].relative
    assert relative is not None
    assert relative.value == pytest.approx(-0.01)
    assert relative.high - relative.low < 0.015  # type: ignore[operator]
    shifted = result.models[result.main][1].shifted
    assert shifted.high - shifted.low > 0.05  # type: ignore[operator]
    assert result.lines == {}
    assert result.models[result.main][0].effective is None
    assert "no ordinary models" in " ".join(robustness_report(result).sections[0].text)


def test_what_cannot_be_compared() -> None:
    a, b = standing("a", 0.5, 0.4), standing("b", 0.6, 0.4)
    with pytest.raises(InputError, match="no model"):
        compare_robustness(PLAIN, [])
    with pytest.raises(InputError, match="two models with the same name"):
        compare_robustness(PLAIN, [a, a])
    with pytest.raises(InputError, match="expected one of the models: a"):
        compare_robustness(PLAIN, [a], baseline="z")
    with pytest.raises(InputError, match="1 ordinary models"):
        compare_robustness(PLAIN, [a], [b])


# ---- groups ----


def test_what_makes_no_group() -> None:
    with pytest.raises(DataError, match="no shift"):
        ShiftGroup(tables("a", "b"), [])
    with pytest.raises(DataError, match="two data sets are called 'x'"):
        ShiftGroup(tables("a", "b"), [tables("a", "b")])
    other = ImageDataset("y", (), np.zeros(0, np.int64), ("b", "c", "d"))
    with pytest.raises(DataError, match="only in x: 'a'; only in y: 'c', 'd'"):
        ShiftGroup(tables("a", "b"), [other])
    with pytest.raises(DataError, match="1 in both"):
        ShiftGroup(tables("a", "b"), [other], shared_classes=True)


def test_accuracy_drops_where_it_was_planted(group: ShiftGroup) -> None:
    steps: list[int] = []
    good = measure_shifts(Brightest(), group, model="good", progress=steps.append)
    poor = measure_shifts(Brightest(least=200), group, model="poor")
    assert good.accuracies().tolist() == [[1.0], [1.0]]
    assert poor.accuracies()[0, 0] == 1.0
    assert poor.accuracies()[1, 0] == pytest.approx(1 / 3)  # equal scores: chance level
    assert sum(steps) == 25
    shift = good.shifts[0]
    assert (shift.dataset, shift.n, shift.chance["acc1"]) == ("pack/sketch", 12, pytest.approx(1 / 3))
    assert [item.key for item in shift.failures] == ["pack/sketch/red/broken.png"]
    assert isinstance(Brightest(), Scorer)


def test_zero_shot_is_what_the_protocol_of_zero_shot_says(group: ShiftGroup) -> None:
    encoder = ToyEncoder()
    actual = measure_shifts(ZeroShotScorer(encoder, NAMES), group)
    for dataset, result in ((group.reference, actual.reference), (group.shifts[0], actual.shifts[0])):
        same = evaluate_zero_shot(encoder, dataset)
        assert result.metrics["acc1"] == same.metrics["acc1"]
        assert result.intervals["acc1"] == same.intervals["acc1"]


def test_a_linear_classifier_scores_as_scikit_learn_does(group: ShiftGroup) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    encoder = ToyEncoder()
    rows = np.concatenate([encoder.encode_images([Image.open(_file(data))]) for _, data in group.reference])
    fitted = linear_model.LogisticRegression().fit(rows, group.reference.labels)
    scorer = LinearScorer(encoder, fitted.coef_, fitted.intercept_, features=False)
    pictures = [Image.open(_file(data)) for _, data in group.reference]
    assert scorer(pictures) == pytest.approx(fitted.decision_function(rows), abs=1e-5)
    two = fitted.fit(rows[:8], group.reference.labels[:8])
    pair = LinearScorer(encoder, two.coef_, two.intercept_, features=False)
    assert pair(pictures[:8]).argmax(1).tolist() == two.predict(rows[:8]).tolist()
    assert pair.identity != scorer.identity
    with pytest.raises(InputError, match="image_features"):
        LinearScorer(encoder, fitted.coef_, fitted.intercept_)
    with pytest.raises(InputError, match=r"expected \(C, D\)"):
        LinearScorer(encoder, [1.0, 2.0], [0.0])
    with pytest.raises(InputError, match="fitted on 3 features"):
        LinearScorer(encoder, np.ones((2, 3)), [0, 0], features=False)(pictures)


def _file(data: object):  # type: ignore[no-untyped-def]
    import io

    return io.BytesIO(data)  # type: ignore[arg-type]


def test_a_shift_of_fewer_classes_is_compared_among_these(pack: Path) -> None:
    photo = load_labelled(pack, domain="photo")
    sketch = load_labelled(pack, domain="sketch").subset(["red", "green"])
    with pytest.raises(DataError, match="shared_classes"):
        ShiftGroup(photo, [sketch])
    group = ShiftGroup(photo, [sketch], shared_classes=True)

    class Blue(Brightest):
        """A classifier that answers blue for dark pictures, and red for green ones."""

        def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
            rows = super().__call__(images)
            dark = rows.max(1) < 200
            rows[dark, 0] = 1000
            rows[:, 2] += np.where(rows[:, 1] > 0, 300, 0)
            return rows

    result = measure_shifts(Blue(), group)
    narrowed = result.reference_of(result.shifts[0])
    # Among three classes, green photographs are called red; among red and green too, without the blue ones.
    assert (result.reference.metrics["acc1"], result.reference.n) == (pytest.approx(2 / 3), 12)
    assert (narrowed.metrics["acc1"], narrowed.n, narrowed.chance["acc1"]) == (0.5, 8, 0.5)
    # Blue is not a possible answer: red is correct, green is called red.
    assert (result.shifts[0].metrics["acc1"], result.shifts[0].n) == (0.5, 8)
    assert result.accuracies().tolist() == [[0.5], [0.5]]
    table = robustness_report(compare_robustness(group, [result])).tables["shifts"]
    assert "reference" in table.columns


def test_a_model_with_other_columns_is_refused(group: ShiftGroup) -> None:
    class Two(Brightest):
        def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
            return super().__call__(images)[:, :2]

    class Flat(Brightest):
        def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
            return super().__call__(images)[:, 0]

    with pytest.raises(InputError, match="2 scores for the 3 classes"):
        measure_shifts(Two(), group)
    with pytest.raises(InputError, match=r"expected \(N, C\)"):
        measure_shifts(Flat(), group)


def test_corruptions_are_averaged_picture_by_picture(pack: Path, tmp_path: Path) -> None:
    base = load_labelled(pack, domain="photo")
    seen, worse = corruptions_of(base, names=["brightness", "fog", "contrast"], severities=[1, 5], side=8)
    group = ShiftGroup(seen, worse)
    assert group.paired
    assert group.series == {"weather": [0, 1, 2, 3], "digital": [4, 5], "mean over all": [0, 1, 2, 3, 4, 5]}
    result = measure_shifts(Brightest(least=200), group, model="m")
    comparison = compare_robustness(group, [result])
    cells = result.accuracies()[1]
    weather, digital, whole = (rows[0].shifted.value for rows in comparison.models.values())
    assert weather == pytest.approx(cells[:4].mean())
    assert digital == pytest.approx(cells[4:].mean())
    assert whole == pytest.approx(cells.mean())
    assert cells.min() < 1
    # Bootstrap draws are paired: the clean accuracy of a draw uses the same pictures.
    draws = result.bootstrap_accuracies(50)
    assert draws.shape == (50, 2, 6)
    assert (draws[:, 0] == draws[:, 0, :1]).all()
    report = robustness_report(comparison)
    assert report.tables["corruptions"].columns == ["corruption", "1", "5", "mean"]
    assert [row[0] for row in report.tables["corruptions"].rows] == ["brightness", "fog", "contrast"]
    files = {path.name for path in report.save(tmp_path / "report")}
    assert {"index.html", "report.json", "corruptions.csv", "corruptions-map.svg"} <= files
    printed = json.loads((tmp_path / "report" / "report.json").read_text())
    assert printed["models"][0]["shifts"][0]["data_fingerprint"].endswith(
        "brightness severity 1 seed 0 version 1"
    )


def test_a_report_with_a_line_has_its_plot(tmp_path: Path) -> None:
    ordinary = [standing(f"o{n}", a, a - 0.2) for n, a in enumerate((0.4, 0.6, 0.8))]
    result = compare_robustness(PLAIN, [standing("ours", 0.7, 0.69)], ordinary)
    report = robustness_report(result, caveat="It has seen such pictures.", facts={"Command": "x"})
    files = {path.name for path in report.save(tmp_path)}
    assert {"line.svg", "line.png", "lines.csv", "effective.csv"} <= files
    words = (tmp_path / "line.svg").read_text()
    assert "y = x" in words
    assert "ours" in words
    page = (tmp_path / "index.html").read_text()
    assert "It has seen such pictures." in page
    assert "goes through 3 models: few" in page
    assert "so the line is extrapolated" not in page
    assert "intervals are too narrow" not in page
    printed = json.loads((tmp_path / "report.json").read_text())
    assert printed["models"][0]["series"]["shift"]["effective"]["value"] > 0.1
    assert printed["lines"]["shift"]["n"] == 3


def test_a_report_says_where_a_line_is_extended() -> None:
    ordinary = [standing(f"o{n}", a, a - 0.2) for n, a in enumerate((0.4, 0.6))]
    report = robustness_report(compare_robustness(PLAIN, [standing("ours", 0.9, 0.5)], ordinary))
    text = " ".join(line for section in report.sections for line in section.text)
    assert "between 0.400 and 0.600 on the reference, so the line is extrapolated" in text
    assert "intervals are too narrow" in text
