"""Records that are passed to the store: a listed file, the result of reading it, an image with its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.catalog.annotations.annotations import Annotations
    from diptych.encoder import FloatArray
    from diptych.media.details import Details

# Columns of the table `contents` that decoding fills, in the order of `ImageRecord.decoded`.
DECODED = (
    *("format", "width", "height", "taken", "taken_from", "latitude", "longitude", "camera"),
    *("own_data", "difference_hash", "perceptual_hash", "error"),
)
CAPTION_END = "\x1f"  # separates the captions of one file


@dataclass(frozen=True)
class ListedFile:
    """An image file or archive member as a directory listing shows it, without opening it.

    Attributes
    ----------
    path : bytes
        As the file system spells it; need not be valid UTF-8.
    member : str
        Name inside the archive if `path` is an archive, otherwise empty.
    size : int
        In bytes.
    modified : int
        Modification time (st_mtime), nanoseconds since 1970.
    device, inode : int
        Identify the file across renames.
    sidecar : int
        Sum of the modification times of the caption files and sidecars beside it; 0 if there are none. For an
        archive member: 1 if it has captions, 2 if it has sidecars, 3 for both.
    changed : int
        Time of the last change of content or metadata (st_ctime), nanoseconds since 1970; 0 if unknown.
        Unlike `modified` it cannot be set by programs.
    """

    path: bytes
    member: str
    size: int
    modified: int
    device: int
    inode: int
    sidecar: int
    changed: int = 0

    def row(self) -> tuple[bytes, str, int, int, int, int, int, int]:
        """Values in the column order of the tables `found` and `pending`."""
        state = (self.size, self.modified, self.device, self.inode, self.sidecar, self.changed)
        return (self.path, self.member, *state)


@dataclass(frozen=True)
class FileRecord:
    """A file that was read, with its caption or the reason why reading failed.

    Attributes
    ----------
    file : ListedFile
    caption : str
        Captions, separated by `CAPTION_END`. The first is shown, all can be searched.
    sidecar_data : str
        Fields of the sidecars beside it, as `diptych.media.metadata.sidecar_fields.SidecarFields.to_json`
        writes them.
    error : str, optional
        Why the file could not be read.
    unreachable : bool
        The operating system could not read the file, so its present content is unknown.
    """

    file: ListedFile
    caption: str = ""
    sidecar_data: str = ""
    error: str | None = None
    unreachable: bool = False


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One content to be saved, with its files.

    Attributes
    ----------
    files : sequence of FileRecord
    hash : bytes or None
        Hash of the file's bytes; None if they could not be read.
    size : int
        In bytes.
    known : bool
        The content is in the catalogue already, or earlier in the same call: only its files are new.
    details : Details, optional
        Metadata from the header.
    vector : (dim,) float32, optional
        Image embedding.
    hashes : (difference hash, perceptual hash), optional
        Unsigned 64-bit integers.
    error : str, optional
        Why it could not be decoded.
    annotations : Annotations, optional
        Tags and ratings imported from another catalogue.
    """

    files: Sequence[FileRecord]
    hash: bytes | None = None
    size: int = 0
    known: bool = False
    details: Details | None = None
    vector: FloatArray | None = None
    hashes: tuple[int, int] | None = None
    error: str | None = None
    annotations: Annotations | None = None

    def decoded(self) -> tuple[object, ...]:
        """Values of the columns `DECODED`, in that order."""
        details, hashes = self.details, self.hashes or (None, None)
        return (
            details and details.format,
            details and details.width,
            details and details.height,
            details and details.taken and details.taken.isoformat(sep=" "),
            details and details.taken_from,
            details and details.latitude,
            details and details.longitude,
            details and details.camera,
            "",
            *(_signed(number) for number in hashes),
            self.error,
        )


def _signed(number: int | None) -> int | None:
    """Reinterpret 64 unsigned bits as a signed integer, which is what databases store."""
    return number - 2**64 if number is not None and number >= 2**63 else number


@dataclass
class RereadFiles:
    """Result of re-reading files whose size and modification time had not changed.

    Attributes
    ----------
    same : int
        Number of files with the same content as before, without those that were embedded again.
    differing : list of (path, member)
        Files with another content than before.
    """

    same: int = 0
    differing: list[tuple[bytes, str]] = field(default_factory=list)
