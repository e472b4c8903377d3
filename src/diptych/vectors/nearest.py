"""Near rows, exact or by an index that is judged: which of the two, for whom, and both put together.

A scan is always right and takes about 9 ms for 200,000 rows of 512 numbers, so up to there, or when a filter
leaves so few, every row that may answer is looked at. Beyond, the index finds the candidates among the rows
it was built from, the tail behind them is scanned, and whatever the index cannot promise is scanned too: more
neighbours than it was judged for, fewer found than asked for, a query or filter unlike what it was judged
with. Kernels are `exact`'s, the index is `ivf`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import CatalogError, MissingExtraError
from diptych.vectors.exact import check_queries, check_rows, nearest_exact, rerank
from diptych.vectors.ivf import HEAD, IvfIndex

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers, Segments

    BoolArray: TypeAlias = NDArray[np.bool_]

EXACT_ROWS = 200_000  # that are scanned rather than asked of an index


class NearestNeighbours:
    """The rows of a space, to be asked which are nearest.

    Parameters
    ----------
    segments : Segments
        May grow; what was added is found.
    folder : path, optional
        Of an index, whether there is one yet or not. One that is damaged, of other rows or cannot be read
        for want of faiss is not used, and `trouble` says so.
    exact_rows : int
        How many rows are scanned rather than asked of the index.

    Attributes
    ----------
    trouble : str or None
        Why the index that is there is not used.

    Examples
    --------
    >>> import tempfile
    >>> from diptych.vectors.segments import Segments
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     segments = Segments(Path(folder), dim=2, rows=0)
    ...     _ = segments.append(np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32))
    ...     nearest = NearestNeighbours(segments, Path(folder) / "ivf")
    ...     rows, cosines = nearest.search(np.array([[0, 1]], dtype=np.float32), 2, allowed=np.array([0, 2]))
    >>> rows.tolist()
    [[2, 0]]
    """

    def __init__(
        self, segments: Segments, folder: Path | None = None, *, exact_rows: int = EXACT_ROWS
    ) -> None:
        self.segments, self.folder, self.exact_rows = segments, folder, exact_rows
        self.index_error: str | None = None
        self._ivf: IvfIndex | None = None
        self._opened: object = None
        self.reopen()

    def reopen(self) -> None:
        """Use the index that is in the folder now."""
        self._ivf, self.index_error, self._opened = None, None, self._state()
        if self.folder is None or self.segments.rows <= self.exact_rows:
            return
        try:
            self._ivf = IvfIndex.open(self.folder, self.segments)
        except (CatalogError, MissingExtraError) as error:
            self.index_error = str(error)

    def refresh(self) -> None:
        """Use another index than before where another process has built one."""
        if self._state() != self._opened:
            self.reopen()

    def _state(self) -> object:
        """What is in the folder, without opening it; None where no index is to be used."""
        if self.folder is None or self.segments.rows <= self.exact_rows:
            return None
        try:
            status = (self.folder / HEAD).stat()
        except OSError:
            return False
        return status.st_ino, status.st_mtime_ns

    def needs_rebuild(self, dead: BoolArray | None = None) -> str | None:
        """Why an index is worth building now; None when there is no need of one, or a good one is there."""
        rows = self.segments.rows
        if rows <= self.exact_rows or self.folder is None:
            return None
        if self._ivf is None:
            return self.index_error or f"{rows:,} pictures have no index yet"
        return self._ivf.needs_rebuild(rows, dead)

    def search(
        self,
        queries: FloatArray,
        k: int,
        allowed: RowNumbers | None = None,
        dead: BoolArray | None = None,
    ) -> tuple[RowNumbers, FloatArray]:
        """The k rows of largest cosine to each query; see `nearest_exact` for arguments and errors.

        The cosines are exact always. The rows are where they were scanned; else the index was judged to find
        the share of them that its report tells, 0.99 aimed for and never under 0.98.
        """
        asked, ivf = check_queries(self.segments, queries, k), self._ivf
        allowed = check_rows(self.segments, allowed, dead)
        setting = None if ivf is None else ivf.setting(k)
        few = allowed is not None and len(allowed) <= self.exact_rows
        if ivf is None or setting is None or few or len(asked) == 0:
            return nearest_exact(self.segments, asked, k, allowed=allowed, dead=dead)
        built = ivf.head.rows
        inside, behind = None, np.arange(built, self.segments.rows)
        if allowed is not None:
            inside, behind = np.split(allowed, [int(np.searchsorted(allowed, built))])
        kept = ivf.row_filter(inside, dead)
        rows, cosines = nearest_exact(self.segments, asked, k, allowed=behind, dead=dead)
        for n, query in enumerate(asked):
            visit = ivf.probe(query, setting, kept)
            near = rerank(self.segments, query, visit.candidates, k)
            rows[n], cosines[n] = _merged(near, (rows[n], cosines[n]))
            if rows[n, -1] < 0 or not ivf.is_reliable(visit, setting, float(cosines[n, -1])):
                found = nearest_exact(self.segments, query[None], k, allowed=allowed, dead=dead)
                rows[n], cosines[n] = found[0][0], found[1][0]
        return rows, cosines


def _merged(
    one: tuple[RowNumbers, FloatArray], other: tuple[RowNumbers, FloatArray]
) -> tuple[RowNumbers, FloatArray]:
    """The nearest of both, as many as in either; rows of `other` have the higher numbers."""
    rows, cosines = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    order = np.argsort(-cosines, kind="stable")[: len(one[0])]
    return rows[order], cosines[order]
