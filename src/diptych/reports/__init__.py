"""What a measurement shows: tables, plots and plain statements, on one page and as files (no torch).

Files of this room: `plots` (curves, bars, heat maps as SVG and PNG), `scatter` (points with intervals, on
logit-scaled axes where asked), `gallery` (captioned pictures), `report` (what a report is made of, and its
JSON and CSV), `page` (the same as one self-contained HTML page). What the figures mean is the business of
`diptych.evaluation` and `diptych.audits`; printing in a terminal is the command line's.
"""

from __future__ import annotations

from diptych.reports.gallery import Gallery
from diptych.reports.plots import Bars, Curve, Curves, Heatmap, Plot, save_plot
from diptych.reports.report import Cell, Estimate, Report, Section, Table
from diptych.reports.scatter import Mark, Scatter

__all__ = [
    "Report",
    "Section",
    "Table",
    "Estimate",
    "Cell",
    "Plot",
    "Curves",
    "Curve",
    "Bars",
    "Heatmap",
    "Gallery",
    "Scatter",
    "Mark",
    "save_plot",
]
