"""Plots as data, drawn with matplotlib (without a display) and saved as SVG and PNG.

A plot is a small dataclass with a method that draws it on matplotlib axes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diptych.extras import require
from diptych.files.disk import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

# Colours of Okabe and Ito, distinguishable with most kinds of colour blindness; darker ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
_GALLERY_TILE = 128  # pixels of the longer side of an image
_CAPTION_LETTERS = 24  # per line of a caption


class Plot(Protocol):
    """A plot that can be drawn and saved."""

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib axes."""
        ...

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        ...


@dataclass(frozen=True)
class Curve:
    """Points connected by a line in the given order.

    Attributes
    ----------
    x, y : sequences of K numbers
    low, high : sequences of K numbers
        Limits of a band around the curve, such as the minimum and maximum of several seeds; no band if empty.
    labels : sequence of str
        Written at the points; none if empty.
    dashed : bool
        For reference curves.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    labels: Sequence[str] = ()
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves with a legend.

    Attributes
    ----------
    x, y, title : str
        Labels of the axes and title.
    log_x : bool
        A logarithmic axis.
    x_ticks : sequence of numbers
        Positions of the ticks; chosen by matplotlib if empty.
    levels : mapping of name to number
        Horizontal reference lines, such as chance.
    markers : bool
        Mark the points.
    """

    curves: Mapping[str, Curve]
    x: str
    y: str
    title: str = ""
    log_x: bool = False
    x_ticks: Sequence[float] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    markers: bool = True
    size: tuple[float, float] = (7.2, 4.5)

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib axes."""
        for number, (name, curve) in enumerate(self.curves.items()):
            style = number % len(COLOURS)
            _draw_curve(axes, name, curve, COLOURS[style], MARKERS[style] * self.markers)
        _draw_levels(axes, self.levels)
        axes.set(xlabel=self.x, ylabel=self.y, title=self.title)
        if self.log_x:
            axes.set_xscale("log")
        if len(self.x_ticks):
            axes.set_xticks(self.x_ticks, [f"{tick:g}" for tick in self.x_ticks])
            axes.set_xticks([], minor=True)
        axes.legend(frameon=True, framealpha=0.85, edgecolor="none")  # a level may run below it


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Horizontal bars, the first on top, with an interval on each bar that has one.

    Attributes
    ----------
    values : mapping of name to (value, low, high)
        `low` and `high` may be None.
    levels : mapping of name to number
        Vertical reference lines, such as chance.
    """

    values: Mapping[str, tuple[float, float | None, float | None]]
    x: str
    title: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches; the height grows with the number of bars."""
        return 7.2, max(2.4, 1.2 + 0.28 * len(self.values))

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib axes."""
        names, positions = list(self.values), range(len(self.values))
        axes.barh(positions, [value for value, _, _ in self.values.values()], color=COLOURS[0], height=0.65)
        for position, (value, low, high) in enumerate(self.values.values()):
            if low is not None and high is not None:
                errors = [[max(value - low, 0)], [max(high - value, 0)]]
                axes.errorbar(value, position, xerr=errors, color="0.2", capsize=2, linewidth=1)
        axes.set_yticks(positions, names)
        axes.invert_yaxis()
        _draw_levels(axes, self.levels, across=True)
        axes.set(xlabel=self.x, title=self.title)
        if self.levels:
            axes.legend(  # above the axes: bars fill them
                loc="lower right",
                bbox_to_anchor=(1.0, 1.0),
                borderaxespad=0.2,
                ncols=len(self.levels),
                fontsize="small",
                frameon=False,
            )


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A table of numbers as colours, with the numbers in the cells.

    Attributes
    ----------
    values : sequence of sequences of float
        One sequence per row; the cell of a NaN has no number.
    form : str
        Format of a number, as for `format`.
    low, high : float
        Range of the colours.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    x: str = ""
    y: str = ""
    title: str = ""
    form: str = ".2f"
    low: float = 0.0
    high: float = 1.0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return max(4.0, 1.8 + 0.52 * len(self.columns)), max(2.6, 1.6 + 0.32 * len(self.rows))

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib axes."""
        axes.imshow(self.values, cmap="Blues", vmin=self.low, vmax=self.high, aspect="auto")
        axes.set_xticks(range(len(self.columns)), self.columns, rotation=35, ha="right")
        axes.set_yticks(range(len(self.rows)), self.rows)
        half = (self.low + self.high) / 2
        for y, row in enumerate(self.values):
            for x, value in enumerate(row):
                if value == value:  # not NaN
                    text = format(value, self.form)
                    colour = "white" if value > half else "black"
                    axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
        axes.set(xlabel=self.x, ylabel=self.y, title=self.title)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Captioned images in a grid, row by row.

    Attributes
    ----------
    images : sequence of (caption, image)

    Examples
    --------
    >>> from PIL import Image
    >>> Gallery([("red", Image.new("RGB", (40, 40), "red"))] * 7, columns=5).size
    (7.5, 3.3)
    """

    images: Sequence[tuple[str, Image]]
    columns: int = 5
    title: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        columns_used = max(1, min(self.columns, len(self.images)))
        return 1.5 * columns_used, round(
            (1.0 + self._caption_height) * 1.36 * ceil(len(self.images) / columns_used), 1
        )

    @property
    def _caption_height(self) -> float:
        """Space for captions below an image, relative to the image's height."""
        lines = max((len(_caption_lines(caption)) for caption, _ in self.images), default=0)
        return 0.1 + 0.115 * lines

    def draw(self, axes: Any) -> None:
        """Draw on matplotlib's axes."""
        columns_used = max(1, min(self.columns, len(self.images)))
        step = 1.0 + self._caption_height
        for number, (caption, image) in enumerate(self.images):
            left, top = (number % columns_used) * 1.1, -(number // columns_used) * step
            tile = image.convert("RGB")
            tile.thumbnail((_GALLERY_TILE, _GALLERY_TILE))
            width, height = tile.width / max(tile.size), tile.height / max(tile.size)
            axes.imshow(np.asarray(tile), extent=(left, left + width, top - height, top), aspect="equal")
            corners = (
                (left, left + width, left + width, left, left),
                (top, top, top - height, top - height, top),
            )
            axes.plot(*corners, color="0.7", linewidth=0.5)  # a frame, for images with white borders
            axes.text(left, top - 1.04, "\n".join(_caption_lines(caption)), fontsize=6.5, va="top")
        axes.set(xlim=(-0.02, columns_used * 1.1), ylim=(-ceil(len(self.images) / columns_used) * step, 0.02))
        axes.set_title(self.title)
        axes.axis("off")


def _caption_lines(caption: str) -> list[str]:
    return [line for part in caption.split("\n") for line in textwrap.wrap(part, _CAPTION_LETTERS) or [""]]


def save_plot(path: str | Path, plot: Plot) -> list[Path]:
    """Write a plot as SVG and as PNG.

    Parameters
    ----------
    path : path
        Without a suffix.

    Returns
    -------
    list of Path
        The SVG and the PNG.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> plot = Curves(curves={"ours": Curve([1, 2], [5.5, 4.2])}, x="step", y="loss")
    >>> [path.name for path in save_plot(folder / "loss", plot)]
    ['loss.svg', 'loss.png']
    """
    written = []
    for ending, data in zip(("svg", "png"), _rendered(plot), strict=True):
        target = Path(path).with_name(f"{Path(path).name}.{ending}")
        write_atomically(target, lambda temporary, data=data: temporary.write_bytes(data))  # type: ignore[misc]
        written.append(target)
    return written


def _rendered(plot: Plot) -> tuple[bytes, bytes]:
    """Render a plot as SVG and PNG, reproducibly: the same plot gives the same bytes."""
    figure_module = require("matplotlib.figure", extra="plots", purpose="draw plots")
    matplotlib = require("matplotlib", extra="plots", purpose="draw plots")
    images = []
    with matplotlib.rc_context({"svg.hashsalt": "diptych", "svg.fonttype": "none"}):
        figure = figure_module.Figure(figsize=plot.size, layout="constrained")
        axes = figure.subplots()
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        plot.draw(axes)
        for kind, facts in (("svg", {"Date": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata=facts)
            images.append(buffer.getvalue())
    return images[0], images[1]


def _draw_curve(axes: Any, name: str, curve: Curve, colour: str, marker: str) -> None:
    line = "none" if len(curve.x) == 1 else "--" if curve.dashed else "-"
    style = {"linestyle": line, "marker": marker or None, "markersize": 4}
    axes.plot(curve.x, curve.y, color=colour, label=name, **style)
    if len(curve.low):
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    for label, point in zip(curve.labels, zip(curve.x, curve.y, strict=True), strict=False):
        axes.annotate(label, point, xytext=(5, 5), textcoords="offset points", fontsize=8, color=colour)


def _draw_levels(axes: Any, levels: Mapping[str, float], *, across: bool = False) -> None:
    for number, (name, level) in enumerate(levels.items()):
        draw = axes.axvline if across else axes.axhline
        draw(level, color="0.5", linestyle=(":", "--", "-.")[number % 3], label=name)
