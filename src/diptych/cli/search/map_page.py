"""The page that `diptych map` writes: the map as data, and a script that draws it, in one file.

Sheets of thumbnails lie in a folder beside it or inside it. What the map shows is
`diptych.catalog.map.mapping`'s business, how it looks is written in `data/map.html`, `map.css` and `map.js`.
"""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from diptych.cli.shared.console import clean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog import CatalogEntry
    from diptych.catalog.map.mapping import Cluster, CollectionMap

HOME = Path(__file__).parent / "data"


@dataclass(frozen=True, eq=False)
class Shown:
    """What a page shows.

    Attributes
    ----------
    title, subtitle : str
    map : CollectionMap
    order : (M,) integers
        The map's pictures in the order of their thumbnails; those that have left the catalogue are left out.
    entries : sequence of M CatalogEntry
        In that order.
    levels : (N,) uint8
        At which each of the map's pictures appears.
    sheets : sequence of str
        Addresses of the sheets, seen from the page; none where there are no thumbnails.
    side, columns : int
        Of a sheet: pixels of a square, squares in a row.
    widest : float
        Between two thumbnails of level 0.
    level_count : int
    """

    title: str
    subtitle: str
    map: CollectionMap
    order: NDArray[np.intp]
    entries: Sequence[CatalogEntry]
    levels: NDArray[np.uint8]
    sheets: Sequence[str]
    side: int
    columns: int
    widest: float
    level_count: int


def render(shown: Shown) -> str:
    """The page as text."""
    parts = {
        "title": html.escape(clean(shown.title)),
        "subtitle": html.escape(clean(shown.subtitle)),
        "count": f"{len(shown.order):,}",
        "css": (HOME / "map.css").read_text(encoding="utf-8"),
        "js": (HOME / "map.js").read_text(encoding="utf-8"),
        "data": script_json(_data(shown)),
    }
    pieces = (HOME / "map.html").read_text(encoding="utf-8").split("{{")
    return pieces[0] + "".join(
        parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:])
    )


def script_json(value: Any) -> str:
    r"""JSON that no name can break out of: a tag inside it does not end the script that holds it.

    Examples
    --------
    >>> script_json({"name": "</script><!--"})
    '{"name":"\\u003c/script>\\u003c!--"}'
    """
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _data(shown: Shown) -> Mapping[str, Any]:
    drawn, order = shown.map, shown.order
    folders: dict[tuple[str, int], int] = {}
    inside = [folders.setdefault(_folder(entry), len(folders)) for entry in shown.entries]
    return {
        "count": len(order),
        "places": _packed(np.round(np.clip(drawn.places[order], 0, 1) * 65535), "<u2"),
        "members": _packed(drawn.members[order], "<u2"),
        "levels": _packed(shown.levels[order], "u1"),
        "folders": _packed(np.array(inside), "<u4"),
        "folder_names": list(folders),
        "names": [_name(entry) for entry in shown.entries],
        "clusters": [
            _cluster(one) | {"region": int(region)}
            for one, region in zip(drawn.clusters, drawn.region, strict=True)
        ],
        "regions": [_cluster(one) | {"region": number} for number, one in enumerate(drawn.regions)],
        "sheets": list(shown.sheets),
        "side": shown.side,
        "columns": shown.columns,
        "widest": shown.widest,
        "level_count": shown.level_count,
        "deepest": float(2 ** (_deepest(shown) / 2)),
    }


def _deepest(shown: Shown) -> int:
    """The level that nearly all thumbnails have appeared on."""
    return int(np.quantile(shown.levels, 0.995)) if len(shown.levels) else 0


def _cluster(one: Cluster) -> dict[str, Any]:
    words = [clean(word) for word in one.words]
    return {"words": words, "size": one.size, "x": round(one.x, 5), "y": round(one.y, 5)}


def _folder(entry: CatalogEntry) -> tuple[str, int]:
    """The address of a picture's folder and 0, or of the archive it is in and 1."""
    if "://" in entry.name:  # an import's, as it was
        return entry.name.rpartition("/")[0], 0
    home = entry.path if entry.member else entry.path.parent
    return home.absolute().as_uri(), int(bool(entry.member))


def _name(entry: CatalogEntry) -> str:
    if "://" in entry.name:
        return entry.name.rpartition("/")[2]
    return quote(entry.member or os.fsencode(entry.path.name))


def _packed(numbers: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode("ascii")
