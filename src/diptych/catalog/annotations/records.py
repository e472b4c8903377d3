"""What is handed to the store: a file as the disk has it, what reading it gave, a picture with its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.catalog.annotations.annotations import Annotations
    from diptych.encoder import FloatArray
    from diptych.media.details import Details

# Columns of a content that decoding fills.
DECODED = (
    *("format", "width", "height", "taken", "taken_from", "latitude", "longitude", "camera"),
    *("own_data", "difference_hash", "perceptual_hash", "error"),
)
CAPTION_END = "\x1f"  # stands between the captions of one file


@dataclass(frozen=True)
class Found:
    """A picture on disk, as a listing tells of it without opening it.

    Attributes
    ----------
    path : bytes
        As the file system spells it, which need not be valid text.
    member : str
        Its name inside, when `path` is an archive; else empty.
    size : int
        In bytes.
    modified : int
        Nanoseconds since 1970.
    device, inode : int
        The same for a file that was renamed.
    sidecar : int
        When the captions and sidecars beside it were changed, as a sum; 0 without any. In an archive it says
        which there are: 1 for captions, 2 for sidecars, 3 for both.
    changed : int
        When the system last changed the file or what it knows of it (st_ctime), in nanoseconds; 0 where that
        is not known. No program can set it, as it can set `modified`.
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
        """As the tables have it."""
        state = (self.size, self.modified, self.device, self.inode, self.sidecar, self.changed)
        return (self.path, self.member, *state)


@dataclass(frozen=True)
class FileRecord:
    """A file that was read, and what else it brings: a caption, or why it could not be read.

    Attributes
    ----------
    caption : str
        Its first line is shown; the others, behind `CAPTION_END`, can be searched for.
    sidecar_data : str
        What the sidecars beside it say, as `diptych.media.metadata.sidecar_fields.SidecarFields.to_json`
        writes it.
    unreachable : bool
        The system gave nothing of it, so that nobody knows what is in it now.
    """

    found: Found
    caption: str = ""
    sidecar_data: str = ""
    error: str | None = None
    unreachable: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """One content to be kept, with its files.

    Attributes
    ----------
    files : sequence of FileRecord
    hash : bytes or None
        Of its bytes; None when these could not be read at all.
    size : int
        In bytes.
    known : bool
        The content is in the catalogue, or earlier in the same call: only its files are new.
    details : Details, optional
    vector : (dim,) float32, optional
    hashes : (difference hash, perceptual hash), optional
        As unsigned numbers of 64 bits.
    error : str, optional
        Why it could not be decoded.
    annotations : Annotations, optional
        Tags and ratings that it brings from another catalogue.
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
        """What decoding showed, in the order of `DECODED`."""
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
            *(_signed(one) for one in hashes),
            self.error,
        )


def _signed(number: int | None) -> int | None:
    """64 bits as databases keep them, with a sign."""
    return number - 2**64 if number is not None and number >= 2**63 else number


@dataclass
class Reread:
    """What reading files again showed, of files whose size and time were those the catalogue had.

    Attributes
    ----------
    same : int
        Files that hold the picture they held; those that were embedded again do not count.
    differing : list of (path, member)
        Files that hold another one.
    """

    same: int = 0
    differing: list[tuple[bytes, str]] = field(default_factory=list)
