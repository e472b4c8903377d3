"""Reports of measurements: text, tables and plots as an HTML page and as JSON, CSV, SVG and PNG files.

`report` defines reports, sections and tables and saves them, `page` has the templates of all HTML pages,
`plots` draws curves, bars, heat maps and captioned images, and `scatter` points with intervals, optionally on
logit-scaled axes.
"""

from __future__ import annotations

from diptych.reports.plots import Bars, Curve, Curves, Gallery, Heatmap, Plot, save_plot
from diptych.reports.report import Cell, Estimate, Report, Section, Table
from diptych.reports.scatter import Mark, Scatter

__all__ = [
    "Report", "Section", "Table", "Estimate", "Cell", "Plot", "Curves", "Curve", "Bars", "Heatmap", "Gallery",
    "Scatter", "Mark", "save_plot",
]  # fmt: skip
