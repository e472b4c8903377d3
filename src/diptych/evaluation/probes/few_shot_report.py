"""Report of few-shot curves, compared with zero-shot and a probe on all data, and of data efficiency."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from diptych.datasets.discovery import paper_metric
from diptych.datasets.registry import PER_CLASS
from diptych.errors import counted
from diptych.evaluation.probes.data_efficiency import EquivalentShots, equal_shots
from diptych.evaluation.probes.probe_report import shared_pictures, shortcomings
from diptych.evaluation.results.result import Result, not_above_chance
from diptych.reports import Bars, Curve, Curves, Estimate, Plot, Report, Section, Table

_WORDS = {"acc1": "Accuracy", PER_CLASS: "Mean per class, this data set's own metric,"}


@dataclass(frozen=True)
class FewShotRun:
    """Measurements of one data set.

    Attributes
    ----------
    curve : Result
        Of `evaluate_few_shot`.
    zero_shot : Result, optional
        On the same test images.
    full : Result, optional
        Linear probe on all training images.
    metric : str
        The metric that is compared: "acc1", or the data set's "mean_per_class_recall" (`own_metric`).
    """

    curve: Result
    zero_shot: Result | None = None
    full: Result | None = None
    metric: str = "acc1"

    @property
    def name(self) -> str:
        """Name of the data set in results."""
        return self.curve.dataset

    @property
    def points(self) -> Sequence[Mapping[str, Any]]:
        """Points of the curve, one per number of shots."""
        points: Sequence[Mapping[str, Any]] = self.curve.details["points"]
        return points

    def equal(self) -> EquivalentShots | None:
        """Number of shots that zero-shot equals, from the measured points."""
        if self.zero_shot is None:
            return None
        return equal_shots(*self._line(), self.zero_shot.metrics[self.metric])

    def equal_with_full(self) -> EquivalentShots | None:
        """The same with the probe on all training images as a further point, as in the paper's figure 7."""
        if self.zero_shot is None or self.full is None:
            return None
        shots, accuracies = self._line()
        everything = float(self.full.details["pictures_per_class"])
        if everything <= shots[-1]:
            return None
        line = [*shots, everything], [*accuracies, self.full.metrics[self.metric]]
        return equal_shots(*line, self.zero_shot.metrics[self.metric])

    def equal_of_draws(self) -> list[EquivalentShots]:
        """Number of shots that zero-shot equals, from the curve of each seed."""
        if self.zero_shot is None:
            return []
        shots, _ = self._line()
        curves = zip(*(self.draws_of(point) for point in self.points), strict=True)
        return [equal_shots(shots, curve, self.zero_shot.metrics[self.metric]) for curve in curves]

    @property
    def whole(self) -> str:
        """Training images of the full probe, such as "all 5,000 pictures" or "500 of 5000 pictures"."""
        details = {} if self.full is None else self.full.details
        population = details.get("train_sampled_from")
        count = f"{details.get('pictures', 0):,}"
        return f"{count} of {population} pictures" if population else f"all {count} pictures"

    def _line(self) -> tuple[list[float], list[float]]:
        return [point["shots"] for point in self.points], [self.value_of(point) for point in self.points]

    def value_of(self, point: Mapping[str, Any]) -> float:
        """The metric at a point of the curve, the mean over its draws."""
        return self.curve.metrics[f"{self.metric}@{point['shots']}"]

    def draws_of(self, point: Mapping[str, Any]) -> list[float]:
        """The metric of each draw of a point."""
        return [draw[self.metric] for draw in point["draws"]]


def own_metric(*names: str) -> str:
    """Metric for comparing few-shot curves and zero-shot on a data set, as in the paper's figure 7.

    Parameters
    ----------
    *names : str
        Names of the data set, its file or folder; the first known one is used.

    Examples
    --------
    >>> own_metric("caltech101-test-a.tar"), own_metric("test", "flowers102"), own_metric("mine")
    ('mean_per_class_recall', 'mean_per_class_recall', 'acc1')
    """
    return PER_CLASS if paper_metric(*names) == PER_CLASS else "acc1"


def few_shot_report(runs: Sequence[FewShotRun], facts: Mapping[str, str] | None = None) -> Report:
    """Report of few-shot curves on one or more data sets; of several, their mean comes first.

    Parameters
    ----------
    facts : mapping, optional
        For the foot of the page.
    """
    runs = _with_unique_names(runs)
    weak = _not_above_chance(runs)
    sections = [_section(run, number, len(runs), run.name in weak) for number, run in enumerate(runs)]
    if len(runs) > 1:
        sections.insert(0, _mean(runs))
    values = {
        "results": [
            result.to_dict()
            for run in runs
            for result in (run.curve, run.zero_shot, run.full)
            if result is not None
        ],
        "data_efficiency": [
            {
                "dataset": run.name,
                "zero_shot_equals": _plain(run.equal()),
                "with_all_pictures": _plain(run.equal_with_full()),
                "of_each_draw": [_plain(equal) for equal in run.equal_of_draws()],
            }
            for run in runs
        ],
    }
    title = f"Few-shot: {', '.join(run.name for run in runs)}"
    return Report(title, sections, values, facts or {})


def _with_unique_names(runs: Sequence[FewShotRun]) -> list[FewShotRun]:
    """Make the names of runs unique: the second "test" becomes "test (2)"."""
    named_runs: list[FewShotRun] = []
    for number, run in enumerate(runs):
        same = sum(earlier.name == run.name for earlier in runs[:number])
        named = f"{run.name} ({same + 1})" if same else run.name
        named_runs.append(replace(run, curve=replace(run.curve, dataset=named)))
    return named_runs


def _plain(equal: EquivalentShots | None) -> dict[str, Any] | None:
    return None if equal is None else asdict(equal) | {"told": str(equal)}


def _not_above_chance(runs: Sequence[FewShotRun]) -> set[str]:
    """Data sets on which zero-shot is not significantly better than chance, corrected for their number."""
    figures = [(run.zero_shot, run.metric) for run in runs if run.zero_shot is not None]
    weak = {id(result) for result, _ in not_above_chance(figures)}
    return {run.name for run in runs if id(run.zero_shot) in weak}


def _section(run: FewShotRun, number: int, of: int, weak: bool) -> Section:
    """Curve, table and statements of one data set; `weak` if zero-shot is not shown to beat chance."""
    ending = f"-{number + 1}" if of > 1 else ""
    return Section(
        f"Few-shot on {run.name}",
        [
            *shared_pictures(run.curve.details),
            *_equivalence(run, weak),
            *_sampling_notes(run),
            *shortcomings(run.curve),
        ],
        {f"few-shot{ending}": _table(run)},
        {f"few-shot{ending}": _plot(run)},
    )


def _equivalence(run: FewShotRun, weak: bool) -> list[str]:
    """A paragraph on the number of shots that zero-shot equals."""
    equal = run.equal()
    if equal is None or run.zero_shot is None:
        return []
    level, k = run.zero_shot.metrics[run.metric], f"{equal.shots:g}"
    pictures = f"{k} labelled picture{'s' * (equal.shots != 1)} of each class"
    text = (
        f"Zero-shot, from the class names alone, has {level:.1%}. A linear probe on the same features "
        + {
            "<": f"has more with {pictures} already.",
            ">": f"has less, even with {pictures}.",
            "=": f"needs about {equal} labelled pictures of each class to have as much.",
        }[equal.relation]
    )
    whole = run.equal_with_full()
    if equal.relation == ">" and whole is not None and run.full is not None:
        everything = f"{run.whole} ({run.full.details['pictures_per_class']:.0f} a class)"
        text += (
            f" With {everything} it has less, too."
            if whole.relation == ">"
            else f" It needs about {whole}, judged by what it has with {everything}."
        )
    equal_by_draw = run.equal_of_draws()
    if len({str(each) for each in equal_by_draw}) > 1:
        text += f" Of the draws one by one, in pictures of each class: {', '.join(map(str, equal_by_draw))}."
    if weak:
        text += " Zero-shot is not shown to be better than chance here."
    return [text]


def _sampling_notes(run: FewShotRun) -> list[str]:
    """Sentences on the sampled images, and on classes with too few."""
    details, sentences = run.curve.details, []
    source = details["validation"] or "other training pictures"
    sentences.append(
        f"Each point is the mean of {details['seeds']} draws; min(k, 4) pictures of each class from {source} "
        "choose the strength of L2 and are not used for training."
    )
    for point in run.points:
        k, chosen = point["shots"], {draw["chosen"] for draw in point["draws"]}
        if point["short_classes"]:
            sentences.append(
                f"{k} shots: {counted(point['short_classes'], 'class', 'classes')} with fewer pictures; "
                "all of theirs were used."
            )
        if "fewer shots" in chosen:
            sentences.append(f"{k} shots: no picture was left for validation, so C is that of fewer shots.")
        elif "none" in chosen:
            sentences.append(
                f"{k} shots: no picture was left for validation; C is 1, which may not be the best value."
            )
        elif point["unchecked_classes"]:
            sentences.append(
                f"{k} shots: {counted(point['unchecked_classes'], 'class', 'classes')} with fewer than "
                f"{min(k, 4)} pictures left for validation."
            )
        if point["unfinished"]:
            sentences.append(f"{k} shots: {point['unfinished']} of {point['fits']} fits did not converge.")
    if details["too_many_shots"]:
        counts = ", ".join(map(str, details["too_many_shots"]))
        sentences.append(f"Left out because no class has as many pictures: {counts} shots.")
    return sentences


def _table(run: FewShotRun) -> Table:
    curve = run.curve
    rows: list[list[Any]] = []
    if run.zero_shot is not None:
        rows.append(["zero-shot", run.zero_shot.estimate(run.metric), None, None, None, 0])
    for point in run.points:
        strengths = sorted({f"{draw['c']:.2g}" for draw in point["draws"]}, key=float)
        strength = strengths[0] if len(strengths) == 1 else f"{strengths[0]}..{strengths[-1]}"
        accuracy = curve.estimate(f"{run.metric}@{point['shots']}")
        rows.append(
            [str(point["shots"]), accuracy, point["least"], point["most"], strength, point["pictures"]]
        )
    if run.full is not None:
        details = run.full.details
        accuracy = run.full.estimate(run.metric)
        name = "drawn" if details.get("train_sampled_from") else "all"
        rows.append([name, accuracy, None, None, f"{details['c']:.2g}", details["pictures"]])
    caption = (
        f"{_WORDS[run.metric]} on {counted(curve.n, 'test picture')}, in brackets 95 % intervals over these "
        f"and over draws; least and most of {curve.details['seeds']} draws. Chance: {_chance(curve):.3f}."
    )
    if run.full is not None and run.full.details.get("train_sampled_from"):
        caption += f" Drawn: the linear probe on {run.whole}, not on the whole training part."
    return Table(["shots", "accuracy", "least", "most", "C", "pictures"], rows, caption)


def _chance(curve: Result) -> float:
    return next(iter(curve.chance.values()))


def _plot(run: FewShotRun) -> Plot:
    shots = [point["shots"] for point in run.points]
    line = Curve(
        shots,
        [run.value_of(point) for point in run.points],
        [point["least"] for point in run.points],
        [point["most"] for point in run.points],
    )
    levels = {} if run.zero_shot is None else {"zero-shot": run.zero_shot.metrics[run.metric]}
    if run.full is not None:
        levels[run.whole] = run.full.metrics[run.metric]
    levels["chance"] = _chance(run.curve)
    return _curves({"linear probe, least to most of draws": line}, levels, shots, run.name)


def _curves(
    curves: Mapping[str, Curve], levels: Mapping[str, float], shots: Sequence[int], title: str
) -> Curves:
    return Curves(
        curves=curves,
        x="labelled pictures of each class",
        y="accuracy",
        title=title,
        log_x=True,
        x_ticks=shots,
        levels=levels,
    )


def _mean(runs: Sequence[FewShotRun]) -> Section:
    """Means over all data sets, with equal weights as in the paper."""
    common = sorted(set.intersection(*({point["shots"] for point in run.points} for run in runs)))
    curves = {run.name: _common(run, common) for run in runs}
    average = [statistics.mean(curve.y[i] for curve in curves.values()) for i in range(len(common))]
    curves = {name: Curve(curve.x, curve.y, dashed=True) for name, curve in curves.items()}
    zero = [run.zero_shot.metrics[run.metric] for run in runs if run.zero_shot is not None]
    full = [run.full.metrics[run.metric] for run in runs if run.full is not None]
    levels = {}
    drawn = any(run.full is not None and run.full.details.get("train_sampled_from") for run in runs)
    most = "drawn" if drawn else "all"  # a sample of a training set is not called all
    if len(zero) == len(runs):
        levels["zero-shot, mean"] = statistics.mean(zero)
    if len(full) == len(runs):
        levels[f"{most} pictures, mean"] = statistics.mean(full)
    rows: list[list[Any]] = [
        *([["zero-shot", levels["zero-shot, mean"]]] if "zero-shot, mean" in levels else []),
        *([str(k), value] for k, value in zip(common, average, strict=True)),
        *([[most, levels[f"{most} pictures, mean"]]] if len(full) == len(runs) else []),
    ]
    caption = f"Means over {counted(len(runs), 'data set')}."
    if drawn:
        caption += " Drawn: the linear probe on a sample of a training part, where that is larger."
    tables = {"mean": Table(["shots", "accuracy"], rows, caption)}
    shown = {f"mean of {counted(len(runs), 'data set')}": Curve(common, average), **curves}
    plots: dict[str, Plot] = {"mean": _curves(shown, levels, common, "")}
    text = []
    if len(zero) == len(runs):
        tables["data-efficiency"], plots["data-efficiency"] = _efficiency(runs)
        if common:
            worth = equal_shots(common, average, levels["zero-shot, mean"])
            text.append(f"On the mean curve, mean zero-shot equals {worth} labelled pictures of each class.")
    return Section(f"{counted(len(runs), 'data set')}", text, tables, plots if common else {})


def _common(run: FewShotRun, shots: Sequence[int]) -> Curve:
    """Curve of one data set at the numbers of shots that all data sets have."""
    known = {point["shots"]: run.value_of(point) for point in run.points}
    return Curve(shots, [known[k] for k in shots])


def _efficiency(runs: Sequence[FewShotRun]) -> tuple[Table, Plot]:
    """Number of shots that zero-shot equals on each data set (figure 7)."""
    rows: list[list[Any]] = []
    bars: dict[str, tuple[float, float | None, float | None]] = {}
    for run in runs:
        equal, whole = run.equal(), run.equal_with_full()
        if equal is None or run.zero_shot is None:
            continue
        level: Estimate = run.zero_shot.estimate(run.metric)
        rows.append([run.name, level, str(equal), "" if whole is None else str(whole)])
        best = equal if whole is None else whole
        bars[f"{run.name} ({best})"] = (best.shots, None, None)
    columns = ["data set", "zero-shot", "worth, shots", "with the probe's pictures"]
    caption = (
        "Labelled pictures of each class with which a linear probe equals zero-shot (paper, figure 7): on "
        "the curve of shots, and with the training pictures of the full probe as a further point."
    )
    plot = Bars(values=bars, x="labelled pictures of each class that zero-shot is worth")
    return Table(columns, rows, caption), plot
