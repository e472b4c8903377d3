"""Nearest-neighbour search that chooses between an exact scan and an index, and merges both.

A scan is always exact and takes about 9 ms for 200,000 rows of 512 numbers. So up to that number of rows, or
when a filter leaves no more, everything is scanned. Beyond, the index finds candidates among the rows it was
built from, and the rows appended since are scanned. The search falls back to a scan where the recall of the
index was not measured: for more neighbours than it was tuned for, when it returns fewer than k, and for a
query or a filter that differs from the tuning queries. The kernels are in `exact`, the index is in `ivf`.
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

EXACT_ROWS = 200_000  # up to so many rows are scanned without an index


class NearestNeighbours:
    """Nearest-neighbour search over the rows of a space.

    Parameters
    ----------
    segments : Segments
        May grow; appended rows are searched too.
    folder : path, optional
        Of the index, which need not exist. An index that is damaged, belongs to other rows or cannot be read
        because faiss is missing is not used; `index_error` then says why.
    exact_rows : int
        Up to so many rows are scanned without the index.

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
        """Open the index that is in the folder now."""
        self._ivf, self.index_error, self._opened = None, None, self._state()
        if self.folder is None or self.segments.rows <= self.exact_rows:
            return
        try:
            self._ivf = IvfIndex.open(self.folder, self.segments)
        except (CatalogError, MissingExtraError) as error:
            self.index_error = str(error)

    def refresh(self) -> None:
        """Open the index again if another process has replaced it."""
        if self._state() != self._opened:
            self.reopen()

    def _state(self) -> object:
        """Identity of the index file; False if there is none, None if no index is wanted."""
        if self.folder is None or self.segments.rows <= self.exact_rows:
            return None
        try:
            status = (self.folder / HEAD).stat()
        except OSError:
            return False
        # A header is replaced by renaming a new file over it, so the inode changes even within one tick of
        # the clock.
        return status.st_ino, status.st_mtime_ns

    def needs_rebuild(self, dead: BoolArray | None = None) -> str | None:
        """Why the index should be built or rebuilt; None if it is up to date or not needed."""
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
        """Find the k rows of largest cosine to each query; see `nearest_exact` for arguments and errors.

        The cosines are always exact. The rows are exact if they were scanned; the index has the recall that
        was measured when it was built: 0.99 is the target, and less than 0.98 is not used.

        E.g. an index over rows 0..999,999 of 1,010,000: each query ranks candidates from the index, and the
        tail 1,000,000..1,009,999 is scanned; the k best of both are returned.
        """
        checked, ivf = check_queries(self.segments, queries, k), self._ivf
        allowed = check_rows(self.segments, allowed, dead)
        setting = None if ivf is None else ivf.setting(k)
        # E.g. a filter that leaves 5,000 of a million rows: they are gathered and scanned, which is exact and
        # faster than probing many almost empty lists.
        few = allowed is not None and len(allowed) <= self.exact_rows
        if ivf is None or setting is None or few or len(checked) == 0:
            return nearest_exact(self.segments, checked, k, allowed=allowed, dead=dead)
        indexed = ivf.head.rows
        inside, tail = None, np.arange(indexed, self.segments.rows)
        if allowed is not None:
            inside, tail = np.split(allowed, [int(np.searchsorted(allowed, indexed))])
        row_filter = ivf.row_filter(inside, dead)
        rows, cosines = nearest_exact(self.segments, checked, k, allowed=tail, dead=dead)
        for n, query in enumerate(checked):
            probed = ivf.probe(query, setting, row_filter)
            from_index = rerank(self.segments, query, probed.candidates, k)
            rows[n], cosines[n] = _merge(from_index, (rows[n], cosines[n]))
            # Padding means that fewer than k rows were reached: the rest is in lists that were not probed.
            if rows[n, -1] < 0 or not ivf.is_reliable(probed, setting, float(cosines[n, -1])):
                exact_rows, exact_cosines = nearest_exact(
                    self.segments, query[None], k, allowed=allowed, dead=dead
                )
                rows[n], cosines[n] = exact_rows[0], exact_cosines[0]
        return rows, cosines


def _merge(
    indexed: tuple[RowNumbers, FloatArray], tail: tuple[RowNumbers, FloatArray]
) -> tuple[RowNumbers, FloatArray]:
    """The k best of two results of k rows each; the rows of `tail` have the higher numbers."""
    rows, cosines = np.concatenate([indexed[0], tail[0]]), np.concatenate([indexed[1], tail[1]])
    # Stable: of equal cosines the lower row number stays first, as in a scan.
    order = np.argsort(-cosines, kind="stable")[: len(indexed[0])]
    return rows[order], cosines[order]
