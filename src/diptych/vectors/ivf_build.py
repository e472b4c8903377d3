"""Build an index: train the lists on a sample of the rows, add all rows, tune it with text queries, save it.

Image and text embeddings lie in different regions of the space, so an index with a high recall for pictures
can still have a low one for texts (clip-retrieval issue 76). Therefore the parameters are tuned with text
queries against an exact search: the fewest lists and candidates with a recall of 0.99. The clustering uses
the rows alone; weighting directions by the variance of texts was tried and needed more lists, not fewer.

A build is a deterministic function of rows, queries and seed on an equal number of threads. A build that is
killed leaves the old index intact; the files it has written are removed by a later build.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import CatalogError, InputError
from diptych.files.disk import write_atomically, write_bytes
from diptych.progress import Stage, silent
from diptych.vectors.exact import check_queries, nearest_exact, rerank
from diptych.vectors.ivf import HEAD, IvfHeader, IvfIndex, IvfSetting, checksum, collection_hash, load_faiss

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers, Segments

TARGET = 0.99  # recall aimed for
FLOOR = 0.98  # parameters with a lower recall are not used
TUNED_K = (10, 200, 2000)  # neighbours of a page, of the relevance cut-off, and of sorting by date
LEAST_ROWS, LEAST_QUERIES = 256, 16
_MOST_QUERIES = 1000
_PER_LIST = 40  # sampled rows per list; faiss warns under 39
_ITERATIONS = 10  # of k-means; 20 give the same recall
_CODE_SAMPLE = 16_384  # rows that train the quantiser of the codes; faiss uses 4,096 of them
_STATISTICS_ROWS = 4096  # rows compared with the centre of their list
_CHUNK = 16_384  # rows added at once: 32 MiB in float32 at dim 512
_MOST_CANDIDATES = 16_384  # ranking so many takes about as long as probing the lists
_ABANDONED = 24 * 3600  # seconds after which files of another build count as left behind


@dataclass(frozen=True)
class IvfReport:
    """The result of a build."""

    head: IvfHeader  # its settings hold the measured recalls
    seconds: float  # duration of the build

    def summary(self) -> str:
        """Describe the index in one line."""
        head = self.head
        recalls = ", ".join(f"{setting.recall:.3f} at {setting.k:,}" for setting in head.settings)
        return (
            f"{head.rows:,} rows in {head.lists:,} lists, {head.size / 2**20:,.0f} MiB, built in "
            f"{self.seconds:,.0f} s; recall over {head.queries:,} text queries: {recalls}"
        )


def build_ivf(
    segments: Segments,
    folder: Path,
    queries: FloatArray,
    *,
    seed: int = 0,
    lists: int | None = None,
    stage: Stage = silent,
) -> IvfReport:
    """Build an index over all rows, tune it, and replace the previous one.

    Parameters
    ----------
    folder : path
        Holds nothing but the index.
    queries : (T, dim) float32
        Embeddings of realistic text queries, at least 16; a few hundred make the tuning reliable.
    lists : int, optional
        By default four times the square root of the number of rows.

    Raises
    ------
    InputError
        Too few rows or queries.
    CatalogError
        No parameters reach the least recall; the previous index stays.
    MissingExtraError
        faiss is not installed.
    SaveError
        The device is full, or the folder may not be written to.
    """
    start, faiss = time.monotonic(), load_faiss()
    rows = segments.rows
    checked = check_queries(segments, queries, 1)[:_MOST_QUERIES]
    if rows < LEAST_ROWS or len(checked) < LEAST_QUERIES:
        raise InputError(
            f"an index needs at least {LEAST_ROWS} rows and {LEAST_QUERIES} text queries: got {rows} rows "
            f"and {len(checked)} queries"
        )
    count = min(lists or max(1, round(4 * rows**0.5)), rows)
    index = _train(faiss, segments, count, seed, stage)
    list_of = _fill(faiss, segments, index, stage)
    reach, spread = _fit_cosine_model(segments, index, checked, seed)
    head = IvfHeader(
        rows=rows, dim=segments.dim, lists=count, settings=(), queries=len(checked), seed=seed, reach=reach,
        spread=spread, file="", size=0, checksum=0, collection=collection_hash(segments, rows),
        faiss=faiss.__version__,
    )  # fmt: skip
    settings = _tune(segments, IvfIndex(head, index, list_of), checked, stage)
    head = _write(faiss, folder, index, list_of, replace(head, settings=settings))
    return IvfReport(head, time.monotonic() - start)


def _train(faiss: ModuleType, segments: Segments, count: int, seed: int, stage: Stage) -> Any:
    """Train the centres and the code quantiser on a sample of the rows; the index is still empty."""
    rng = np.random.default_rng(seed)
    size = min(segments.rows, count * _PER_LIST)
    sample = _float32(segments.gather(np.sort(rng.choice(segments.rows, size, replace=False))))
    # Spherical k-means: rows join the centre with the largest inner product, the measure that later ranks
    # lists for a query. Centres have length one, so that no list is favoured.
    means = faiss.Kmeans(
        segments.dim, count, niter=1, spherical=True, seed=seed + 1, min_points_per_centroid=1,
        max_points_per_centroid=2 * _PER_LIST,
    )  # fmt: skip
    # One iteration per call, each starting from the centres before, so that progress can be reported.
    with stage("clustering vectors", _ITERATIONS) as advance:
        for _ in range(_ITERATIONS):
            means.train(sample, init_centroids=means.centroids)
            advance(1)
    quantizer = faiss.IndexFlatIP(segments.dim)
    quantizer.add(means.centroids)
    # 4 bits (16 values) per pair of numbers of the residual. At 1,000,000 x 512 the nearest 200 then need
    # 1,362 of 4,000 lists; with codes of the rows instead of their residuals they need all of them
    # (benchmarks/search.py).
    pairs = segments.dim // 2 if segments.dim % 2 == 0 else segments.dim
    index = faiss.IndexIVFPQFastScan(quantizer, segments.dim, count, pairs, 4, faiss.METRIC_INNER_PRODUCT)
    index.referenced_objects = [quantizer]  # faiss keeps no reference; without this one Python would free it
    index.by_residual = True
    index.pq.cp.min_points_per_centroid = 1
    index.train(sample[:: max(1, len(sample) // _CODE_SAMPLE)])
    return index


def _fill(faiss: ModuleType, segments: Segments, index: Any, stage: Stage) -> Any:
    """Add all rows to the index; returns the list of each row, (rows,) uint32."""
    segments.advise(scan=True)
    with stage("assigning vectors to clusters", segments.rows) as advance:
        for _, part in segments.parts():
            for start in range(0, len(part), _CHUNK):
                rows = _float32(part[start : start + _CHUNK])
                index.add(rows)
                advance(len(rows))
    list_of = np.empty(segments.rows, dtype="<u4")
    # faiss numbers rows in the order in which they were added, which is the row number. E.g. list 7 holds ids
    # [2, 5]: list_of[[2, 5]] = 7.
    inverted = index.invlists
    for number in range(index.nlist):
        size = inverted.list_size(number)
        if size:
            list_of[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
    return list_of


def _fit_cosine_model(segments: Segments, index: Any, texts: FloatArray, seed: int) -> tuple[float, float]:
    """Estimate `reach` and `spread` of `IvfHeader` from a sample of the rows.

    A row x in a list with centre c is modelled as x = reach * c + noise, with `reach` the mean of x.c. So the
    cosine of a text t is t.x = reach * t.c + t.noise, and `spread` is the standard deviation of t.noise.
    """
    rng = np.random.default_rng(seed + 2)
    picked = np.sort(rng.choice(segments.rows, min(segments.rows, _STATISTICS_ROWS), replace=False))
    rows = _float32(segments.gather(picked))
    nearest, lists = index.quantizer.search(rows, 1)
    centres = index.quantizer.reconstruct_n(0, index.nlist)[lists[:, 0]]  # (n, dim)
    reach = float(nearest.mean())
    return reach, max(float((texts @ (rows - reach * centres).T).std()), 1e-3)


def _float32(rows: Any) -> FloatArray:
    """Convert rows to float32, (n, dim); damaged rows become zeros, whose cosine to everything is 0."""
    whole = rows.astype(np.float32)
    whole[~np.isfinite(whole).all(axis=1)] = 0
    return np.ascontiguousarray(whole)


# ------------------------------------------------------------------------------------------------- tuning


def _tune(segments: Segments, ivf: IvfIndex, queries: FloatArray, stage: Stage) -> tuple[IvfSetting, ...]:
    """Choose the search parameters for every k of `TUNED_K`."""
    rows = ivf.head.rows
    # At most a twentieth of the rows: with more neighbours, nearly every list holds one, and a scan is
    # faster. E.g. 30,000 rows: k = 10 and 200 are tuned, 2,000 is not.
    tuned = [k for k in TUNED_K if 20 * k <= rows] or [min(TUNED_K[0], rows)]
    with stage("tuning with text queries", len(tuned)) as advance:
        true, _ = nearest_exact(segments, queries, max(tuned), allowed=np.arange(rows))
        settings = []
        for k in tuned:
            setting = _choose(ivf, queries, true[:, :k])
            if setting is not None:
                settings.append(_with_bounds(segments, ivf, queries, setting))
            advance(1)
    if not settings:
        raise CatalogError(
            f"an index of {rows:,} rows in {ivf.head.lists:,} lists finds less than {FLOOR:.0%} of the "
            "nearest even when every list is probed: it is not used, and every row is scanned instead"
        )
    return tuple(settings)


def _choose(ivf: IvfIndex, queries: FloatArray, true: RowNumbers) -> IvfSetting | None:
    """The fewest lists, then the fewest candidates, that reach the target recall of the neighbours (Q, k).

    Bisection over numbers of lists in steps of 8 %: recall grows with the number of probes.
    """
    k, lists = true.shape[1], ivf.head.lists
    most = min(1000 + 20 * k, _MOST_CANDIDATES, ivf.head.rows)

    def recalls(probes: int) -> FloatArray:
        """Recall by number of candidates, (most,); the lower of two halves of the queries, to be robust.

        E.g. ranks [0, 1, 4] of a query's three neighbours among 4 candidates (4: absent) give recalls 1/3,
        2/3, 2/3, 2/3 with 1 to 4 candidates.
        """
        ranks = _ranks(ivf.search_lists(queries, probes, most)[0], true)  # (Q, k)
        found_at_rank = [
            np.bincount(half.ravel(), minlength=most + 1)[:most] / half.size
            for half in (ranks[::2], ranks[1::2])
        ]
        lower: FloatArray = np.cumsum(found_at_rank, axis=1).min(axis=0).astype(np.float32)
        return lower

    ladder = sorted({min(lists, int(np.ceil(lists * 1.08**-step))) for step in range(100)})
    low, high = 0, len(ladder) - 1
    enough = TARGET + (1 - TARGET) / 10  # reserve for what fewer candidates lose again
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if recalls(ladder[middle])[-1] >= enough else (middle + 1, high)
    curve = recalls(ladder[low])
    target = TARGET if curve[-1] >= TARGET else FLOOR
    if curve[-1] < target:
        return None
    candidates = max(int(np.argmax(curve >= target)) + 1, min(2 * k, most))
    return IvfSetting(k, ladder[low], candidates, round(float(curve[candidates - 1]), 4))


def _with_bounds(segments: Segments, ivf: IvfIndex, queries: FloatArray, setting: IvfSetting) -> IvfSetting:
    """Add the worst margin and the worst bound on missed neighbours over the tuning queries."""
    margins, missed = [], []
    for query in queries:
        probed = ivf.probe(query, setting)
        cosine = float(rerank(segments, query, probed.candidates, setting.k)[1][-1])
        margins.append(cosine - probed.last_estimate)
        missed.append(ivf.expected_missed(probed, cosine))
    margin = min(margins)
    return replace(setting, margin=margin if np.isfinite(margin) else 0.0, missed=max(missed))


def _ranks(rows: RowNumbers, true: RowNumbers) -> RowNumbers:
    """Ranks of the true neighbours (Q, k) among the returned rows (Q, C), counted from 0; C where absent.

    Examples
    --------
    >>> _ranks(np.array([[7, 3, 9, -1]]), np.array([[9, 8, 7]])).tolist()
    [[2, 4, 0]]
    """
    ranks = np.empty_like(true)
    for returned, neighbours, rank in zip(rows, true, ranks, strict=True):
        # Binary search in sorted order. E.g. returned [7, 3, 9, -1]: order = [3, 1, 0, 2]; 9 is at sorted
        # position 3, so its rank is order[3] = 2; 8 would be inserted at 3 too, but returned[2] = 9 differs:
        # absent, rank 4.
        order = np.argsort(returned)
        sorted_positions = np.minimum(np.searchsorted(returned, neighbours, sorter=order), len(returned) - 1)
        candidates = order[sorted_positions]
        rank[:] = np.where(returned[candidates] == neighbours, candidates, len(returned))
    return ranks


# ------------------------------------------------------------------------------------------------- saving


def _write(
    faiss: ModuleType, folder: Path, index: Any, list_of: NDArray[np.uint32], head: IvfHeader
) -> IvfHeader:
    """Write both files under a new name, then replace the header, then delete the files of the old index.

    A reader sees the old or the new header, and the files that it names exist in either case.
    """
    name = f"ivf-{secrets.token_hex(8)}"
    previous = _current_name(folder)
    codes, lists = folder / f"{name}.faiss", folder / f"{name}.lists"

    def write(temporary: Path) -> None:
        try:
            faiss.write_index(index, str(temporary))
        except RuntimeError as error:  # faiss reports a full device this way
            raise OSError(str(error).splitlines()[0]) from error

    try:
        write_atomically(lists, lambda temporary: temporary.write_bytes(list_of.tobytes()))
        write_atomically(codes, write)
        whole = replace(head, file=name, size=codes.stat().st_size, checksum=checksum(codes))
        write_bytes(folder / HEAD, whole.to_json())
    except BaseException:
        for path in (codes, lists):
            path.unlink(missing_ok=True)
        raise
    _delete_unused(folder, keep=name, previous=previous)
    return whole


def _current_name(folder: Path) -> str:
    """The file name in the header; "" if there is no valid header."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return IvfHeader.from_json((folder / HEAD).read_bytes()).file
    return ""


def _delete_unused(folder: Path, *, keep: str, previous: str) -> None:
    """Delete the previous index and files of killed builds, but not the files of a build in progress."""
    for path in folder.glob("*ivf-*"):
        # Deleted by another build, or open in a reader (Windows): left to the next build.
        with contextlib.suppress(OSError):
            abandoned = time.time() - path.stat().st_mtime > _ABANDONED
            if keep not in path.name and (abandoned or (previous and previous in path.name)):
                path.unlink()
