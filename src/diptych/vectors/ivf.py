"""Inverted-file index (IVF): rows grouped into lists by k-means, of which a query probes a few.

faiss stores for each row the residual to the centre of its list, quantised to 4 bits per two numbers. The
estimated cosines select some hundred candidates, which are ranked exactly from the half-precision rows. An
index is immutable: rows that are appended later form the tail, which `nearest` scans, and deleted rows are
skipped. `ivf_build` tunes the numbers of lists and candidates with text queries.

Layout. An index over N rows consists of `ivf.json` (the header), NAME.faiss (centres and codes) and
NAME.lists (the list of each row, N uint32, memory-mapped). E.g. N = 1,000,000 and dim 512: 4,000 lists of
about 250 rows; a code has 256 pairs x 4 bits = 128 bytes, so the codes take 128 MB where half-precision rows
take 1,024 MB.

Recall. A query misses the neighbours in lists that it does not probe. `IvfIndex.expected_missed` bounds their
number; a query with a worse bound than all tuning queries is scanned instead.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import CatalogError
from diptych.extras import require

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers, Segments

    BoolArray: TypeAlias = NDArray[np.bool_]

HEAD = "ivf.json"  # the header, which names the two files of the current index
FORMAT = 2
REBUILD_FRACTION = 0.2  # rebuild when the tail, or the dead rows, exceed this fraction of the indexed rows
_HASHED_ROWS = 64  # rows that identify a collection


def load_faiss() -> ModuleType:
    """Import faiss, or say what to install."""
    return require("faiss", extra="search", purpose="search more than 200,000 pictures by an index")


@dataclass(frozen=True)
class IvfSetting:
    """Search parameters that reach the target recall for up to k neighbours.

    Attributes
    ----------
    k : int
        Most neighbours these parameters are good for.
    probes : int
        Lists to probe.
    candidates : int
        Rows to rank exactly.
    recall : float
        Fraction of the true k nearest that is found, over the tuning queries.
    margin : float
        Least difference, over the tuning queries, between the cosine of the k-th row and the estimated cosine
        of the last candidate. A smaller difference means that a row below the candidates may belong to the k
        nearest.
    missed : float
        Largest bound, over the tuning queries, on the number of neighbours in lists that were not probed.
    """

    k: int
    probes: int
    candidates: int
    recall: float
    margin: float = 0.0
    missed: float = np.inf


@dataclass(frozen=True)
class IvfHeader:
    """The header of an index. The field names are keys of the header file.

    Attributes
    ----------
    rows, dim, lists : int
    settings : tuple of IvfSetting
        In order of k.
    queries : int
        Number of tuning queries.
    reach, spread : float
        The cosine of a text and a row is about `reach` times the product of the text and the centre of the
        row's list, with a standard deviation of `spread`.
    file : str
        Common name of the two other files, without suffixes.
    size, checksum : int
        Bytes and CRC-32 of the file that faiss reads.
    collection : str
        Hash of some of the rows it was built from.
    faiss : str
        Version of faiss that wrote it.
    """

    rows: int
    dim: int
    lists: int
    settings: tuple[IvfSetting, ...]
    queries: int
    seed: int
    reach: float
    spread: float
    file: str
    size: int
    checksum: int
    collection: str
    faiss: str

    def to_json(self) -> bytes:
        """Serialise to the content of the header file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> IvfHeader:
        """Parse what `to_json` wrote; ValueError, KeyError or TypeError for anything else."""
        fields = json.loads(data)
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        settings = tuple(IvfSetting(**setting) for setting in fields.pop("settings"))
        return cls(settings=settings, **fields)


def collection_hash(segments: Segments, rows: int) -> str:
    """Hash of evenly spaced rows among the first `rows`, which detects an index of another collection."""
    picked = np.linspace(0, rows - 1, min(_HASHED_ROWS, rows)).astype(np.int64)
    data = f"{segments.dim} {rows} ".encode() + segments.gather(picked).tobytes()
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, eq=False)
class RowFilter:
    """The rows of an index that pass a filter, (rows,), and their number in each list, (lists,)."""

    mask: BoolArray
    sizes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """The candidates of a query, and an estimate of what was not probed.

    Attributes
    ----------
    candidates : (C,) int64
        Rows to rank exactly, in increasing order.
    last_estimate : float
        Least estimated cosine of a candidate; -inf if all rows of the probed lists are candidates.
    unprobed_cosines : (L,) float32
        Expected cosine of the rows of each list that was not probed.
    unprobed_sizes : (L,) int64
        Number of rows in each of these lists that pass the filter.
    """

    candidates: RowNumbers
    last_estimate: float
    unprobed_cosines: FloatArray
    unprobed_sizes: NDArray[np.int64]


class IvfIndex:
    """An open index; `list_of`, (rows,) uint32, is the list of each row."""

    def __init__(self, head: IvfHeader, index: Any, list_of: NDArray[np.uint32]) -> None:
        self.head, self._index, self._list_of = head, index, list_of
        self._faiss = load_faiss()
        self.centres: FloatArray = index.quantizer.reconstruct_n(0, head.lists)  # (lists, dim)
        self._sizes: NDArray[np.int64] = np.bincount(list_of, minlength=head.lists)
        self._dead: BoolArray | None = None
        self._dead_sizes = np.zeros(head.lists, np.int64)

    @classmethod
    def open(cls, folder: Path, segments: Segments) -> IvfIndex | None:
        """Open the index in a folder; None if there is none.

        Raises
        ------
        CatalogError
            The index is damaged, or was built from other rows than these.
        MissingExtraError
            faiss is not installed.
        """
        # Another process may replace the index between reading the header and the files that it names.
        for _ in range(3):
            try:
                data = (folder / HEAD).read_bytes()
            except FileNotFoundError:
                return None
            try:
                return cls._read(folder, IvfHeader.from_json(data), segments)
            except FileNotFoundError as error:
                missing = error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _damaged(folder, f"{HEAD} cannot be parsed") from error
        raise _damaged(folder, f"{missing.filename} is missing") from missing

    @classmethod
    def _read(cls, folder: Path, head: IvfHeader, segments: Segments) -> IvfIndex:
        if head.dim != segments.dim or head.rows > segments.rows:
            raise _damaged(
                folder,
                f"it was built from {head.rows:,} rows of {head.dim} numbers, and the catalogue has "
                f"{segments.rows:,} of {segments.dim}",
            )
        if head.collection != collection_hash(segments, head.rows):
            raise _damaged(folder, "it was built from other pictures")
        faiss = load_faiss()
        lists, codes = folder / f"{head.file}.lists", folder / f"{head.file}.faiss"
        if codes.stat().st_size != head.size or lists.stat().st_size != 4 * head.rows:
            raise _damaged(folder, "a file was truncated, or copied in part")
        if checksum(codes) != head.checksum:
            raise _damaged(folder, f"{codes.name} has another checksum than when it was written")
        # Read into memory, since faiss cannot map lists of this kind: 0.15 KB per row.
        try:
            index = faiss.read_index(str(codes))
        except RuntimeError as error:  # written by another version
            raise _damaged(folder, f"faiss {faiss.__version__} cannot read it: {error}") from error
        if index.d != head.dim or index.ntotal != head.rows or index.nlist != head.lists:
            raise _damaged(folder, f"{codes.name} does not match {HEAD}")
        return cls(head, index, np.memmap(lists, dtype="<u4", mode="r"))

    def setting(self, k: int) -> IvfSetting | None:
        """The search parameters for k neighbours; None for more than the index was tuned for."""
        return next((setting for setting in self.head.settings if setting.k >= k), None)

    def row_filter(self, allowed: RowNumbers | None, dead: BoolArray | None) -> RowFilter | None:
        """The rows to search: `allowed` (increasing, none dead) or all that are not dead; None for all."""
        rows = self.head.rows
        if allowed is not None:
            mask = np.zeros(rows, dtype=bool)
            mask[allowed] = True
            return RowFilter(mask, np.bincount(self._list_of[allowed], minlength=self.head.lists))
        if dead is None or not dead[:rows].any():
            return None
        if dead is not self._dead:  # counted once per array, since callers pass the same one for every query
            lists = self._list_of[np.flatnonzero(dead[:rows])]
            self._dead_sizes = np.bincount(lists, minlength=self.head.lists)
            self._dead = dead
        return RowFilter(~dead[:rows], self._sizes - self._dead_sizes)

    def probe(
        self, query: FloatArray, setting: IvfSetting, row_filter: RowFilter | None = None
    ) -> ProbeResult:
        """Probe the lists nearest to one query (dim,).

        A filter can leave the nearest lists almost empty. So many lists are probed that the query meets as
        many rows that pass the filter as it would meet without a filter. E.g. lists of 100 rows, in order of
        nearness, and 2 probes, which meet 200 rows: if the filter leaves 10, 60, 80, 90 and 100 of them, the
        cumulative numbers are 10, 70, 150, 240, and 4 lists are probed.
        """
        # `einsum` instead of `@`: BLAS threads that wait for each other cost more than they save on a busy
        # machine.
        centre_cosines = np.einsum("ld,d->l", self.centres, query)  # (lists,)
        order = np.argsort(-centre_cosines)
        sizes, probes = self._sizes, setting.probes
        if row_filter is not None:
            unfiltered = self._sizes[order[:probes]].sum()
            sizes = row_filter.sizes
            cumulative = np.cumsum(sizes[order])
            probes = min(max(int(np.searchsorted(cumulative, unfiltered)) + 1, probes), self.head.lists)
        mask = None if row_filter is None else row_filter.mask
        nearest = order[None, :probes]  # (1, P)
        rows, estimates = self.search_lists(
            query[None], probes, setting.candidates, mask, lists=(nearest, centre_cosines[nearest])
        )
        # Not padded with -1: the probed lists may hold further rows, with estimates below the last
        # candidate's.
        is_full = rows[0, -1] >= 0 and rows.shape[1] < self.head.rows
        unprobed = order[probes:]
        candidates = np.sort(rows[0][rows[0] >= 0])
        last_estimate = float(estimates[0, -1]) if is_full else -np.inf
        expected = self.head.reach * centre_cosines[unprobed]
        return ProbeResult(candidates, last_estimate, expected, sizes[unprobed])

    def expected_missed(self, probed: ProbeResult, cosine: float) -> float:
        """Bound the number of rows in unprobed lists whose cosine exceeds that of the k-th neighbour.

        The cosines of the rows of a list are modelled as normal with mean `reach * centre_cosine` and
        standard deviation `spread`. Chernoff bounds the tail: P(X > mean + t * spread) <= exp(-t**2 / 2).
        E.g. k-th cosine 0.30, an unprobed list of 250 rows with expected cosine 0.18, spread 0.03: t = 4, and
        the list contributes 250 * exp(-8) = 0.08 rows. The model is rough, so the sum is not used as a count:
        it is compared with the largest sum over the tuning queries, whose recall is known.
        """
        deviations = np.maximum(cosine - probed.unprobed_cosines, 0) / self.head.spread
        return float((probed.unprobed_sizes * np.exp(-(deviations**2) / 2)).sum())

    def is_reliable(self, probed: ProbeResult, setting: IvfSetting, cosine: float) -> bool:
        """Whether the measured recall applies to this query, given the cosine of its k-th neighbour.

        It does not if too many rows are about equally near, inside the probed lists (`margin`) or outside
        (`missed`), e.g. because a filter has removed everything that matches the query.
        """
        has_margin = cosine - probed.last_estimate >= setting.margin
        return has_margin and self.expected_missed(probed, cosine) <= setting.missed

    def search_lists(
        self,
        queries: FloatArray,
        probes: int,
        count: int,
        mask: BoolArray | None = None,
        *,
        lists: tuple[NDArray[np.int64], FloatArray] | None = None,
    ) -> tuple[RowNumbers, FloatArray]:
        """Find the rows of largest estimated cosine in the probed lists.

        Parameters
        ----------
        mask : (rows,) bool, optional
            Rows that may be returned.
        lists : ((Q, probes), (Q, probes)), optional
            The lists nearest to each query, nearest first, and the cosines of their centres; by default faiss
            determines them.

        Returns
        -------
        rows : (Q, count) int64
            Padded with -1 where the probed lists hold fewer.
        estimates : (Q, count) float32
        """
        chosen: dict[str, Any] = {"nprobe": probes}
        if mask is not None:  # faiss reads bit n % 8 of byte n // 8, counted from the least significant
            chosen["sel"] = self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        parameters = self._faiss.SearchParametersIVF(**chosen)
        count = min(count, self.head.rows)
        if lists is None:
            estimates, rows = self._index.search(queries, count, params=parameters)
        else:
            rows = np.empty((len(queries), count), np.int64)
            estimates = np.empty((len(queries), count), np.float32)
            numbers, cosines = lists
            arrays = (
                *(np.ascontiguousarray(numbers, np.int64), np.ascontiguousarray(cosines, np.float32)),
                *(estimates, rows),
            )
            # The C++ method, since the Python wrapper `search_preassigned` does not take `parameters`. The
            # arrays must stay referenced until it returns: `swig_ptr` passes a bare pointer.
            pointers = [self._faiss.swig_ptr(array) for array in (queries, *arrays)]
            self._index.search_preassigned_c(
                len(queries), pointers[0], count, *pointers[1:], False, parameters, None
            )
        if rows.size and not -1 <= rows.min() <= rows.max() < self.head.rows:
            raise CatalogError(
                f"the index names row {rows.max()} of {self.head.rows:,}: it is damaged. Build it again"
            )
        return rows, estimates

    def needs_rebuild(self, rows: int, dead: BoolArray | None = None) -> str | None:
        """Why the index should be rebuilt now that there are `rows` rows; None if it need not be.

        E.g. an index of 1,000,000 rows: from 1,200,001 rows, or from 200,001 dead ones among the first
        million.
        """
        tail = rows - self.head.rows
        if tail > REBUILD_FRACTION * self.head.rows:
            return f"{tail:,} pictures were added to the {self.head.rows:,} in the index"
        dead_rows = 0 if dead is None else int(dead[: self.head.rows].sum())
        if dead_rows > REBUILD_FRACTION * self.head.rows:
            return f"{dead_rows:,} of the {self.head.rows:,} pictures in the index were removed"
        return None


def checksum(path: Path) -> int:
    """CRC-32 of a file; takes a few hundredths of a second for a million rows."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _damaged(folder: Path, reason: str) -> CatalogError:
    return CatalogError(
        f"the index in {folder} cannot be used: {reason}. It is built from the vectors beside it: build it "
        "again, or delete the folder, and every row is scanned instead"
    )
