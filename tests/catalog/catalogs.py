"""Catalogues of small single-colour pictures, for the tests of this folder and of the command line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.catalog import IndexOutcome, Searcher, Store, index_pictures
from diptych.encoder import Encoder
from tests.toys import COLOURS, ToyEncoder

Place = str | Path  # a folder, or the address of a database


def paint(path: Path, colour: str, *, shade: int = 0, size: tuple[int, int] = (16, 12)) -> Path:
    """Write a PNG of one colour, made unique by `shade` in one corner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, COLOURS[colour])
    image.putpixel((0, 0), (shade % 256, shade // 256 % 256, 7))
    image.save(path, "PNG")
    return path


def colours(folder: Path) -> list[Path]:
    """Write one picture of each colour."""
    return [paint(folder / f"{name}.png", name) for name in COLOURS]


def index(catalog: Place, *paths: Path, encoder: Encoder | None = None, **options: object) -> IndexOutcome:
    """Index with the toy encoder."""
    store = Store.create(catalog)
    try:
        return index_pictures(store, encoder or ToyEncoder(), paths, **options)  # type: ignore[arg-type]
    finally:
        store.close()


def search(catalog: Place, query: str, *, encoder: Encoder | None = None) -> list[str]:
    """Names of the files in the results, best first, without a cut-off."""
    from diptych.catalog import SearchOptions

    store = Store.open(catalog)
    try:
        answer = Searcher(store, encoder or ToyEncoder()).search(
            query, SearchOptions(cutoff=None, collapse=False)
        )
        return [hit.entry.path.name for hit in answer.hits]
    finally:
        store.close()


def content(catalog: Place) -> dict[tuple[bytes, str], tuple[bytes | None, bytes | None, str | None]]:
    """All entries of a catalogue: (path, member) -> hash, row, error; equal for equal catalogues."""
    store = Store.open(catalog)
    try:
        assert store.active is not None
        held = {}
        for path, member, number, picture_hash, error in store.database.all(
            "SELECT f.path, f.member, f.content, c.hash, COALESCE(f.error, c.error) "
            "FROM files f LEFT JOIN contents c ON c.id = f.content"
        ):
            known, rows = store.active.vectors([number]) if number is not None else ([], np.zeros((0, 1)))
            row = rows[0].astype(np.float16).tobytes() if known else None
            held[bytes(path), member] = (picture_hash and bytes(picture_hash), row, error)
        return held
    finally:
        store.close()


def set_time(path: Path, seconds: int) -> None:
    """Set the modification time of a file."""
    os.utime(path, (seconds, seconds))
