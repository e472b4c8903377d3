"""Model names of open_clip 3.3: which of them load here, and why the others do not.

The list is data, `names.csv`, one row per name: the tags of its released weights, and for a name that does
not load their licence and the reason. To add a family: add its architecture to `diptych.model.presets.table`,
its weights to `releases.csv`, and empty the licence and the reason here. A test compares the three.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from diptych.model.presets.table import QUICK
from diptych.weights.registry import list_models


@dataclass(frozen=True)
class OpenClipName:
    """A model name of open_clip.

    Parameters
    ----------
    name : str
        As in `open_clip.list_models()`.
    tags : tuple of str
        Tags of released weights; empty if open_clip has only an architecture.
    licence : str
        Licence of the released weights; empty if there are none.
    reason : str
        Why it does not load here; empty if it does.
    """

    name: str
    tags: tuple[str, ...]
    licence: str
    reason: str


@cache
def open_clip_names() -> tuple[OpenClipName, ...]:
    """List every name of open_clip 3.3.

    Examples
    --------
    >>> {row.name: row.reason for row in open_clip_names()}["coca_ViT-B-32"].partition(":")[0]
    'CoCa'
    """
    with (Path(__file__).parent / "names.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        OpenClipName(r["name"], tuple(r["tags"].split()), r["licence"] or _licence(r["name"]), r["reason"])
        for r in rows
    )


def reason_not_loaded(name: str) -> str:
    """Reason why open_clip's model of this name does not load; empty for any other name.

    Examples
    --------
    >>> reason_not_loaded("mt5-base-ViT-B-32")
    'an mT5 text tower, which is not built here'
    """
    return next((row.reason for row in open_clip_names() if row.name == name), "")


def _licence(name: str) -> str:
    """Licences of the released weights that load under a name."""
    base = name.removesuffix(QUICK)
    rows = [r for r in list_models() if r.architecture == base]
    return ", ".join(dict.fromkeys(r.licence for r in rows if base == name or r.activation == "quick_gelu"))
