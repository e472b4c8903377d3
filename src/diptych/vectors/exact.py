"""The nearest rows, exactly, straight from the half-precision maps.

A native kernel multiplies the rows with the query in half precision; what it cannot tell apart from the best
is computed again with the query as it came, in double precision, and rounded to float32. So the answer is
that of a float32 search, the same whichever way a row was come by, and costs one pass over 2 bytes a number.
The kernel is numkong's (extra `search`); without it NumPy does the same some forty times slower. When a scan
is worth its time is `nearest`'s to decide.
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

LONGEST = 1.01  # a stored row: one, and what half precision and a careless encoder add
_QUERIES = 64  # at a time: their scores take 4 MiB a thread
_SCANNED = 16_384  # rows of one piece of work, where they lie
_PICKED = 4_096  # and where they are copied together first
_SPREAD = 4  # copying a row costs about as much as passing over four


def nearest_exact(
    segments: Segments,
    queries: FloatArray,
    k: int,
    *,
    allowed: RowNumbers | None = None,
    dead: BoolArray | None = None,
) -> tuple[RowNumbers, FloatArray]:
    """The k rows of largest cosine to each query, by looking at every row that may answer.

    Parameters
    ----------
    segments : Segments
        Rows of length one.
    queries : (Q, dim) float32
        Rows of length one.
    k : int
        How many.
    allowed : (A,) int64, optional
        The rows that may answer, in any order; all of them by default. The work is in proportion to them.
    dead : (rows,) bool, optional
        The rows that may not.

    Returns
    -------
    rows : (Q, k) int64
        Row numbers, nearest first, of equal ones the lowest first; -1 where there are no more. A row that
        holds what is no number is never among them.
    cosines : (Q, k) float32
        Of these; -inf where there are no more.

    Raises
    ------
    InputError
        Queries of another length or with what is no number, k below 1, rows that are not there.

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
    asked = check_queries(segments, queries, k)
    pieces = list(_pieces(segments, check_rows(segments, allowed, dead), dead))
    segments.advise(scan=any(piece.rows is not None for piece in pieces))
    return _answers(segments, asked, k, pieces)


def rerank(
    segments: Segments, query: FloatArray, candidates: RowNumbers, k: int
) -> tuple[RowNumbers, FloatArray]:
    """The k nearest of a few candidates to one query (dim,), as `nearest_exact` would have them.

    Parameters
    ----------
    candidates : (C,) int64
        Increasing.
    """
    segments.advise(scan=False)
    rows, cosines = _answers(segments, query[None], k, list(_gathered(candidates)))
    return rows[0], cosines[0]


def check_queries(segments: Segments, queries: FloatArray, k: int) -> FloatArray:
    """The queries as a float32 array, or what is wrong with them."""
    asked = np.ascontiguousarray(queries, dtype=np.float32)
    if asked.ndim != 2 or asked.shape[1] != segments.dim:
        raise InputError(f"queries have shape {asked.shape}: expected (any number, {segments.dim})")
    if k < 1:
        raise InputError(f"k is {k}: expected at least 1")
    if len(asked) and not np.abs(asked).max() < np.finfo(np.float16).max:  # also False for what is no number
        raise InputError("a query holds what is no number: expected rows of length one")
    return asked


def check_rows(segments: Segments, allowed: RowNumbers | None, dead: BoolArray | None) -> RowNumbers | None:
    """The allowed rows that live, increasing; or what is wrong with them."""
    if dead is not None and dead.shape != (segments.rows,):
        raise InputError(f"dead has shape {dead.shape}: expected ({segments.rows},), one mark for every row")
    if allowed is None:
        return None
    numbers = np.asarray(allowed, dtype=np.int64)
    if len(numbers) > 1 and not (numbers[1:] > numbers[:-1]).all():
        numbers = np.unique(numbers)
    if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < segments.rows:
        raise InputError(
            f"rows {numbers[0]} to {numbers[-1]} are allowed: expected some of the {segments.rows} there are"
        )
    return numbers if dead is None else numbers[~dead[numbers]]


# ------------------------------------------------------------------------------------------ pieces of work


@dataclass(frozen=True, eq=False)
class _Piece:
    """Rows to be looked at together: where they lie, or to be copied together first.

    Attributes
    ----------
    first : int
        Number of the first row, where they lie.
    rows : (n, dim) float16, or None
        These; None for those of `picked`.
    out : (n,) bool, or None
        Which of these may not answer.
    picked : (n,) int64, or None
    """

    first: int = 0
    rows: HalfArray | None = None
    out: BoolArray | None = None
    picked: RowNumbers | None = None

    def best(
        self, segments: Segments, queries: HalfArray, k: int, margins: FloatArray
    ) -> list[tuple[RowNumbers, Scores]]:
        """For each query the rows that may be among its k nearest, and their scores in half precision."""
        rows = segments.gather(self.picked) if self.picked is not None else self.rows
        assert rows is not None
        scores = _products()(queries, rows)  # (Q, n)
        scores = np.where(np.isfinite(scores), scores, -np.inf)
        if self.out is not None:
            scores[:, self.out] = -np.inf
        found = []
        for near, margin in zip(scores, margins, strict=True):
            kept = _within(near, k, margin)
            numbers = kept + self.first if self.picked is None else self.picked[kept]
            found.append((numbers, near[kept]))
        return found


def _pieces(segments: Segments, allowed: RowNumbers | None, dead: BoolArray | None) -> Iterator[_Piece]:
    scattered: list[RowNumbers] = []
    for first, part in segments.parts():
        start, stop = first, first + len(part)
        out = None if dead is None else dead[start:stop]
        if allowed is not None:
            here = allowed[slice(*np.searchsorted(allowed, (start, stop)))]
            if not len(here):
                continue
            start, stop = int(here[0]), int(here[-1]) + 1
            if stop - start > _SPREAD * len(here):
                scattered.append(here)
                continue
            out = None
            if stop - start > len(here):
                out = np.ones(stop - start, dtype=bool)
                out[here - start] = False
        for place in range(start, stop, _SCANNED):
            rows = part[place - first : min(place + _SCANNED, stop) - first]
            inside = place - start
            yield _Piece(place, rows, None if out is None else out[inside : inside + len(rows)])
    if scattered:
        yield from _gathered(np.concatenate(scattered))


def _gathered(numbers: RowNumbers) -> Iterator[_Piece]:
    for start in range(0, len(numbers), _PICKED):
        yield _Piece(picked=numbers[start : start + _PICKED])


# --------------------------------------------------------------------------------------------- the answer


def _answers(
    segments: Segments, asked: FloatArray, k: int, pieces: Sequence[_Piece]
) -> tuple[RowNumbers, FloatArray]:
    rows = np.full((len(asked), k), -1, dtype=np.int64)
    cosines = np.full((len(asked), k), -np.inf, dtype=np.float32)
    for start in range(0, len(asked), _QUERIES):
        block = asked[start : start + _QUERIES]  # (Q, dim)
        half = block.astype(np.float16)
        # What a score of the kernel can be off by: the query's rounding, at most as long as it is times the
        # row (Cauchy and Schwarz), and that of a sum in float32. Two scores can each be off by that much.
        off = np.linalg.norm(block - half.astype(np.float32), axis=1)
        off += segments.dim * 2.0**-24 * np.linalg.norm(block, axis=1)
        margins = (2 * LONGEST * off).astype(np.float32)  # (Q,)

        def look(piece: _Piece, half: HalfArray = half, margins: FloatArray = margins) -> list[_Near]:
            return piece.best(segments, half, k, margins)

        for n, near in enumerate(zip(*_each(look, pieces), strict=True)):
            numbers, scores = (np.concatenate(part) for part in zip(*near, strict=True))
            kept = numbers[_within(scores, k, margins[n])]
            found = _settle(segments, block[n], np.sort(kept), k)
            rows[start + n, : len(found[0])], cosines[start + n, : len(found[0])] = found
    return rows, cosines


_Near: TypeAlias = "tuple[RowNumbers, Scores]"


def _each(look: Callable[[_Piece], list[_Near]], pieces: Sequence[_Piece]) -> list[list[_Near]]:
    threads = min(processors(), len(pieces))
    if threads < 2:
        return [look(piece) for piece in pieces]
    with ThreadPoolExecutor(threads) as pool:  # the kernel and the copying let other threads run
        return list(pool.map(look, pieces))


def _within(scores: Scores, k: int, margin: float) -> RowNumbers:
    """Positions of the k largest and of what lies so little under them that it may belong there."""
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k] - margin
        return np.flatnonzero((scores >= least) & (scores > -np.inf))
    return np.flatnonzero(scores > -np.inf)


def _settle(
    segments: Segments, query: FloatArray, numbers: RowNumbers, k: int
) -> tuple[RowNumbers, FloatArray]:
    """The k nearest of rows in increasing order, by cosines that depend on nothing but query and row."""
    exact = query.astype(np.float64)
    cosines = np.empty(len(numbers), dtype=np.float32)
    for start in range(0, len(numbers), _PICKED):
        part = slice(start, start + _PICKED)
        # In double precision the order of the sum, should it differ from call to call, is rounded away. Not
        # `@`: threads of BLAS that wait for each other cost more than they save on a busy machine.
        cosines[part] = np.einsum("nd,d->n", segments.gather(numbers[part]).astype(np.float64), exact)
    order = np.argsort(-cosines, kind="stable")[:k]
    return numbers[order], cosines[order]


# -------------------------------------------------------------------------------------------- the kernel


@cache
def _products() -> Callable[[HalfArray, HalfArray], Scores]:
    """Products of queries (Q, dim) with rows (n, dim), both half precision -> (Q, n), summed in float32."""
    try:
        kernel = importlib.import_module("numkong")
    except ImportError:
        return _numpy_products
    return lambda queries, rows: _native_products(kernel, queries, rows)


def _native_products(kernel: ModuleType, queries: HalfArray, rows: HalfArray) -> Scores:
    if len(queries) == 1:
        return np.asarray(kernel.cdist(queries, rows, "dot"))
    packed = kernel.dots_pack(queries, "float16")  # eight queries in the time of two
    return np.asarray(kernel.dots_packed(rows, packed)).T


def _numpy_products(queries: HalfArray, rows: HalfArray) -> Scores:
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged row is left out afterwards
        return queries.astype(np.float32) @ rows.astype(np.float32).T
