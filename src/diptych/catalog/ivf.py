"""An index over a catalogue's first rows: lists of rows that lie together, of which a query visits a few.

faiss's inverted lists hold every row in 4 bits for two numbers, which tells some hundred candidates apart
from the rest; these are ranked exactly from the half-precision rows, so that cosines are never estimates. An
index never changes: rows that come later are the tail, which `nearest` scans, and rows that died or may not
answer are passed over. How many lists and candidates it takes was measured with text queries when the index
was built, see `ivf_build`, and stands in the file beside it.
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
    from diptych.catalog.segments import RowNumbers, Segments
    from diptych.encoder import FloatArray

    BoolArray: TypeAlias = NDArray[np.bool_]

HEAD = "ivf.json"  # names the two files of the index that counts
FORMAT = 1
WORN = 0.2  # share of rows behind the index, or dead in it, from which it is worth building again
_SAMPLED = 64  # rows that tell one collection from another


def load_faiss() -> ModuleType:
    """The library, or what to install."""
    return require("faiss", extra="search", purpose="search more than 200,000 pictures by an index")


@dataclass(frozen=True)
class Setting:
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
    """

    k: int
    probes: int
    candidates: int
    recall: float


@dataclass(frozen=True)
class Head:
    """What stands beside an index.

    Attributes
    ----------
    rows, dim, lists : int
    settings : tuple of Setting
        In order of k.
    queries : int
        How many it was judged with.
    seed : int
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
    settings: tuple[Setting, ...]
    queries: int
    seed: int
    file: str
    size: int
    checksum: int
    collection: str
    faiss: str

    def to_json(self) -> bytes:
        """As the file has it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Head:
        """The reverse; ValueError, KeyError or TypeError for anything else."""
        told = json.loads(data)
        if told.pop("format") != FORMAT:
            raise ValueError("another format")
        settings = tuple(Setting(**one) for one in told.pop("settings"))
        return cls(settings=settings, **told)


def collection_hash(segments: Segments, rows: int) -> str:
    """Hash of some of the first `rows` rows, spread evenly: an index of another collection shows."""
    picked = np.linspace(0, rows - 1, min(_SAMPLED, rows)).astype(np.int64)
    told = f"{segments.dim} {rows} ".encode() + segments.gather(picked).tobytes()
    return hashlib.sha256(told).hexdigest()


class Ivf:
    """An index, opened.

    Parameters
    ----------
    head : Head
    index : faiss.IndexIVF
    list_of : (rows,) uint32
        The list every row lies in.
    """

    def __init__(self, head: Head, index: Any, list_of: NDArray[np.uint32]) -> None:
        self.head, self._index, self._list_of = head, index, list_of
        self._faiss = load_faiss()
        self.centres: FloatArray = index.quantizer.reconstruct_n(0, head.lists)  # (lists, dim)
        self._sizes: NDArray[np.int64] = np.bincount(list_of, minlength=head.lists)
        self._dead: BoolArray | None = None
        self._dead_sizes = np.zeros(head.lists, np.int64)

    @classmethod
    def open(cls, folder: Path, segments: Segments) -> Ivf | None:
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
                return cls._read(folder, Head.from_json(data), segments)
            except FileNotFoundError as error:
                missing = error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _damaged(folder, f"{HEAD} cannot be understood") from error
        raise _damaged(folder, f"{missing.filename} is missing") from missing

    @classmethod
    def _read(cls, folder: Path, head: Head, segments: Segments) -> Ivf:
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

    def setting(self, k: int) -> Setting | None:
        """What it takes to find k rows; None for more than the index was judged for."""
        return next((one for one in self.head.settings if one.k >= k), None)

    def candidates(
        self,
        queries: FloatArray,
        setting: Setting,
        *,
        allowed: RowNumbers | None = None,
        dead: BoolArray | None = None,
    ) -> list[RowNumbers]:
        """For each query the rows to be ranked exactly, increasing.

        Parameters
        ----------
        queries : (Q, dim) float32
        setting : Setting
        allowed : (A,) int64, optional
            Rows of the index that may answer, increasing and living.
        dead : (rows or more,) bool, optional
            Rows that may not; not looked at beside `allowed`.

        Raises
        ------
        CatalogError
            The index names rows that it cannot hold.
        """
        probes, marks = setting.probes, None
        if allowed is not None:
            marks = np.zeros(self.head.rows, dtype=bool)
            marks[allowed] = True
            sizes = np.bincount(self._list_of[allowed], minlength=self.head.lists)
            probes = self._probes(queries, probes, sizes)
        elif dead is not None and dead[: self.head.rows].any():
            marks = ~dead[: self.head.rows]
            probes = self._probes(queries, probes, self._living(dead))
        found = self.ranked(queries, probes, setting.candidates, marks)
        return [np.sort(near[near >= 0]) for near in found]

    def ranked(
        self, queries: FloatArray, probes: int, count: int, marks: BoolArray | None = None
    ) -> RowNumbers:
        """The rows of largest estimated product, (Q, count), -1 where the lists visited hold no more.

        Parameters
        ----------
        marks : (rows,) bool, optional
            Which rows count.
        """
        chosen: dict[str, Any] = {"nprobe": probes}
        if marks is not None:
            chosen["sel"] = self._faiss.IDSelectorBitmap(np.packbits(marks, bitorder="little"))
        parameters = self._faiss.SearchParametersIVF(**chosen)
        found: RowNumbers = self._index.search(queries, min(count, self.head.rows), params=parameters)[1]
        if found.size and not -1 <= found.min() <= found.max() < self.head.rows:
            raise CatalogError(
                f"the index names row {found.max()} of {self.head.rows:,}: it is damaged. Build it again"
            )
        return found

    def _probes(self, queries: FloatArray, probes: int, sizes: NDArray[np.int64]) -> int:
        """Lists to visit so that a query meets as many rows that may answer as without a filter.

        A filter can leave the lists near a query empty: those are no lists visited. The fewer rows may
        answer, the fewer of them it would take; that is left as a reserve.
        """
        order = np.argsort(-(queries @ self.centres.T), axis=1)  # (Q, lists)
        usual = np.cumsum(self._sizes[order], axis=1)[:, probes - 1]  # (Q,) rows met without a filter
        met = np.cumsum(sizes[order], axis=1)  # (Q, lists)
        needed = (met < usual[:, None]).sum(axis=1) + 1
        return min(max(int(needed.max(initial=1)), probes), self.head.lists)

    def _living(self, dead: BoolArray) -> NDArray[np.int64]:
        """Rows of each list that are not dead; counted once for an array."""
        if dead is not self._dead:
            gone = self._list_of[np.flatnonzero(dead[: self.head.rows])]
            self._dead_sizes = np.bincount(gone, minlength=self.head.lists)
            self._dead = dead
        return self._sizes - self._dead_sizes

    def worn(self, rows: int, dead: BoolArray | None = None) -> str | None:
        """Why the index is worth building again now that there are `rows` rows; None when it is not."""
        tail = rows - self.head.rows
        if tail > WORN * self.head.rows:
            return f"{tail:,} pictures came after its {self.head.rows:,}"
        gone = 0 if dead is None else int(dead[: self.head.rows].sum())
        if gone > WORN * self.head.rows:
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
        f"the index in {folder} cannot be used: {why}. It is made from the vectors beside it: build it again, "
        "or delete the folder and every row is looked at instead"
    )
