"""The layout of a map beside scikit-learn's t-SNE: time, and how many near neighbours stay near.

    python benchmarks/map.py --catalog DIR [--pictures 6000] [--seed 0]

Both lay out the same rows, the 50 widest directions of a catalogue's vectors. Kept: the share of a row's 15
nearest rows that are among its 15 nearest on the map.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import arguments, machine
from numpy.typing import NDArray

from diptych.catalog import Store
from diptych.catalog.map.clusters import Projection
from diptych.catalog.map.layout import NEIGHBOURS, lay_out

Floats = NDArray[np.float32]
JUDGED = 1000  # rows


def kept(rows: Floats, places: Floats) -> float:
    """How many of each row's nearest rows are near it on the map."""
    some = np.random.default_rng(0).permutation(len(rows))[:JUDGED]
    cosines = rows[some] @ rows.T
    away = ((places[some, None] - places[None]) ** 2).sum(-1)
    cosines[np.arange(len(some)), some], away[np.arange(len(some)), some] = -np.inf, np.inf
    true = np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]
    near = np.argsort(away, axis=1)[:, :NEIGHBOURS]
    same = [len(set(a) & set(b)) for a, b in zip(true.tolist(), near.tolist(), strict=True)]
    return float(np.mean(same)) / NEIGHBOURS


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=6000, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(machine())
    store = Store.open(options.catalog)
    assert store.active is not None, "an empty catalogue"
    _, vectors = store.active.sample(options.pictures, seed=options.seed)
    rows = Projection.of(vectors).short(vectors)
    ways: dict[str, Callable[[], Floats]] = {"ours": lambda: lay_out(rows, seed=options.seed)[0]}
    try:
        from sklearn.manifold import TSNE

        ways["scikit-learn"] = lambda: TSNE(init="pca", random_state=options.seed).fit_transform(rows)
    except ImportError:
        print("scikit-learn is not installed: ours alone")
    print(f"\n| {len(rows):,} pictures | seconds | neighbours kept |\n| --- | ---: | ---: |")
    for name, way in ways.items():
        start = time.perf_counter()
        places = way()
        print(f"| {name} | {time.perf_counter() - start:.1f} | {kept(rows, places):.3f} |")
    store.close()


if __name__ == "__main__":
    main()
