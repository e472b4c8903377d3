"""Curves as pictures: one SVG for pages and one PNG for everything else, beside the figures they show.

Drawn by matplotlib without a screen. What a curve means, and the numbers as JSON, are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.disk import write_whole
from diptych.extras import require

# Okabe and Ito's colours, told apart by nearly every eye; darker ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"


@dataclass(frozen=True)
class Curve:
    """Points in the order they are joined.

    Attributes
    ----------
    x, y : sequences of K numbers
    low, high : sequences of K numbers
        A band around the curve, such as the least and most of several seeds; none if empty.
    labels : sequence of str
        Written at the points; none if empty.
    dashed : bool
        For what is only there to compare with.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    labels: Sequence[str] = ()
    dashed: bool = False


def plot_curves(
    path: str | Path,
    curves: Mapping[str, Curve],
    *,
    x: str,
    y: str,
    title: str = "",
    log_x: bool = False,
    levels: Mapping[str, float] = {},
    markers: bool = True,
) -> list[Path]:
    """Draw curves with a legend.

    Parameters
    ----------
    path : path
        Without its ending.
    curves : mapping of name to Curve
    x, y, title : str
        What is written at the axes and above.
    log_x : bool
        A logarithmic axis.
    levels : mapping of name to number
        Horizontal lines, such as chance.
    markers : bool
        Mark the points.

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
    >>> drawn = plot_curves(folder / "loss", {"ours": Curve([1, 2], [5.5, 4.2])}, x="step", y="loss")
    >>> [path.name for path in drawn]
    ['loss.svg', 'loss.png']
    """
    figure_module = require("matplotlib.figure", extra="plots", purpose="draw curves")
    figure = figure_module.Figure(figsize=(7.2, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        _draw(axes, name, curve, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)] * markers)
    for name, level in levels.items():
        axes.axhline(level, color="0.5", linestyle=":", label=name)
    axes.set(xlabel=x, ylabel=y, title=title)
    if log_x:
        axes.set_xscale("log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _save(figure, Path(path))


def _draw(axes: Any, name: str, curve: Curve, colour: str, marker: str) -> None:
    line = "none" if len(curve.x) == 1 else "--" if curve.dashed else "-"
    look = {"linestyle": line, "marker": marker or None, "markersize": 4}
    axes.plot(curve.x, curve.y, color=colour, label=name, **look)
    if len(curve.low):
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    for label, place in zip(curve.labels, zip(curve.x, curve.y, strict=True), strict=False):
        axes.annotate(label, place, xytext=(5, 5), textcoords="offset points", fontsize=8, color=colour)


def _save(figure: Any, path: Path) -> list[Path]:
    matplotlib = require("matplotlib", extra="plots", purpose="draw curves")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    # The same curves give the same file, so that a repository sees a change only where there is one.
    with matplotlib.rc_context({"svg.hashsalt": "diptych", "svg.fonttype": "none"}):
        for ending, facts in (("svg", {"Date": None}), ("png", {"Software": None})):
            target = path.with_name(f"{path.name}.{ending}")

            def write(temporary: Path, kind: str = ending, facts: dict[str, None] = facts) -> None:
                figure.savefig(temporary, format=kind, dpi=150, metadata=facts)

            write_whole(target, write)
            written.append(target)
    return written
