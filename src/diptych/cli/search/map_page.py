"""The HTML page of `diptych map`: the map as data and a script that draws it, in one file.

Sheets of thumbnails are in a folder beside the page, or inside it. `diptych.catalog.map.mapping` computes the
map; `templates/map.html`, `map.css` and `map.js` draw it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from diptych.catalog import read_entries
from diptych.catalog.map.thumbnails import (
    COLUMNS,
    LEVELS,
    WIDEST,
    fingerprint,
    levels_of,
    sheet_order,
    sheets,
    side_for,
)
from diptych.cli.shared.console import clean, progress
from diptych.errors import counted
from diptych.files.disk import write_bytes
from diptych.reports.page import page_template

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog import CatalogEntry, Searcher
    from diptych.catalog.map.mapping import Cluster, CollectionMap


class MapPage:
    """The page of a map, and its sheets of thumbnails.

    Attributes
    ----------
    entries : list of M CatalogEntry
        The pictures in the order of their thumbnails, without those that have left the catalogue.
    order : (M,) integers
        Their indices into the map's pictures.
    levels : (N,) uint8
        The zoom level at which each of the map's pictures appears.
    side : int
        Of a thumbnail, in pixels.
    sheets : sequence of str
        Addresses of the sheets, relative to the page; empty without thumbnails.
    failed : list of str
        Pictures that could not be read, and why.
    bytes : int
        Size of the page and its sheets.
    """

    def __init__(self, searcher: Searcher, picture_map: CollectionMap, path: Path, seed: int) -> None:
        self.map, self.path = picture_map, path
        self.folder = path.with_name(f"{path.stem}_files")
        self.levels: NDArray[np.uint8] = levels_of(picture_map.positions, seed=seed)
        order = sheet_order(picture_map.positions, self.levels)
        contents = picture_map.contents[order]
        self.entries: list[CatalogEntry] = read_entries(searcher.store.database, contents.tolist())
        # Another process may have removed pictures from the catalogue since the map was made.
        present = {entry.content for entry in self.entries}
        self.order = order[[int(content) in present for content in contents]]
        self.side = side_for(len(self.entries))
        self.sheets: Sequence[str] = ()
        self.failed: list[str] = []
        self.bytes = 0

    def draw_thumbnails(self, *, inline: bool, quiet: bool) -> None:
        """Make the sheets of thumbnails, in the page or as files; sheets of an earlier run are kept."""
        digest = fingerprint(self.entries, self.side)
        count = -(-len(self.entries) // COLUMNS**2)
        files = [self.folder / f"{digest}-{number:05d}.webp" for number in range(count)]
        made: dict[int, bytes] = {}
        with progress("thumbnails", len(self.entries), unit="pictures", quiet=quiet) as advance:
            # A sheet of a stopped run is complete, and its name holds the fingerprint of its pictures.
            # Sheets with failures are named "-part", so that the next run makes them again.
            skip = None if inline else lambda number: files[number].is_file()
            for number, sheet in sheets(self.entries, self.side, skip=skip, progress=advance):
                self.failed += [f"{entry.name}: {reason}" for entry, reason in sheet.failed]
                if inline:
                    made[number] = sheet.data
                elif not sheet.failed:
                    write_bytes(files[number], sheet.data)
                else:
                    files[number] = files[number].with_name(f"{digest}-{number:05d}-part.webp")
                    write_bytes(files[number], sheet.data)
        if inline:
            self.sheets = [
                f"data:image/webp;base64,{base64.b64encode(made[number]).decode()}" for number in range(count)
            ]
        else:
            self.sheets = [f"{self.folder.name}/{file.name}" for file in files]
            self.bytes = sum(file.stat().st_size for file in files)

    def write(self, title: str) -> None:
        """Write the page atomically, then delete sheets that only an earlier page used."""
        shown = len(self.entries)
        sample = f"{shown:,} of " if self.map.total > shown else ""
        subtitle = f"{sample}{counted(self.map.total, 'picture')}, {counted(len(self.map.regions), 'region')}"
        template = page_template("map.html", "diptych.cli.search")
        page = template.render(title=clean(title), subtitle=clean(subtitle), data=_data(self)).encode()
        write_bytes(self.path, page)
        self.bytes += len(page)
        used = {sheet.rpartition("/")[2] for sheet in self.sheets}
        for old in self.folder.glob("*.webp"):
            if old.name not in used and re.fullmatch(r"[0-9a-f]{12}-\d{5}(-part)?\.webp", old.name):
                old.unlink(missing_ok=True)


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
        "columns": COLUMNS,
        "widest": WIDEST,
        "level_count": LEVELS,
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
