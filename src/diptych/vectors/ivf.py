"""An index over a catalogue's first rows: lists of rows that lie together, of which a query visits a few.

faiss's inverted lists hold what makes a row differ from its list's centre, in 4 bits for two numbers. That
tells some hundred candidates apart from the rest; these are ranked exactly from the half-precision rows, so
that cosines are never estimates. An index never changes: rows that come later are the tail, which `nearest`
scans, and rows that died or may not answer are passed over. How many lists and candidates it takes was
measured with text queries when the index was built, see `ivf_build`, and stands in the file beside it.
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

HEAD = "ivf.json"  # names the two files of the index that counts
FORMAT = 2
REBUILD_FRACTION = 0.2  # share of rows behind the index, or dead in it, from which it is worth building again
_SAMPLED = 64  # rows that tell one collection from another


def load_faiss() -> ModuleType:
    """The library, or what to install."""
    return require("faiss", extra="search", purpose="search more than 200,000 pictures by an index")


@dataclass(frozen=True)
class IvfSetting:
    """What it takes to find the k nearest rows.

    Attributes
    ----------
    k : int
        Up to so many.
    probes : int
        Lists to visit.
    candidates : int
        Rows to be ranked exactly.
    recall : float
        Share of the k nearest that is found so, over the queries the index was judged with.
    margin : float
        Least distance, over these queries, from the cosine of the k-th row to the estimate of the last
        candidate: what lies under the estimates of all candidates was never so near.
    missed : float
        Most rows, over these queries, that the lists not visited were expected to hold among the k nearest.
    """

    k: int
    probes: int
    candidates: int
    recall: float
    margin: float = 0.0
    missed: float = np.inf


@dataclass(frozen=True)
class IvfHeader:
    """What stands beside an index.

    Attributes
    ----------
    rows, dim, lists : int
    settings : tuple of IvfSetting
        In order of k.
    queries : int
        How many it was judged with.
    seed : int
    reach, spread : float
        A row's cosine to a text is about `reach` times the product of text and list centre, give or take
        `spread`.
    file : str
        Its name, without the suffixes of its two parts.
    size, checksum : int
        Bytes and CRC-32 of the part that faiss reads.
    collection : str
        Hash of some of the rows it was built from.
    faiss : str
        Version that wrote it.
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
        """As the file has it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> IvfHeader:
        """The reverse; ValueError, KeyError or TypeError for anything else."""
        told = json.loads(data)
        if told.pop("format") != FORMAT:
            raise ValueError("another format")
        settings = tuple(IvfSetting(**one) for one in told.pop("settings"))
        return cls(settings=settings, **told)


def collection_hash(segments: Segments, rows: int) -> str:
    """Hash of some of the first `rows` rows, spread evenly: an index of another collection shows."""
    picked = np.linspace(0, rows - 1, min(_SAMPLED, rows)).astype(np.int64)
    told = f"{segments.dim} {rows} ".encode() + segments.gather(picked).tobytes()
    return hashlib.sha256(told).hexdigest()


@dataclass(frozen=True, eq=False)
class RowFilter:
    """Which rows of an index may answer.

    Attributes
    ----------
    marks : (rows,) bool
    sizes : (lists,) int64
        How many of them each list holds.
    """

    marks: BoolArray
    sizes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a query found in the lists it visited, and what it left.

    Attributes
    ----------
    candidates : (C,) int64
        Rows to be ranked exactly, increasing.
    cut : float
        Estimated cosine of the last of them; -inf when no row visited was left out.
    left : (L,) float32
        Expected cosines of the rows of each list not visited.
    counts : (L,) int64
        How many of these may answer.
    """

    candidates: RowNumbers
    cut: float
    left: FloatArray
    counts: NDArray[np.int64]


class IvfIndex:
    """An index, opened.

    Parameters
    ----------
    head : IvfHeader
    index : faiss.IndexIVF
    list_of : (rows,) uint32
        The list every row lies in.
    """

    def __init__(self, head: IvfHeader, index: Any, list_of: NDArray[np.uint32]) -> None:
        self.head, self._index, self._list_of = head, index, list_of
        self._faiss = load_faiss()
        self.centres: FloatArray = index.quantizer.reconstruct_n(0, head.lists)  # (lists, dim)
        self._sizes: NDArray[np.int64] = np.bincount(list_of, minlength=head.lists)
        self._dead: BoolArray | None = None
        self._dead_sizes = np.zeros(head.lists, np.int64)

    @classmethod
    def open(cls, folder: Path, segments: Segments) -> IvfIndex | None:
        """The index in a folder, if there is one.

        Raises
        ------
        CatalogError
            It is damaged, or was built from other rows than these.
        MissingExtraError
            faiss is not installed.
        """
        for _ in range(3):  # another process may have put a new index in its place meanwhile
            try:
                data = (folder / HEAD).read_bytes()
            except FileNotFoundError:
                return None
            try:
                return cls._read(folder, IvfHeader.from_json(data), segments)
            except FileNotFoundError as error:
                missing = error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _damaged(folder, f"{HEAD} cannot be understood") from error
        raise _damaged(folder, f"{missing.filename} is missing") from missing

    @classmethod
    def _read(cls, folder: Path, head: IvfHeader, segments: Segments) -> IvfIndex:
        if head.dim != segments.dim or head.rows > segments.rows:
            raise _damaged(
                folder,
                f"it was built from {head.rows:,} rows of {head.dim}, and there are {segments.rows:,} of "
                f"{segments.dim}",
            )
        if head.collection != collection_hash(segments, head.rows):
            raise _damaged(folder, "it was built from other pictures")
        faiss = load_faiss()
        lists, codes = folder / f"{head.file}.lists", folder / f"{head.file}.faiss"
        if codes.stat().st_size != head.size or lists.stat().st_size != 4 * head.rows:
            raise _damaged(folder, "a file was cut, or copied in part")
        if checksum(codes) != head.checksum:
            raise _damaged(folder, f"{codes.name} does not hold what was written")
        # Its blocks are read, not mapped (faiss cannot map lists of this kind): 0.15 KB a row.
        try:
            index = faiss.read_index(str(codes))
        except RuntimeError as error:  # of another version
            raise _damaged(folder, f"faiss {faiss.__version__} cannot read it: {error}") from error
        if index.d != head.dim or index.ntotal != head.rows or index.nlist != head.lists:
            raise _damaged(folder, f"{codes.name} is not the file it is said to be")
        return cls(head, index, np.memmap(lists, dtype="<u4", mode="r"))

    def setting(self, k: int) -> IvfSetting | None:
        """What it takes to find k rows; None for more than the index was judged for."""
        return next((one for one in self.head.settings if one.k >= k), None)

    def row_filter(self, allowed: RowNumbers | None, dead: BoolArray | None) -> RowFilter | None:
        """The rows that may answer: those allowed (increasing, living), or not dead; None for all of them."""
        rows = self.head.rows
        if allowed is not None:
            marks = np.zeros(rows, dtype=bool)
            marks[allowed] = True
            return RowFilter(marks, np.bincount(self._list_of[allowed], minlength=self.head.lists))
        if dead is None or not dead[:rows].any():
            return None
        if dead is not self._dead:  # counted once for an array
            gone = self._list_of[np.flatnonzero(dead[:rows])]
            self._dead_sizes = np.bincount(gone, minlength=self.head.lists)
            self._dead = dead
        return RowFilter(~dead[:rows], self._sizes - self._dead_sizes)

    def probe(self, query: FloatArray, setting: IvfSetting, kept: RowFilter | None = None) -> ProbeResult:
        """Ask for one query (dim,).

        A filter can leave the lists near a query empty: those are no lists visited. So many are that a query
        meets as many rows that may answer as it meets without a filter.
        """
        # Not `@`: threads of BLAS that wait for each other cost more than they save on a busy machine.
        near = np.einsum("ld,d->l", self.centres, query)  # (lists,)
        order = np.argsort(-near)
        sizes, probes = self._sizes, setting.probes
        if kept is not None:
            usual = self._sizes[order[:probes]].sum()
            sizes = kept.sizes
            met = np.cumsum(sizes[order])
            probes = min(max(int(np.searchsorted(met, usual)) + 1, probes), self.head.lists)
        marks = None if kept is None else kept.marks
        nearest = order[None, :probes]  # (1, P)
        found, estimates = self.search_lists(
            query[None], probes, setting.candidates, marks, lists=(nearest, near[nearest])
        )
        full = found[0, -1] >= 0 and found.shape[1] < self.head.rows
        left = order[probes:]
        return ProbeResult(
            np.sort(found[0][found[0] >= 0]),
            float(estimates[0, -1]) if full else -np.inf,
            self.head.reach * near[left],
            sizes[left],
        )

    def expected_missed(self, visit: ProbeResult, cosine: float) -> float:
        """How many rows of the lists not visited are expected to lie nearer than `cosine`, at most.

        The tail of a normal distribution by Chernoff's bound; a measure to compare queries by, no count.
        """
        away = np.maximum(cosine - visit.left, 0) / self.head.spread
        return float((visit.counts * np.exp(-(away**2) / 2)).sum())

    def is_reliable(self, visit: ProbeResult, setting: IvfSetting, cosine: float) -> bool:
        """Whether this query, whose k-th row has this cosine, is like those the index was judged with.

        One for which too many rows are about equally near is not: a filter that takes away whatever fits the
        query leaves the rest, and nothing stands out from it.
        """
        return cosine - visit.cut >= setting.margin and self.expected_missed(visit, cosine) <= setting.missed

    def search_lists(
        self,
        queries: FloatArray,
        probes: int,
        count: int,
        marks: BoolArray | None = None,
        *,
        lists: tuple[NDArray[np.int64], FloatArray] | None = None,
    ) -> tuple[RowNumbers, FloatArray]:
        """The rows of largest estimated cosine, (Q, count), -1 where the lists visited hold no more.

        Parameters
        ----------
        marks : (rows,) bool, optional
            Which rows count.
        lists : ((Q, probes), (Q, probes)), optional
            The lists nearest to each query, best first, and their cosines, where they are known: faiss then
            does not look for them again.
        """
        chosen: dict[str, Any] = {"nprobe": probes}
        if marks is not None:
            chosen["sel"] = self._faiss.IDSelectorBitmap(np.packbits(marks, bitorder="little"))
        parameters = self._faiss.SearchParametersIVF(**chosen)
        count = min(count, self.head.rows)
        if lists is None:
            estimates, found = self._index.search(queries, count, params=parameters)
        else:
            found = np.empty((len(queries), count), np.int64)
            estimates = np.empty((len(queries), count), np.float32)
            places = [np.ascontiguousarray(lists[0], np.int64), np.ascontiguousarray(lists[1], np.float32)]
            given = map(self._faiss.swig_ptr, (*places, estimates, found))
            # Its Python face takes no parameters here.
            self._index.search_preassigned_c(
                len(queries), self._faiss.swig_ptr(queries), count, *given, False, parameters, None
            )
        if found.size and not -1 <= found.min() <= found.max() < self.head.rows:
            raise CatalogError(
                f"the index names row {found.max()} of {self.head.rows:,}: it is damaged. Build it again"
            )
        return found, estimates

    def needs_rebuild(self, rows: int, dead: BoolArray | None = None) -> str | None:
        """Why the index is worth building again now that there are `rows` rows; None when it is not."""
        tail = rows - self.head.rows
        if tail > REBUILD_FRACTION * self.head.rows:
            return f"{tail:,} pictures came after its {self.head.rows:,}"
        gone = 0 if dead is None else int(dead[: self.head.rows].sum())
        if gone > REBUILD_FRACTION * self.head.rows:
            return f"{gone:,} of its {self.head.rows:,} pictures are gone"
        return None


def checksum(path: Path) -> int:
    """CRC-32 of a file: a few hundredths of a second for a million rows."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _damaged(folder: Path, why: str) -> CatalogError:
    return CatalogError(
        f"the index in {folder} cannot be used: {why}. It is made from the vectors beside it: build it "
        "again, or delete the folder and every row is looked at instead"
    )
