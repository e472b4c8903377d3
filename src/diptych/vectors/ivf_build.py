"""Building an index: lists trained on a sample of the rows, filled, judged with text queries, put in place.

Pictures and texts lie apart in the space, so an index that finds pictures for pictures can still lose those
for texts (clip-retrieval issue 76). Therefore the settings are chosen with the queries handed in, against an
exact search: the fewest lists and candidates that find 99 of a hundred true neighbours. Clustering itself
knows the rows alone: weighing directions by how texts vary was tried and took more lists, not fewer.

A build is a function of rows, queries and seed, on an equal number of threads. Killed at any instant it
leaves the old index as it was; what it had written meanwhile is removed by a later build.
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
FLOOR = 0.98  # under which a setting is not used
JUDGED = (10, 200, 2000)  # neighbours asked for: a page, what a cut-off judges, what is sorted by date
LEAST_ROWS, LEAST_QUERIES = 256, 16
_MOST_QUERIES = 1000
_PER_LIST = 40  # rows of the sample; faiss warns under 39
_ROUNDS = 10  # of k-means; the recall is the same after 20
_CODED = 16_384  # rows that train the codes: faiss looks at 4,096 of them
_TOLD = 4096  # rows compared with their list's centre
_CHUNK = 16_384  # rows added at once: 32 MiB at 512 numbers
_MOST_CANDIDATES = 16_384  # ranking so many takes about as long as visiting the lists
_LEFT = 24 * 3600  # seconds after which another build's files count as left behind


@dataclass(frozen=True)
class IvfReport:
    """What was built.

    Attributes
    ----------
    head : IvfHeader
        Its settings have the recall of each, against an exact search.
    seconds : float
        The build took.
    """

    head: IvfHeader
    seconds: float

    def summary(self) -> str:
        """In one line."""
        head = self.head
        recalls = ", ".join(f"{one.recall:.3f} of the nearest {one.k:,}" for one in head.settings)
        return (
            f"{head.rows:,} rows in {head.lists:,} lists, {head.size / 2**20:,.0f} MiB, built in "
            f"{self.seconds:,.0f} s; {head.queries:,} text queries find {recalls}"
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
    """Build the index over the rows there are, judge it, and put it in the place of the one before.

    Parameters
    ----------
    segments : Segments
    folder : path
        Of the index alone.
    queries : (T, dim) float32
        Rows of texts as users write them, at least 16; a few hundred make the settings reliable.
    seed : int
    lists : int, optional
        By default four times the square root of the number of rows.
    stage : callable, optional
        Called as `stage(what, total)` when a part of the work begins; gives a context in which it is told how
        much of it is done.

    Raises
    ------
    InputError
        No rows, or too few queries.
    CatalogError
        The index loses neighbours whatever the settings: it was not put in place.
    MissingExtraError
        faiss is not installed.
    SaveError
        The device is full, or the folder may not be written to.
    """
    start, faiss = time.monotonic(), load_faiss()
    rows = segments.rows
    asked = check_queries(segments, queries, 1)[:_MOST_QUERIES]
    if rows < LEAST_ROWS or len(asked) < LEAST_QUERIES:
        raise InputError(
            f"an index of {rows} rows, judged with {len(asked)} queries: expected at least {LEAST_ROWS} rows "
            f"and {LEAST_QUERIES} of texts"
        )
    count = min(lists or max(1, round(4 * rows**0.5)), rows)
    index = _train(faiss, segments, count, seed, stage)
    list_of = _fill(faiss, segments, index, stage)
    reach, spread = _texts_and_lists(segments, index, asked, seed)
    head = IvfHeader(
        rows=rows, dim=segments.dim, lists=count, settings=(), queries=len(asked), seed=seed, reach=reach,
        spread=spread, file="", size=0, checksum=0, collection=collection_hash(segments, rows),
        faiss=faiss.__version__,
    )  # fmt: skip
    settings = _judge(segments, IvfIndex(head, index, list_of), asked, stage)
    head = _write(faiss, folder, index, list_of, replace(head, settings=settings))
    return IvfReport(head, time.monotonic() - start)


def _train(faiss: ModuleType, segments: Segments, count: int, seed: int, stage: Stage) -> Any:
    """An empty index whose centres and codes fit a sample of the rows."""
    draw = np.random.default_rng(seed)
    size = min(segments.rows, count * _PER_LIST)
    sample = _float32(segments.gather(np.sort(draw.choice(segments.rows, size, replace=False))))
    # A row counts for the list whose centre has the largest product with it: the same measure that later
    # ranks lists for a query. Of length one, so that no list is favoured.
    means = faiss.Kmeans(
        segments.dim, count, niter=1, spherical=True, seed=seed + 1, min_points_per_centroid=1,
        max_points_per_centroid=2 * _PER_LIST,
    )  # fmt: skip
    with stage("finding groups of vectors", _ROUNDS) as done:
        for _ in range(_ROUNDS):
            means.train(sample, init_centroids=means.centroids)
            done(1)
    quantizer = faiss.IndexFlatIP(segments.dim)
    quantizer.add(means.centroids)
    # 16 values for two numbers of what differs from the centre: at 1,000,000 x 512 the nearest 200 then take
    # 1,362 of 4,000 lists; with codes of the rows themselves all of them (benchmarks/search.py).
    pairs = segments.dim // 2 if segments.dim % 2 == 0 else segments.dim
    index = faiss.IndexIVFPQFastScan(quantizer, segments.dim, count, pairs, 4, faiss.METRIC_INNER_PRODUCT)
    index.referenced_objects = [quantizer]  # faiss does not own it
    index.by_residual = True
    index.pq.cp.min_points_per_centroid = 1
    index.train(sample[:: max(1, len(sample) // _CODED)])
    return index


def _fill(faiss: ModuleType, segments: Segments, index: Any, stage: Stage) -> Any:
    """Add every row; the list each one lies in, (rows,) uint32."""
    segments.advise(scan=True)
    with stage("sorting vectors into groups", segments.rows) as done:
        for _, part in segments.parts():
            for start in range(0, len(part), _CHUNK):
                rows = _float32(part[start : start + _CHUNK])
                index.add(rows)
                done(len(rows))
    list_of = np.empty(segments.rows, dtype="<u4")
    inverted = index.invlists
    for number in range(index.nlist):
        size = inverted.list_size(number)
        if size:
            list_of[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
    return list_of


def _texts_and_lists(segments: Segments, index: Any, asked: FloatArray, seed: int) -> tuple[float, float]:
    """What the products of texts and list centres tell of the cosines of texts and rows: see `IvfHeader`."""
    draw = np.random.default_rng(seed + 2)
    picked = np.sort(draw.choice(segments.rows, min(segments.rows, _TOLD), replace=False))
    rows = _float32(segments.gather(picked))
    nearest, lists = index.quantizer.search(rows, 1)
    centres = index.quantizer.reconstruct_n(0, index.nlist)[lists[:, 0]]  # (n, dim)
    reach = float(nearest.mean())
    return reach, max(float((asked @ (rows - reach * centres).T).std()), 1e-3)


def _float32(rows: Any) -> FloatArray:
    """(n, dim) float32; a damaged row becomes zeros, which are near to nothing."""
    whole = rows.astype(np.float32)
    whole[~np.isfinite(whole).all(axis=1)] = 0
    return np.ascontiguousarray(whole)


# -------------------------------------------------------------------------------------------- how good it is


def _judge(segments: Segments, ivf: IvfIndex, asked: FloatArray, stage: Stage) -> tuple[IvfSetting, ...]:
    rows = ivf.head.rows
    # Of a collection twenty times as large at least: with fewer, most lists hold a neighbour anyway.
    judged = [k for k in JUDGED if 20 * k <= rows] or [min(JUDGED[0], rows)]
    with stage("judging with text queries", len(judged)) as done:
        true, _ = nearest_exact(segments, asked, max(judged), allowed=np.arange(rows))
        settings = []
        for k in judged:
            setting = _choose(ivf, asked, true[:, :k])
            if setting is not None:
                settings.append(_extremes(segments, ivf, asked, setting))
            done(1)
    if not settings:
        raise CatalogError(
            f"an index of {rows:,} rows in {ivf.head.lists:,} lists finds less than {FLOOR:.0%} of the "
            "nearest even when every list is visited: it was not put in place, and every row is looked at "
            "instead"
        )
    return tuple(settings)


def _choose(ivf: IvfIndex, asked: FloatArray, true: RowNumbers) -> IvfSetting | None:
    """The fewest lists, and then the fewest candidates, that find the neighbours (Q, k)."""
    k, lists = true.shape[1], ivf.head.lists
    most = min(1000 + 20 * k, _MOST_CANDIDATES, ivf.head.rows)

    def recalls(probes: int) -> FloatArray:
        """Recall by number of candidates, (most,): the lower one of two halves of the queries."""
        places = _places(ivf.search_lists(asked, probes, most)[0], true)  # (Q, k)
        found = [
            np.bincount(half.ravel(), minlength=most + 1)[:most] / half.size
            for half in (places[::2], places[1::2])
        ]
        lower: FloatArray = np.cumsum(found, axis=1).min(axis=0).astype(np.float32)
        return lower

    ladder = sorted({min(lists, int(np.ceil(lists * 1.08**-step))) for step in range(100)})
    low, high = 0, len(ladder) - 1
    enough = TARGET + (1 - TARGET) / 10  # so that the candidates may lose some again
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if recalls(ladder[middle])[-1] >= enough else (middle + 1, high)
    curve = recalls(ladder[low])
    target = TARGET if curve[-1] >= TARGET else FLOOR
    if curve[-1] < target:
        return None
    candidates = max(int(np.argmax(curve >= target)) + 1, min(2 * k, most))
    return IvfSetting(k, ladder[low], candidates, round(float(curve[candidates - 1]), 4))


def _extremes(segments: Segments, ivf: IvfIndex, asked: FloatArray, setting: IvfSetting) -> IvfSetting:
    """With what the queries it was chosen for looked like at worst."""
    margins, missed = [], []
    for query in asked:
        visit = ivf.probe(query, setting)
        cosine = float(rerank(segments, query, visit.candidates, setting.k)[1][-1])
        margins.append(cosine - visit.cut)
        missed.append(ivf.expected_missed(visit, cosine))
    margin = min(margins)
    return replace(setting, margin=margin if np.isfinite(margin) else 0.0, missed=max(missed))


def _places(found: RowNumbers, true: RowNumbers) -> RowNumbers:
    """Where the true rows (Q, k) stand among those found (Q, C), C where they do not.

    Examples
    --------
    >>> _places(np.array([[7, 3, 9, -1]]), np.array([[9, 8, 7]])).tolist()
    [[2, 4, 0]]
    """
    places = np.empty_like(true)
    for near, wanted, place in zip(found, true, places, strict=True):
        order = np.argsort(near)
        where = np.minimum(np.searchsorted(near, wanted, sorter=order), len(near) - 1)
        place[:] = np.where(near[order[where]] == wanted, order[where], len(near))
    return places


# ------------------------------------------------------------------------------------------------- on disk


def _write(
    faiss: ModuleType, folder: Path, index: Any, list_of: NDArray[np.uint32], head: IvfHeader
) -> IvfHeader:
    """Both parts under a name of their own, then the head that names them; what the old one named goes."""
    name = f"ivf-{secrets.token_hex(8)}"
    before = _named(folder)
    codes, lists = folder / f"{name}.faiss", folder / f"{name}.lists"

    def write(temporary: Path) -> None:
        try:
            faiss.write_index(index, str(temporary))
        except RuntimeError as error:  # how faiss tells of a full device
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
    _tidy(folder, keep=name, before=before)
    return whole


def _named(folder: Path) -> str:
    """The name in the head, if there is one that can be understood."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return IvfHeader.from_json((folder / HEAD).read_bytes()).file
    return ""


def _tidy(folder: Path, *, keep: str, before: str) -> None:
    """Remove the index before this one, and what killed builds left; not what another build is writing."""
    for path in folder.glob("*ivf-*"):
        with contextlib.suppress(OSError):  # gone already, or still open (Windows): the next build's turn
            old = time.time() - path.stat().st_mtime > _LEFT
            if keep not in path.name and (old or (before and before in path.name)):
                path.unlink()
