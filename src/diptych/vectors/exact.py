"""Exact nearest-neighbour search over memory-mapped half-precision rows.

Two passes. A native kernel computes the cosines of all rows with the query rounded to half precision. Rows
that this pass cannot separate from the k best are computed again with the original query in double precision,
and rounded to float32. So the result is that of a float32 search, does not depend on how a row was reached
(scan, filter or index), and costs one pass over 2 bytes per number. The kernel is numkong's (extra `search`);
without it NumPy does the same about forty times slower. `nearest` decides between a scan and an index.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.inputs import processors

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import HalfArray, RowNumbers, Segments

    BoolArray: TypeAlias = NDArray[np.bool_]
    Scores: TypeAlias = NDArray[np.float32] | NDArray[np.float64]

LONGEST = 1.01  # upper bound of the norm of a stored row: 1 plus rounding to half precision and encoder error
_QUERY_BLOCK = 64  # queries at a time: 64 x 16,384 float32 scores are 4 MiB per thread
_SCAN_BLOCK = 16_384  # rows of one block that is read in place
_GATHER_BLOCK = 4_096  # rows of one block that is copied together first
_GATHER_COST = 4  # copying one row takes about as long as scanning four


def nearest_exact(
    segments: Segments,
    queries: FloatArray,
    k: int,
    *,
    allowed: RowNumbers | None = None,
    dead: BoolArray | None = None,
) -> tuple[RowNumbers, FloatArray]:
    """Find the k rows of largest cosine to each query by scanning all rows that are allowed.

    Parameters
    ----------
    segments : Segments
        Rows of length one.
    queries : (Q, dim) float32
        Rows of length one.
    k : int
        Number of neighbours.
    allowed : (A,) int64, optional
        Rows to search, in any order; all by default. The time is proportional to their number.
    dead : (rows,) bool, optional
        Rows that are deleted and never returned.

    Returns
    -------
    rows : (Q, k) int64
        Row numbers, nearest first, equal cosines in order of the row number; padded with -1. Rows with NaN or
        infinite values are never returned.
    cosines : (Q, k) float32
        Of these rows; padded with -inf.

    Raises
    ------
    InputError
        Queries of another dimension or with NaN or infinite values, k below 1, row numbers out of range.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.vectors.segments import Segments
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     segments = Segments(Path(folder), dim=2, rows=0)
    ...     _ = segments.append(np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32))
    ...     rows, cosines = nearest_exact(segments, np.array([[0, 1]], dtype=np.float32), k=2)
    >>> rows.tolist(), cosines.round(2).tolist()
    ([[1, 2]], [[1.0, 0.800000011920929]])
    """
    checked = check_queries(segments, queries, k)
    blocks = list(_row_blocks(segments, check_rows(segments, allowed, dead), dead))
    segments.advise(scan=any(block.rows is not None for block in blocks))
    return _search_blocks(segments, checked, k, blocks)


def rerank(
    segments: Segments, query: FloatArray, candidates: RowNumbers, k: int
) -> tuple[RowNumbers, FloatArray]:
    """The k nearest of candidate rows, in increasing order, to a query (dim,); cosines as `nearest_exact`."""
    segments.advise(scan=False)
    rows, cosines = _search_blocks(segments, query[None], k, list(_gathered_blocks(candidates)))
    return rows[0], cosines[0]


def check_queries(segments: Segments, queries: FloatArray, k: int) -> FloatArray:
    """Return the queries as a contiguous float32 array; InputError if they do not fit."""
    checked = np.ascontiguousarray(queries, dtype=np.float32)
    if checked.ndim != 2 or checked.shape[1] != segments.dim:
        raise InputError(f"queries have shape {checked.shape}: expected (any number, {segments.dim})")
    if k < 1:
        raise InputError(f"k is {k}: expected at least 1")
    if len(checked) and not np.abs(checked).max() < np.finfo(np.float16).max:  # also False for NaN
        raise InputError("a query holds NaN, infinite or huge values: expected rows of length one")
    return checked


def check_rows(segments: Segments, allowed: RowNumbers | None, dead: BoolArray | None) -> RowNumbers | None:
    """Return the allowed rows that are not dead, in increasing order; InputError if they do not fit."""
    if dead is not None and dead.shape != (segments.rows,):
        raise InputError(f"dead has shape {dead.shape}: expected ({segments.rows},), one flag for every row")
    if allowed is None:
        return None
    numbers = np.asarray(allowed, dtype=np.int64)
    if len(numbers) > 1 and not (numbers[1:] > numbers[:-1]).all():
        numbers = np.unique(numbers)
    if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < segments.rows:
        raise InputError(
            f"allowed holds rows {numbers[0]} to {numbers[-1]}: expected 0 to {segments.rows - 1}"
        )
    return numbers if dead is None else numbers[~dead[numbers]]


# ------------------------------------------------------------------------------------------ blocks of rows


@dataclass(frozen=True, eq=False)
class _RowBlock:
    """Rows that are scored together: consecutive ones read in place, or scattered ones copied first.

    Attributes
    ----------
    first : int
        Number of the first row of `rows`.
    rows : (n, dim) float16, or None
        Consecutive rows, a view of the map; None if `numbers` is set.
    excluded : (n,) bool, or None
        Rows of this block that must not be returned.
    numbers : (n,) int64, or None
        Numbers of scattered rows, to be gathered.
    """

    first: int = 0
    rows: HalfArray | None = None
    excluded: BoolArray | None = None
    numbers: RowNumbers | None = None

    def candidates(
        self, segments: Segments, queries: HalfArray, k: int, margins: FloatArray
    ) -> list[_Candidates]:
        """For each query the rows that may be among its k nearest, with their approximate cosines."""
        rows = segments.gather(self.numbers) if self.numbers is not None else self.rows
        assert rows is not None
        scores = _products()(queries, rows)  # (Q, n)
        scores = np.where(np.isfinite(scores), scores, -np.inf)
        if self.excluded is not None:
            scores[:, self.excluded] = -np.inf
        candidates = []
        for query_scores, margin in zip(scores, margins, strict=True):
            near = _near_top_k(query_scores, k, margin)
            numbers = near + self.first if self.numbers is None else self.numbers[near]
            candidates.append((numbers, query_scores[near]))
        return candidates


_Candidates: TypeAlias = "tuple[RowNumbers, Scores]"  # row numbers (n,), approximate cosines (n,)


def _row_blocks(
    segments: Segments, allowed: RowNumbers | None, dead: BoolArray | None
) -> Iterator[_RowBlock]:
    """Split the rows to search into blocks.

    With a filter, each file is either scanned from its first to its last allowed row, the others excluded, or
    its allowed rows are gathered, whichever is cheaper. E.g. allowed rows 10, 12 and 15 span 6 rows, less
    than 4 x 3: scan rows 10..15 and exclude 11, 13, 14. Allowed rows 10 and 500 span 491 > 4 x 2: gather
    both.
    """
    scattered: list[RowNumbers] = []
    for first, rows in segments.parts():
        start, stop = first, first + len(rows)
        excluded = None if dead is None else dead[start:stop]
        if allowed is not None:
            here = allowed[slice(*np.searchsorted(allowed, (start, stop)))]
            if not len(here):
                continue
            start, stop = int(here[0]), int(here[-1]) + 1
            if stop - start > _GATHER_COST * len(here):
                scattered.append(here)
                continue
            excluded = None  # `check_rows` has removed the dead rows from `allowed`
            if stop - start > len(here):
                excluded = np.ones(stop - start, dtype=bool)
                excluded[here - start] = False
        for number in range(start, stop, _SCAN_BLOCK):
            # `rows` counts from the beginning of the file, `excluded` from `start`.
            block = rows[number - first : min(number + _SCAN_BLOCK, stop) - first]
            offset = number - start
            yield _RowBlock(
                number, block, None if excluded is None else excluded[offset : offset + len(block)]
            )
    if scattered:
        yield from _gathered_blocks(np.concatenate(scattered))


def _gathered_blocks(numbers: RowNumbers) -> Iterator[_RowBlock]:
    for start in range(0, len(numbers), _GATHER_BLOCK):
        yield _RowBlock(numbers=numbers[start : start + _GATHER_BLOCK])


# ------------------------------------------------------------------------------------------ both passes


def _search_blocks(
    segments: Segments, queries: FloatArray, k: int, row_blocks: Sequence[_RowBlock]
) -> tuple[RowNumbers, FloatArray]:
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    cosines = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(queries), _QUERY_BLOCK):
        block = queries[start : start + _QUERY_BLOCK]  # (Q, dim)
        half = block.astype(np.float16)
        # Error bound of a score of the kernel: the rounding error of the query times the norm of the row
        # (Cauchy and Schwarz), plus the error of a sum of `dim` terms in float32. A row of the true top k may
        # be too low by this bound and the row it competes with too high by the same, hence the factor 2. E.g.
        # dim 512 and a query of norm 1: rounding to half precision (relative error at most 2**-11) moves the
        # query by less than 4.9e-4, the sum adds 512 * 2**-24 = 3.1e-5, so the margin is at most 1.1e-3.
        error = np.linalg.norm(block - half.astype(np.float32), axis=1)
        error += segments.dim * 2.0**-24 * np.linalg.norm(block, axis=1)
        margins = (2 * LONGEST * error).astype(np.float32)  # (Q,)

        def first_pass(
            row_block: _RowBlock, half: HalfArray = half, margins: FloatArray = margins
        ) -> list[_Candidates]:
            return row_block.candidates(segments, half, k, margins)

        for n, per_block in enumerate(zip(*_map_threads(first_pass, row_blocks), strict=True)):
            numbers, scores = (np.concatenate(arrays) for arrays in zip(*per_block, strict=True))
            near = numbers[_near_top_k(scores, k, margins[n])]
            nearest, nearest_cosines = _rank_exactly(segments, block[n], np.sort(near), k)
            rows[start + n, : len(nearest)] = nearest
            cosines[start + n, : len(nearest)] = nearest_cosines
    return rows, cosines


def _map_threads(
    first_pass: Callable[[_RowBlock], list[_Candidates]], row_blocks: Sequence[_RowBlock]
) -> list[list[_Candidates]]:
    threads = min(processors(), len(row_blocks))
    if threads < 2:
        return [first_pass(row_block) for row_block in row_blocks]
    with ThreadPoolExecutor(threads) as pool:  # the kernel and NumPy's copying release the GIL
        return list(pool.map(first_pass, row_blocks))


def _near_top_k(scores: Scores, k: int, margin: float) -> RowNumbers:
    """Positions of the k largest scores and of all that lie at most `margin` below the k-th.

    Examples
    --------
    >>> _near_top_k(np.array([0.9, 0.1, 0.5, 0.49, -np.inf], np.float32), 2, 0.02).tolist()
    [0, 2, 3]
    """
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k] - margin
        return np.flatnonzero((scores >= least) & (scores > -np.inf))
    return np.flatnonzero(scores > -np.inf)


def _rank_exactly(
    segments: Segments, query: FloatArray, numbers: RowNumbers, k: int
) -> tuple[RowNumbers, FloatArray]:
    """The k nearest of rows in increasing order; the cosines depend on the query and the row alone."""
    exact = query.astype(np.float64)
    cosines = np.empty(len(numbers), dtype=np.float32)
    for start in range(0, len(numbers), _GATHER_BLOCK):
        part = slice(start, start + _GATHER_BLOCK)
        # The order of summation may differ between calls. In double precision that error (about 1e-16)
        # disappears when the result is rounded to float32. `einsum` instead of `@`: BLAS threads that wait
        # for each other cost more than they save on a busy machine.
        cosines[part] = np.einsum("nd,d->n", segments.gather(numbers[part]).astype(np.float64), exact)
    # A stable sort of increasing row numbers puts equal cosines in order of the row number.
    order = np.argsort(-cosines, kind="stable")[:k]
    return numbers[order], cosines[order]


# -------------------------------------------------------------------------------------------- the kernel


@cache
def _products() -> Callable[[HalfArray, HalfArray], Scores]:
    """The function that multiplies queries (Q, dim) with rows (n, dim), both float16, into float32 (Q, n)."""
    try:
        kernel = importlib.import_module("numkong")
    except ImportError:
        return _numpy_products
    return lambda queries, rows: _native_products(kernel, queries, rows)


def _native_products(kernel: ModuleType, queries: HalfArray, rows: HalfArray) -> Scores:
    if len(queries) == 1:
        return np.asarray(kernel.cdist(queries, rows, "dot"))
    packed = kernel.dots_pack(queries, "float16")  # packed once, eight queries take the time of two
    return np.asarray(kernel.dots_packed(rows, packed)).T


def _numpy_products(queries: HalfArray, rows: HalfArray) -> Scores:
    with np.errstate(invalid="ignore", over="ignore"):  # NaN of a damaged row becomes -inf afterwards
        return queries.astype(np.float32) @ rows.astype(np.float32).T
