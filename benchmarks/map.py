"""Map layout beside scikit-learn's t-SNE: time, and the share of nearest neighbours that is preserved.

    python benchmarks/map.py --catalog DIR [--pictures 6000] [--seed 0]

Both lay out the same embeddings of a catalogue, projected to the 50 directions of largest variance. The
column "kept" is the share of the 15 nearest neighbours of an embedding that are among its 15 nearest on the
map.
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
SAMPLED = 1000  # embeddings that are compared


def neighbours_kept(embeddings: Floats, positions: Floats) -> float:
    """Share of the nearest neighbours that are nearest neighbours on the map, too."""
    sample = np.random.default_rng(0).permutation(len(embeddings))[:SAMPLED]
    cosines = embeddings[sample] @ embeddings.T
    squared_distances = ((positions[sample, None] - positions[None]) ** 2).sum(-1)
    cosines[np.arange(len(sample)), sample], squared_distances[np.arange(len(sample)), sample] = (
        -np.inf,
        np.inf,
    )
    true = np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]
    near = np.argsort(squared_distances, axis=1)[:, :NEIGHBOURS]
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
    embeddings = Projection.of(vectors).short(vectors)
    methods: dict[str, Callable[[], Floats]] = {"ours": lambda: lay_out(embeddings, seed=options.seed)[0]}
    try:
        from sklearn.manifold import TSNE

        methods["scikit-learn"] = lambda: TSNE(init="pca", random_state=options.seed).fit_transform(
            embeddings
        )
    except ImportError:
        print("scikit-learn is not installed: ours alone")
    print(f"\n| {len(embeddings):,} pictures | seconds | neighbours kept |\n| --- | ---: | ---: |")
    for name, method in methods.items():
        start = time.perf_counter()
        positions = method()
        print(
            f"| {name} | {time.perf_counter() - start:.1f} | {neighbours_kept(embeddings, positions):.3f} |"
        )
    store.close()


if __name__ == "__main__":
    main()
