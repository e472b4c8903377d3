"""Map layout and clusters beside openTSNE, scikit-learn and faiss: seconds, and what is preserved.

    python benchmarks/map.py --catalog DIR [--pictures 6000] [--seed 0]

All get the same embeddings of a catalogue, projected to the 50 directions of largest variance. Layouts:
"kept" is the share of the 15 nearest neighbours of an embedding that are among its 15 nearest on the map.
Clusters: the mean cosine of an embedding with the centre of its cluster. Libraries that are not installed are
left out.

Why the catalogue has its own layout and k-means: photographs of Flickr8k, ImageNet, Caltech-101 and others in
the default model; openTSNE 1.0.4, scikit-learn 1.9.1, faiss 1.15.1; one thread of a busy machine with two
cores.

    pictures    ours           openTSNE        scikit-learn    clusters    ours            faiss
       1,000    0.3 s, 0.550    1.8 s, 0.529    2.8 s, 0.529         26    0.01 s, 0.731   0.003 s, 0.725
       6,000    1.3 s, 0.424   18.0 s, 0.422   31.1 s, 0.423         64    0.04 s, 0.777   0.02 s, 0.776
      20,000    3.4 s, 0.358   39.3 s, 0.377         not run        117    0.26 s, 0.804   0.08 s, 0.803
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import arguments, machine
from numpy.typing import NDArray

from diptych.catalog import Store
from diptych.catalog.map.clusters import Projection, k_means
from diptych.catalog.map.layout import NEIGHBOURS, lay_out
from diptych.catalog.map.mapping import how_many

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


def layouts(embeddings: Floats, seed: int) -> dict[str, Callable[[], Floats]]:
    """Name -> layout, of ours and of the libraries that are installed."""
    methods: dict[str, Callable[[], Floats]] = {"ours": lambda: lay_out(embeddings, seed=seed)[0]}
    with contextlib.suppress(ImportError):
        import openTSNE

        methods["openTSNE"] = lambda: np.asarray(
            openTSNE.TSNE(initialization="pca", n_jobs=1, random_state=seed).fit(embeddings), np.float32
        )
    with contextlib.suppress(ImportError):
        from sklearn.manifold import TSNE

        methods["scikit-learn"] = lambda: TSNE(init="pca", random_state=seed).fit_transform(embeddings)
    return methods


def clusterings(embeddings: Floats, seed: int) -> dict[str, Callable[[], Floats]]:
    """Name -> the centre of the cluster of each embedding, (N, short)."""

    def ours() -> Floats:
        members, centres = k_means(embeddings, clusters, seed=seed)
        return centres[members]

    clusters = how_many(len(embeddings))[0]
    methods: dict[str, Callable[[], Floats]] = {"ours": ours}
    with contextlib.suppress(ImportError):
        import faiss

        def of_faiss() -> Floats:
            means = faiss.Kmeans(
                embeddings.shape[1], clusters, niter=25, spherical=True, seed=seed,
                min_points_per_centroid=1, max_points_per_centroid=len(embeddings),
            )  # fmt: skip
            means.train(embeddings)
            centres: Floats = np.asarray(means.centroids)
            return centres[means.index.search(embeddings, 1)[1][:, 0]]

        methods["faiss"] = of_faiss
    return methods


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
    for title, methods, quality in (
        ("neighbours kept", layouts(embeddings, options.seed), neighbours_kept),
        ("mean cosine", clusterings(embeddings, options.seed), mean_cosine),
    ):
        print(f"\n| {len(embeddings):,} pictures | seconds | {title} |\n| --- | ---: | ---: |")
        for name, method in methods.items():
            start = time.perf_counter()
            result = method()
            seconds = time.perf_counter() - start
            print(f"| {name} | {seconds:.2f} | {quality(embeddings, result):.3f} |")
    store.close()


def mean_cosine(embeddings: Floats, centres: Floats) -> float:
    """Mean cosine of the embeddings and the centres of their clusters."""
    return float(np.einsum("nd,nd->n", embeddings, centres).mean())


if __name__ == "__main__":
    main()
