"""The way from a model to its fine-tuned self, measured: what is gained against what is forgotten (WiSE-FT).

Weights part of the way between a pretrained start and a fine-tuned end often keep most of what the start
could do and most of what the end has learned (Wortsman et al. 2022, arXiv 2109.01903). How a model between
two others is made, this file does not know: it is handed a callable from the share of the way to an encoder.
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

# Measures one encoder at one share; settings and progress are the caller's.
Gauge = Callable[[Measure, Encoder, float], Result]


@dataclass(frozen=True)
class Point:
    """A model on the way.

    Attributes
    ----------
    share : float
        Of the way, from 0 (the start) to 1 (the end).
    results : sequence of Result
        The target's first, then those of what is to be kept.
    """

    share: float
    results: Sequence[Result]


@dataclass(frozen=True)
class Interpolation:
    """All points, and between what.

    Attributes
    ----------
    start, end : str
        Identities of the two models.
    metrics : tuple of str
        The figure that is shown of each data set, the target's first.
    points : sequence of Point
        In the order of their shares.
    command : str
        That made it.
    """

    start: str
    end: str
    metrics: Sequence[str]
    points: Sequence[Point]
    command: str = ""

    @property
    def names(self) -> list[str]:
        """Of the data sets, the target's first."""
        return [result.dataset for result in self.points[0].results]

    def figures(self, number: int) -> list[float]:
        """One data set's figure at every point."""
        return [point.results[number].metrics[self.metrics[number]] for point in self.points]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        points = [
            {"share": point.share, "results": [result.to_dict() for result in point.results]}
            for point in self.points
        ]
        told = {"start": self.start, "end": self.end, "command": self.command}
        return {**told, "metrics": list(self.metrics), "points": points}

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all; SaveError when that is not possible."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"
        write_bytes(Path(path), text.encode("utf-8", errors="backslashreplace"))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the JSON file back; DataError when it is none."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            points = [
                Point(point["share"], [Result.from_dict(one) for one in point["results"]])
                for point in values["points"]
            ]
            return cls(values["start"], values["end"], values["metrics"], points, values["command"])
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise DataError(f"{path} is not the file of an interpolation ({error})") from error

    def plot(self, folder: str | Path, title: str = "") -> list[Path]:
        """Draw `curve` (gained against kept, a point a share) and `shares` (every figure over the share).

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        shares = [point.share for point in self.points]
        labels = [f"{share:g}" for share in shares]
        target = self.figures(0)
        ways = {
            name: Curve(self.figures(number), target, labels=labels)
            for number, name in enumerate(self.names)
            if number
        }
        over = {
            name: Curve(shares, self.figures(number), *self._bands(number))
            for number, name in enumerate(self.names)
        }
        wanted = f"{self.names[0]}, {self.metrics[0]}"
        drawn = []
        if ways:
            told = "what is to be kept (its own figure)"
            drawn += save_plot(Path(folder) / "curve", Curves(curves=ways, x=told, y=wanted, title=title))
        told = "share of the way from the start (0) to the end (1)"
        drawn += save_plot(Path(folder) / "shares", Curves(curves=over, x=told, y="figure", title=title))
        return drawn

    def _bands(self, number: int) -> tuple[list[float], list[float]]:
        """Intervals of one data set's figure; empty where there are none."""
        metric = self.metrics[number]
        found = [point.results[number].intervals.get(metric) for point in self.points]
        known = [pair for pair in found if pair is not None]
        if len(known) < len(found):
            return [], []
        return [low for low, _ in known], [high for _, high in known]


def interpolate(
    encoder_at: Callable[[float], Encoder],
    shares: Sequence[float],
    measures: Sequence[Measure],
    gauge: Gauge,
    known: Sequence[Point] = (),
    *,
    allow_overlap: bool = False,
) -> Iterator[Point]:
    """Measure the models at some shares of the way.

    Parameters
    ----------
    encoder_at : callable
        From the share of the way to an encoder; called once for each share that is to be measured.
    shares : sequence of float
        From 0 (the start) to 1 (the end).
    measures : sequence of Measure
        The target's first, then those of what is to be kept.
    gauge : callable
        Measures one of them: gets the measure, the encoder and the share.
    known : sequence of Point
        Measured before; those of the same data need not be again.
    allow_overlap : bool
        Measure on data sets that share many pictures, with a warning.

    Yields
    ------
    Point
        One a share, in order.

    Raises
    ------
    DataError
        Two of the data sets share many pictures.
    """
    check_overlaps([measure.dataset for measure in measures], allow=allow_overlap)
    wanted = [measure.dataset.fingerprint for measure in measures]
    before = {point.share: point for point in known}
    for share in sorted(dict.fromkeys(shares)):
        point = before.get(share)
        if point is None or [result.data_fingerprint for result in point.results] != wanted:
            encoder = encoder_at(share)
            point = Point(share, [gauge(measure, encoder, share) for measure in measures])
        yield point
