"""Few-shot curves as a report: beside zero-shot and all the data, and what zero-shot is worth in pictures.

Measuring is `few_shot`'s, `probe`'s and `classification`'s business, interpolation `data_efficiency`'s.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from diptych.datasets.discovery import paper_metric
from diptych.datasets.registry import PER_CLASS
from diptych.errors import counted
from diptych.evaluation.probes.data_efficiency import Equal, equal_shots
from diptych.evaluation.probes.probe_report import shared_pictures, shortcomings
from diptych.evaluation.results.result import Result, chance_verdicts
from diptych.reports import Bars, Curve, Curves, Estimate, Plot, Report, Section, Table

_WORDS = {"acc1": "Accuracy", PER_CLASS: "Mean per class, this data set's own metric,"}


@dataclass(frozen=True)
class FewShotRun:
    """What was measured of one data set.

    Attributes
    ----------
    curve : Result
        Of `evaluate_few_shot`.
    zero_shot : Result, optional
        Of the same test pictures.
    full : Result, optional
        The linear probe learnt from all training pictures.
    metric : str
        What is compared: "acc1", or the data set's own, "mean_per_class_recall" (`own_metric`).
    """

    curve: Result
    zero_shot: Result | None = None
    full: Result | None = None
    metric: str = "acc1"

    @property
    def name(self) -> str:
        """What results call the data set."""
        return self.curve.dataset

    @property
    def points(self) -> Sequence[Mapping[str, Any]]:
        """Of the curve."""
        found: Sequence[Mapping[str, Any]] = self.curve.details["points"]
        return found

    def equal(self) -> Equal | None:
        """How many of the measured shots zero-shot equals."""
        if self.zero_shot is None:
            return None
        return equal_shots(*self._line(), self.zero_shot.metrics[self.metric])

    def equal_with_full(self) -> Equal | None:
        """The same with all training pictures as one more point, as the paper's figure 7 has it."""
        if self.zero_shot is None or self.full is None:
            return None
        shots, accuracies = self._line()
        everything = float(self.full.details["pictures_per_class"])
        if everything <= shots[-1]:
            return None
        line = [*shots, everything], [*accuracies, self.full.metrics[self.metric]]
        return equal_shots(*line, self.zero_shot.metrics[self.metric])

    def equal_of_draws(self) -> list[Equal]:
        """Of each seed's own curve."""
        if self.zero_shot is None:
            return []
        shots, _ = self._line()
        curves = zip(*(self.draws_of(point) for point in self.points), strict=True)
        return [equal_shots(shots, curve, self.zero_shot.metrics[self.metric]) for curve in curves]

    @property
    def whole(self) -> str:
        """What taught the probe on everything: "all 5,000 pictures", or how many of how many were drawn."""
        details = {} if self.full is None else self.full.details
        there = details.get("train_sampled_from")
        count = f"{details.get('pictures', 0):,}"
        return f"{count} of {there} pictures" if there else f"all {count} pictures"

    def _line(self) -> tuple[list[float], list[float]]:
        return [one["shots"] for one in self.points], [self.value_of(one) for one in self.points]

    def value_of(self, point: Mapping[str, Any]) -> float:
        """The metric at a point of the curve, the mean of its draws."""
        return self.curve.metrics[f"{self.metric}@{point['shots']}"]

    def draws_of(self, point: Mapping[str, Any]) -> list[float]:
        """The metric of each draw of a point."""
        return [one[self.metric] for one in point["draws"]]


def own_metric(*names: str) -> str:
    """The metric by which a data set's few-shot curve and zero-shot are compared, as in the paper's figure 7.

    Parameters
    ----------
    *names : str
        What the data set, its file or folder is called; the first that is known counts.

    Examples
    --------
    >>> own_metric("caltech101-test-a.tar"), own_metric("test", "flowers102"), own_metric("mine")
    ('mean_per_class_recall', 'mean_per_class_recall', 'acc1')
    """
    return PER_CLASS if paper_metric(*names) == PER_CLASS else "acc1"


def few_shot_report(runs: Sequence[FewShotRun], facts: Mapping[str, str] | None = None) -> Report:
    """The report of few-shot curves on one or more data sets; of several, their mean comes first.

    Parameters
    ----------
    runs : sequence of FewShotRun
    facts : mapping, optional
        What stands at the foot.
    """
    runs = _told_apart(runs)
    weak = _not_above_chance(runs)
    sections = [_section(run, number, len(runs), run.name in weak) for number, run in enumerate(runs)]
    if len(runs) > 1:
        sections.insert(0, _mean(runs))
    values = {
        "results": [
            one.to_dict() for run in runs for one in (run.curve, run.zero_shot, run.full) if one is not None
        ],
        "data_efficiency": [
            {
                "dataset": run.name,
                "zero_shot_equals": _plain(run.equal()),
                "with_all_pictures": _plain(run.equal_with_full()),
                "of_each_draw": [_plain(one) for one in run.equal_of_draws()],
            }
            for run in runs
        ],
    }
    title = f"Few-shot: {', '.join(run.name for run in runs)}"
    return Report(title, sections, values, facts or {})


def _told_apart(runs: Sequence[FewShotRun]) -> list[FewShotRun]:
    """The runs with names of their own: the second "test" becomes "test (2)"."""
    found: list[FewShotRun] = []
    for number, run in enumerate(runs):
        same = sum(one.name == run.name for one in runs[:number])
        named = f"{run.name} ({same + 1})" if same else run.name
        found.append(replace(run, curve=replace(run.curve, dataset=named)))
    return found


def _plain(found: Equal | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found) | {"told": str(found)}


def _not_above_chance(runs: Sequence[FewShotRun]) -> set[str]:
    """Names of the data sets on which zero-shot is not shown to be better than chance, of all of the page."""
    known = [(run.name, run.zero_shot, run.metric) for run in runs if run.zero_shot is not None]
    verdicts = chance_verdicts([(result, metric) for _, result, metric in known])
    return {name for (name, _, _), verdict in zip(known, verdicts, strict=True) if verdict != "above"}


def _section(run: FewShotRun, number: int, of: int, weak: bool) -> Section:
    """One data set: curve, table, statements; `weak` where zero-shot is not shown to beat chance."""
    ending = f"-{number + 1}" if of > 1 else ""
    return Section(
        f"Few-shot on {run.name}",
        [
            *shared_pictures(run.curve.details),
            *_worth(run, weak),
            *_draws(run),
            *shortcomings(run.curve),
        ],
        {f"few-shot{ending}": _table(run)},
        {f"few-shot{ending}": _plot(run)},
    )


def _worth(run: FewShotRun, weak: bool) -> list[str]:
    """What zero-shot equals, in one paragraph."""
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
    draws = run.equal_of_draws()
    if len({str(one) for one in draws}) > 1:
        text += f" Of the draws one by one, in pictures of each class: {', '.join(map(str, draws))}."
    if weak:
        text += " Zero-shot is not shown to be better than chance here."
    return [text]


def _draws(run: FewShotRun) -> list[str]:
    """What was drawn, and where there was too little to draw from."""
    details, found = run.curve.details, []
    source = details["validation"] or "other training pictures"
    found.append(
        f"Each point is the mean of {details['seeds']} draws; min(k, 4) pictures of each class from {source} "
        "choose the strength of L2 and do not teach."
    )
    for point in run.points:
        k, chosen = point["shots"], {one["chosen"] for one in point["draws"]}
        if point["short_classes"]:
            found.append(
                f"{k} shots: {_classes(point['short_classes'])} with fewer pictures; all of theirs taught."
            )
        if "fewer shots" in chosen:
            found.append(
                f"{k} shots: no picture was left to choose on, so that of fewer shots was taken for C."
            )
        elif "none" in chosen:
            found.append(
                f"{k} shots: no picture was left to choose on; C is 1, and nothing says that it fits."
            )
        elif point["unchecked_classes"]:
            found.append(
                f"{k} shots: {_classes(point['unchecked_classes'])} with fewer than {min(k, 4)} pictures "
                "left to choose on."
            )
        if point["unfinished"]:
            found.append(f"{k} shots: {point['unfinished']} of {point['fits']} fits did not converge.")
    if details["too_many_shots"]:
        told = ", ".join(map(str, details["too_many_shots"]))
        found.append(f"Left out, for no class has as many pictures: {told} shots.")
    return found


def _classes(count: int) -> str:
    return f"{count} class{'es' * (count != 1)}"


def _table(run: FewShotRun) -> Table:
    curve = run.curve
    rows: list[list[Any]] = []
    if run.zero_shot is not None:
        rows.append(["zero-shot", run.zero_shot.estimate(run.metric), None, None, None, 0])
    for point in run.points:
        strengths = sorted({f"{one['c']:.2g}" for one in point["draws"]}, key=float)
        told = strengths[0] if len(strengths) == 1 else f"{strengths[0]}..{strengths[-1]}"
        accuracy = curve.estimate(f"{run.metric}@{point['shots']}")
        rows.append([str(point["shots"]), accuracy, point["least"], point["most"], told, point["pictures"]])
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
    shots = [one["shots"] for one in run.points]
    line = Curve(
        shots,
        [run.value_of(one) for one in run.points],
        [one["least"] for one in run.points],
        [one["most"] for one in run.points],
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
    """All data sets together: each counts the same, as in the paper."""
    common = sorted(set.intersection(*({one["shots"] for one in run.points} for run in runs)))
    curves = {run.name: _common(run, common) for run in runs}
    average = [statistics.mean(curve.y[i] for curve in curves.values()) for i in range(len(common))]
    curves = {name: Curve(curve.x, curve.y, dashed=True) for name, curve in curves.items()}
    zero = [run.zero_shot.metrics[run.metric] for run in runs if run.zero_shot is not None]
    full = [run.full.metrics[run.metric] for run in runs if run.full is not None]
    levels = {}
    drawn = any(run.full is not None and run.full.details.get("train_sampled_from") for run in runs)
    most = "drawn" if drawn else "all"  # of a sample of a training part nothing is said of all
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
            found = equal_shots(common, average, levels["zero-shot, mean"])
            text.append(
                f"Beside the mean curve, mean zero-shot is worth {found} labelled pictures of each class."
            )
    return Section(f"{counted(len(runs), 'data set')}", text, tables, plots if common else {})


def _common(run: FewShotRun, shots: Sequence[int]) -> Curve:
    """The points that all data sets have."""
    known = {one["shots"]: run.value_of(one) for one in run.points}
    return Curve(shots, [known[k] for k in shots])


def _efficiency(runs: Sequence[FewShotRun]) -> tuple[Table, Plot]:
    """What zero-shot is worth on each data set (figure 7)."""
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
        "Labelled pictures of each class that teach a linear probe as much (paper, figure 7): on the curve "
        "of shots, and with the pictures that the full probe learnt from as one more point."
    )
    plot = Bars(values=bars, x="labelled pictures of each class that zero-shot is worth")
    return Table(columns, rows, caption), plot
