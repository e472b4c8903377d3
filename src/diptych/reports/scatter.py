"""A scatter plot of points with intervals, and lines, optionally on logit-scaled axes.

A logit scale spreads values close to 0 and 1, where many accuracies lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.reports.plots import COLOURS, MARKERS, Curve

_TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
_EDGE = 1e-4  # values are clipped to 1e-4 ... 1 - 1e-4: the logits of 0 and 1 are infinite


@dataclass(frozen=True)
class Mark:
    """A point.

    Attributes
    ----------
    x_interval, y_interval : (low, high) or None
    label : str
        Written beside the point; nothing if empty.
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
    marks : mapping of group name to marks
        Each group has a colour and a marker shape.
    lines : mapping of name to Curve
        Drawn below the points, with their bands.
    logit : bool
        Scale both axes by logits; all values must be between 0 and 1.
    """

    marks: Mapping[str, Sequence[Mark]]
    x: str
    y: str
    lines: Mapping[str, Curve] = field(default_factory=dict)
    title: str = ""
    logit: bool = False
    size: tuple[float, float] = (6.4, 6.0)

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib axes."""
        for number, (name, line) in enumerate(self.lines.items()):
            grey = ("0.35", "0.6")[number % 2]
            x, y = self._clip(line.x), self._clip(line.y)
            axes.plot(x, y, color=grey, linestyle="--" if line.dashed else "-", label=name, linewidth=1.2)
            if len(line.low):
                low, high = self._clip(line.low), self._clip(line.high)
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
            x, y = self._clip([mark.x])[0], self._clip([mark.y])[0]
            axes.errorbar(
                x,
                y,
                xerr=self._errors(x, mark.x_interval),
                yerr=self._errors(y, mark.y_interval),
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

    def _errors(self, value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
        if interval is None:
            return None
        low, high = self._clip(interval)
        return [[max(value - low, 0)], [max(high - value, 0)]]

    def _clip(self, values: Sequence[float]) -> list[float]:
        """Clip values away from 0 and 1 for logit axes; unchanged for linear axes."""
        return [min(max(float(v), _EDGE), 1 - _EDGE) if self.logit else float(v) for v in values]

    def _scale(self, axes: Any) -> None:
        """Set logit axes that cover all points, with ticks labelled by plain fractions."""
        all_marks = [mark for marks in self.marks.values() for mark in marks]
        xs = [value for mark in all_marks for value in (mark.x, *(mark.x_interval or ()))]
        ys = [value for mark in all_marks for value in (mark.y, *(mark.y_interval or ()))]
        for axis, values in (("x", xs), ("y", ys)):
            low, high = _axis_limits(self._clip(values))
            ticks = [tick for tick in _TICKS if low <= tick <= high]
            getattr(axes, f"set_{axis}scale")("logit")
            getattr(axes, f"set_{axis}lim")(low, high)
            getattr(axes, f"set_{axis}ticks")(ticks, [f"{tick:g}" for tick in ticks])
            getattr(axes, f"set_{axis}ticks")([], minor=True)


def _axis_limits(values: Sequence[float]) -> tuple[float, float]:
    """Axis limits slightly outside the values: the odds of the ends divided and multiplied by 1.5.

    Examples
    --------
    >>> [round(end, 3) for end in _axis_limits([0.4, 0.8])]
    [0.308, 0.857]
    """
    low, high = min(values, default=0.1), max(values, default=0.9)
    down, up = low / (1 - low) / 1.5, high / (1 - high) * 1.5
    return down / (1 + down), up / (1 + up)
