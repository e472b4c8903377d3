"""A plot of points with intervals, named or not, and lines between them; on logit-scaled axes where asked.

A plot as those of `plots.py`. An axis of logits pulls apart what lies near 0 and 1, where accuracies crowd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.reports.plots import COLOURS, MARKERS, Curve

_TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
_EDGE = 1e-4  # a logit axis has no 0 and no 1


@dataclass(frozen=True)
class Mark:
    """A point.

    Attributes
    ----------
    x, y : float
    x_interval, y_interval : (low, high) or None
    label : str
        Written beside it; nothing if empty.
    """

    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Groups of points, and lines, with a legend.

    Attributes
    ----------
    marks : mapping of group's name to marks
        A colour and a shape for each group.
    lines : mapping of name to Curve
        Drawn below the points; with a band where they have one.
    x, y, title : str
    logit : bool
        Both axes; everything must lie between 0 and 1.
    """

    marks: Mapping[str, Sequence[Mark]]
    x: str
    y: str
    lines: Mapping[str, Curve] = field(default_factory=dict)
    title: str = ""
    logit: bool = False
    size: tuple[float, float] = (6.4, 6.0)

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib's axes."""
        for number, (name, line) in enumerate(self.lines.items()):
            grey = ("0.35", "0.6")[number % 2]
            x, y = self._inside(line.x), self._inside(line.y)
            axes.plot(x, y, color=grey, linestyle="--" if line.dashed else "-", label=name, linewidth=1.2)
            if len(line.low):
                low, high = self._inside(line.low), self._inside(line.high)
                axes.fill_between(x, low, high, color=grey, alpha=0.2, linewidth=0)
        for number, (name, marks) in enumerate(self.marks.items()):
            self._draw_group(axes, name, marks, number)
        axes.set(xlabel=self.x, ylabel=self.y, title=self.title)
        if self.logit:
            self._scale(axes)
        axes.legend(frameon=False, loc="upper left")

    def _draw_group(self, axes: Any, name: str, marks: Sequence[Mark], number: int) -> None:
        colour, shape = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for first, mark in enumerate(marks):
            x, y = self._inside([mark.x])[0], self._inside([mark.y])[0]
            axes.errorbar(
                x,
                y,
                xerr=self._reach(x, mark.x_interval),
                yerr=self._reach(y, mark.y_interval),
                color=colour,
                marker=shape,
                markersize=6,
                linewidth=1,
                linestyle="none",
                label=name if first == 0 else None,
            )
            if mark.label:
                axes.annotate(
                    mark.label, (x, y), xytext=(6, -10), textcoords="offset points", fontsize=8, color=colour
                )

    def _reach(self, value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
        if interval is None:
            return None
        low, high = self._inside(interval)
        return [[max(value - low, 0)], [max(high - value, 0)]]

    def _inside(self, values: Sequence[float]) -> list[float]:
        """On a logit axis kept off its ends, elsewhere as they are."""
        return [min(max(float(v), _EDGE), 1 - _EDGE) if self.logit else float(v) for v in values]

    def _scale(self, axes: Any) -> None:
        """Logit axes over what there is to see, with ticks in plain shares."""
        every = [mark for marks in self.marks.values() for mark in marks]
        xs = [value for mark in every for value in (mark.x, *(mark.x_interval or ()))]
        ys = [value for mark in every for value in (mark.y, *(mark.y_interval or ()))]
        for axis, values in (("x", xs), ("y", ys)):
            low, high = _around(self._inside(values))
            ticks = [tick for tick in _TICKS if low <= tick <= high]
            getattr(axes, f"set_{axis}scale")("logit")
            getattr(axes, f"set_{axis}lim")(low, high)
            getattr(axes, f"set_{axis}ticks")(ticks, [f"{tick:g}" for tick in ticks])
            getattr(axes, f"set_{axis}ticks")([], minor=True)


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Limits a little outside of the values, the odds of the ends a third smaller and larger.

    Examples
    --------
    >>> [round(end, 3) for end in _around([0.4, 0.8])]
    [0.308, 0.857]
    """
    low, high = min(values, default=0.1), max(values, default=0.9)
    down, up = low / (1 - low) / 1.5, high / (1 - high) * 1.5
    return down / (1 + down), up / (1 + up)
