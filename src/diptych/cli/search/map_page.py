"""The HTML page of `diptych map`: the map as data and a script that draws it, in one file.

Sheets of thumbnails are in a folder beside the page, or inside it. `diptych.catalog.map.mapping` computes the
map; `templates/map.html`, `map.css` and `map.js` draw it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from diptych.cli.shared.console import clean
from diptych.reports.page import page_template

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog import CatalogEntry
    from diptych.catalog.map.mapping import Cluster, CollectionMap


@dataclass(frozen=True, eq=False)
class MapPage:
    """The content of a page.

    Attributes
    ----------
    title, subtitle : str
    map : CollectionMap
    order : (M,) integers
        Indices into the map's pictures, in the order of their thumbnails, without those that have left the
        catalogue.
    entries : sequence of M CatalogEntry
        The pictures in that order.
    levels : (N,) uint8
        The zoom level at which each of the map's pictures appears.
    sheets : sequence of str
        Addresses of the sheets, relative to the page; empty without thumbnails.
    side, columns : int
        Of a sheet: pixels of a thumbnail's side, and thumbnails in a row.
    widest : float
        Distance between two thumbnails of level 0.
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


def render(page: MapPage) -> str:
    """Render the page as HTML."""
    return page_template("map.html", "diptych.cli.search").render(
        title=clean(page.title), subtitle=clean(page.subtitle), data=_data(page)
    )


def _data(page: MapPage) -> Mapping[str, Any]:
    picture_map, order = page.map, page.order
    folders: dict[tuple[str, int], int] = {}
    inside = [folders.setdefault(_folder(entry), len(folders)) for entry in page.entries]
    return {
        "count": len(order),
        "places": _packed(np.round(np.clip(picture_map.positions[order], 0, 1) * 65535), "<u2"),
        "members": _packed(picture_map.members[order], "<u2"),
        "levels": _packed(page.levels[order], "u1"),
        "folders": _packed(np.array(inside), "<u4"),
        "folder_names": list(folders),
        "names": [_name(entry) for entry in page.entries],
        "clusters": [
            _cluster(cluster) | {"region": int(region)}
            for cluster, region in zip(picture_map.clusters, picture_map.region, strict=True)
        ],
        "regions": [
            _cluster(region) | {"region": number} for number, region in enumerate(picture_map.regions)
        ],
        "sheets": list(page.sheets),
        "side": page.side,
        "columns": page.columns,
        "widest": page.widest,
        "level_count": page.level_count,
        "deepest": float(2 ** (_deepest(page) / 2)),
    }


def _deepest(page: MapPage) -> int:
    """The zoom level at which 99.5 % of the thumbnails are visible."""
    return int(np.quantile(page.levels, 0.995)) if len(page.levels) else 0


def _cluster(cluster: Cluster) -> dict[str, Any]:
    words = [clean(word) for word in cluster.words]
    return {"words": words, "size": cluster.size, "x": round(cluster.x, 5), "y": round(cluster.y, 5)}


def _folder(entry: CatalogEntry) -> tuple[str, int]:
    """The address of a picture's folder with 0, or of its archive with 1."""
    if "://" in entry.name:  # imported with an address as its name
        return entry.name.rpartition("/")[0], 0
    home = entry.path if entry.member else entry.path.parent
    return home.absolute().as_uri(), int(bool(entry.member))


def _name(entry: CatalogEntry) -> str:
    if "://" in entry.name:
        return entry.name.rpartition("/")[2]
    return quote(entry.member or os.fsencode(entry.path.name))


def _packed(numbers: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode("ascii")
