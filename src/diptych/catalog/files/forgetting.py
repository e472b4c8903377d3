"""Files and folders taken out of the catalogue by name: they stay out until they are named again."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from diptych.catalog.annotations.annotations import Fate
from diptych.catalog.files.roots import remember
from diptych.catalog.store.paths import Spelling, below, rules_of, stored_rules
from diptych.catalog.store.store import Store
from diptych.errors import InputError
from diptych.files.unicode_text import existing_path
from diptych.media.sources import name_of

_CHUNK = 500  # files taken out in one transaction
_PLACES = "(path = ? OR (path >= ? AND path < ?))"


def forget_paths(
    store: Store,
    paths: Sequence[str | Path],
    *,
    keep: Collection[str | Path] = (),
    fate: Fate | None = None,
) -> int:
    """Take files and folders out of the catalogue, whether they are there or not.

    Indexing a folder above leaves them out from now on, until they are named themselves.

    Parameters
    ----------
    store : Store
    paths : sequence of path
    keep : collection of path
        Below those, what stays: paths that the same command indexes.
    fate : Fate, optional
        Learns what became of tags and ratings.

    Returns
    -------
    int
        How many files that was.

    Raises
    ------
    InputError
        Nothing is known of a path, or it is one of `keep`. No other path was taken out then.
    """
    spelling = Spelling(stored_rules(store.database))
    places = [_spelt(path, spelling) for path in paths]
    stays = [_spelt(path, spelling) for path in keep]
    check_forgettable(store, paths, keep)
    count = 0
    for place in places:
        name, inside = os.fsencode(place), [one for one in stays if one.is_relative_to(place)]
        rows = store.database.all(f"SELECT path, member FROM files WHERE {_PLACES}", (name, *below(name)))
        known = [(bytes(path), member) for path, member in rows if not _is_below(bytes(path), inside)]
        for start in range(0, len(known), _CHUNK):
            gone = store.forget(known[start : start + _CHUNK])
            if fate is not None:
                fate.add(gone)
        rules = stored_rules(store.database)
        # What stays is indexed by itself from now on, where the path that was taken out brought it.
        remember(store, {one: replace(rules_of(one, rules), base=one) for one in inside if one not in rules})
        _forget_roots(store, name, inside)
        count += len(known)
    return count


def check_forgettable(store: Store, paths: Sequence[str | Path], keep: Collection[str | Path] = ()) -> None:
    """InputError for a path of which nothing is known, or that is to be indexed by the same command."""
    roots = stored_rules(store.database)
    spelling = Spelling(roots)
    kept = {_spelt(path, spelling) for path in keep}
    for path in paths:
        place = _spelt(path, spelling)
        if place in kept:
            raise InputError(
                f"{name_of(path)} is to be indexed and to be taken out: leave one of the two away"
            )
        name = os.fsencode(place)
        known = any(
            store.database.all(f"SELECT 1 FROM {table} WHERE {_PLACES} LIMIT 1", (name, *below(name)))
            for table in ("files", "roots", "forgotten")
        )
        # What is there and would be indexed may be left out before it ever was.
        if known or (os.path.lexists(place) and not roots.keys().isdisjoint(place.parents)):
            continue
        near = _near(store, place)
        meant = f"; did you mean {' or '.join(map(str, near))}?" if near else ""
        raise InputError(f"{name_of(path)}: the catalogue knows of nothing there{meant}")


def _spelt(path: str | Path, spelling: Spelling) -> Path:
    place = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links stay
    return spelling.of(existing_path(place))


def _is_below(path: bytes, places: Iterable[Path]) -> bool:
    return any(path == os.fsencode(one) or path.startswith(below(os.fsencode(one))[0]) for one in places)


def _forget_roots(store: Store, name: bytes, keep: Sequence[Path]) -> None:
    database = store.database
    with database.writing():
        for (path,) in database.all(f"SELECT path FROM roots WHERE {_PLACES}", (name, *below(name))):
            if not _is_below(bytes(path), keep):
                database.run("DELETE FROM roots WHERE path = ?", (path,))
        # One entry says it of all that is below.
        for (path,) in database.all("SELECT path FROM forgotten WHERE path >= ? AND path < ?", below(name)):
            database.run("DELETE FROM forgotten WHERE path = ?", (path,))
        database.run("INSERT INTO forgotten (path) VALUES (?) ON CONFLICT (path) DO NOTHING", (name,))


def _near(store: Store, place: Path) -> list[Path]:
    """Names like this one: indexed paths, and what the catalogue knows beside it."""
    low, high = below(os.fsencode(place.parent))
    depth = len(place.parts)
    beside = {
        Path(*Path(os.fsdecode(bytes(row[0]))).parts[:depth])
        for row in store.database.all("SELECT path FROM files WHERE path >= ? AND path < ?", (low, high))
    }
    if near := get_close_matches(place.name, {path.name for path in beside}, n=3):
        return [place.with_name(name) for name in near]
    roots = {str(path): path for path in stored_rules(store.database)}
    return [roots[name] for name in get_close_matches(str(place), roots, n=3, cutoff=0.8)]
