"""Evaluation of weight interpolation between a model and its fine-tuned version (WiSE-FT).

Interpolated weights often keep most of the accuracy of the pretrained model on other tasks and most of the
gain of fine-tuning (Wortsman et al. 2022, arXiv 2109.01903). The caller provides the interpolated models, as
a callable from the interpolation weight (0 is the start, 1 the end) to an encoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from diptych.datasets.overlap import check_overlaps
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation.protocols.measures import Measure
from diptych.evaluation.results.result import Result
from diptych.files.disk import write_bytes
from diptych.reports import Curve, Curves, save_plot

# Measures one encoder at one interpolation weight, with the caller's settings and progress.
MeasureFunction = Callable[[Measure, Encoder, float], Result]


@dataclass(frozen=True)
class InterpolationPoint:
    """Results of one interpolated model.

    Attributes
    ----------
    alpha : float
        Interpolation weight, from 0 (the start) to 1 (the end).
    results : sequence of Result
        Of the target data set first, then of those on which accuracy should be kept.
    """

    alpha: float
    results: Sequence[Result]


@dataclass(frozen=True)
class Interpolation:
    """Results of all interpolated models between two models.

    Attributes
    ----------
    start, end : str
        Identities of the two models.
    metrics : tuple of str
        Metric shown for each data set, the target's first.
    points : sequence of InterpolationPoint
        In the order of their weights.
    command : str
        The command that measured them.
    """

    start: str
    end: str
    metrics: Sequence[str]
    points: Sequence[InterpolationPoint]
    command: str = ""

    @property
    def names(self) -> list[str]:
        """Names of the data sets, the target first."""
        return [result.dataset for result in self.points[0].results]

    def figures(self, number: int) -> list[float]:
        """Figure of one data set at every point."""
        return [point.results[number].metrics[self.metrics[number]] for point in self.points]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        points = [
            {"share": point.alpha, "results": [result.to_dict() for result in point.results]}
            for point in self.points
        ]
        endpoints = {"start": self.start, "end": self.end, "command": self.command}
        return {**endpoints, "metrics": list(self.metrics), "points": points}

    def save(self, path: str | Path) -> None:
        """Write the JSON file, atomically; SaveError if that fails."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"
        write_bytes(Path(path), text.encode("utf-8", errors="backslashreplace"))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the JSON file; DataError if it is not such a file."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            points = [
                InterpolationPoint(point["share"], [Result.from_dict(result) for result in point["results"]])
                for point in values["points"]
            ]
            return cls(values["start"], values["end"], values["metrics"], points, values["command"])
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise DataError(f"{path} is not the file of an interpolation ({error})") from error

    def plot(self, folder: str | Path, title: str = "") -> list[Path]:
        """Plot `curve` (target against other data sets) and `shares` (figures over the interpolation weight).

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        alphas = [point.alpha for point in self.points]
        labels = [f"{alpha:g}" for alpha in alphas]
        target = self.figures(0)
        ways = {
            name: Curve(self.figures(number), target, labels=labels)
            for number, name in enumerate(self.names)
            if number
        }
        over = {
            name: Curve(alphas, self.figures(number), *self._bands(number))
            for number, name in enumerate(self.names)
        }
        wanted = f"{self.names[0]}, {self.metrics[0]}"
        drawn = []
        if ways:
            x_label = "what is to be kept (its own figure)"
            drawn += save_plot(Path(folder) / "curve", Curves(curves=ways, x=x_label, y=wanted, title=title))
        x_label = "share of the way from the start (0) to the end (1)"
        drawn += save_plot(Path(folder) / "shares", Curves(curves=over, x=x_label, y="figure", title=title))
        return drawn

    def _bands(self, number: int) -> tuple[list[float], list[float]]:
        """Intervals of the figure of one data set; empty if any is missing."""
        metric = self.metrics[number]
        intervals = [point.results[number].intervals.get(metric) for point in self.points]
        known = [pair for pair in intervals if pair is not None]
        if len(known) < len(intervals):
            return [], []
        return [low for low, _ in known], [high for _, high in known]


def interpolate(
    encoder_at: Callable[[float], Encoder],
    alphas: Sequence[float],
    measures: Sequence[Measure],
    gauge: MeasureFunction,
    known: Sequence[InterpolationPoint] = (),
    *,
    allow_overlap: bool = False,
) -> Iterator[InterpolationPoint]:
    """Measure models at several interpolation weights.

    Parameters
    ----------
    encoder_at : callable
        From the interpolation weight to an encoder; called once for each weight that is measured.
    alphas : sequence of float
        Interpolation weights from 0 (the start) to 1 (the end).
    measures : sequence of Measure
        The target first, then those on which accuracy should be kept.
    gauge : callable
        From a measure, an encoder and the weight to a result.
    known : sequence of InterpolationPoint
        Measured before; they are reused if the data are the same.
    allow_overlap : bool
        Warn about data sets that share many images, instead of raising an error.

    Yields
    ------
    InterpolationPoint
        One per weight, in order.

    Raises
    ------
    DataError
        Two of the data sets share many images.
    """
    check_overlaps([measure.dataset for measure in measures], allow=allow_overlap)
    fingerprints = [measure.dataset.fingerprint for measure in measures]
    known_by_alpha = {point.alpha: point for point in known}
    for alpha in sorted(dict.fromkeys(alphas)):
        point = known_by_alpha.get(alpha)
        if point is None or [result.data_fingerprint for result in point.results] != fingerprints:
            encoder = encoder_at(alpha)
            point = InterpolationPoint(alpha, [gauge(measure, encoder, alpha) for measure in measures])
        yield point
