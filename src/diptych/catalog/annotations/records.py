"""Records that are passed to the store: a listed file, the result of reading it, an image with its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.catalog.annotations.annotations import Annotations
    from diptych.catalog.database.database import Database
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
    hash : bytes or None
        Hash of the file's bytes; None if they could not be read.
    size : int
        In bytes.
    stored : bool
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
    stored: bool = False
    details: Details | None = None
    vector: FloatArray | None = None
    hashes: tuple[int, int] | None = None
    error: str | None = None
    annotations: Annotations | None = None

    def decoded(self) -> tuple[object, ...]:
        """Values of the columns `DECODED`, in that order."""
        # A header that cannot be read gives NULL in all columns, as the decoder's error will say why.
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
    """Result of re-reading files whose size and modification time had not changed."""

    same: int = 0  # number of files with the same content as before, without those that were embedded again
    differing: list[tuple[bytes, str]] = field(default_factory=list)  # with another content: (path, member)


def save_content(database: Database, image: ImageRecord, created: set[int]) -> int | None:
    """Save a content and return its number; add it to `created` if it is new and was decoded."""
    # The bytes could not be read, so there is no content, only a file with an error.
    if image.hash is None:
        return None
    rows = database.all("SELECT id FROM contents WHERE hash = ?", (image.hash,))
    # Only the files of this image are new: nothing of the content is written, so copies cost one row.
    if rows and image.stored:
        return int(rows[0][0])
    decoded = image.decoded()
    embedded = rows and database.all("SELECT 1 FROM vectors WHERE content = ? LIMIT 1", rows[0])
    if embedded and image.error is not None:
        # It was decoded before, so its metadata is valid: only this attempt to decode it has failed.
        database.run("UPDATE contents SET error = ? WHERE id = ?", (image.error, rows[0][0]))
        return int(rows[0][0])
    if rows:  # decoded again, by `retry` or by a newer version that reads more
        names = ", ".join(f"{name} = ?" for name in DECODED)
        database.run(f"UPDATE contents SET {names} WHERE id = ?", (*decoded, rows[0][0]))
        return int(rows[0][0])
    placeholders = ", ".join("?" * (len(decoded) + 2))
    database.run(
        f"INSERT INTO contents (hash, bytes, {', '.join(DECODED)}) VALUES ({placeholders})",
        (image.hash, image.size, *decoded),
    )
    # Read back: RETURNING needs SQLite 3.35, and PostgreSQL has no `lastrowid`.
    content = int(database.all("SELECT id FROM contents WHERE hash = ?", (image.hash,))[0][0])
    if image.error is None:
        created.add(content)
    return content


def save_file(
    database: Database, record: FileRecord, content: int | None, reread: RereadFiles, *, embedded: bool
) -> int | None:
    """Save a file and return the content that it held before, if it was another one."""
    file = record.file
    if record.unreachable and database.run(
        "UPDATE files SET error = ? WHERE path = ? AND member = ? AND content IS NOT NULL",
        (record.error, file.path, file.member),
    ):
        return None  # the drive may be missing: keep the content and the state of the file
    if record.unreachable:
        # A new file: no listing shows this change time, so every run reads the file again, until it succeeds.
        # E.g. a folder renamed during the run has new paths, whose inodes and times are the old ones.
        file = replace(file, changed=-1)
    before = database.all(
        "SELECT content, bytes, modified, sidecar FROM files WHERE path = ? AND member = ?",
        (file.path, file.member),
    )
    # The file looks unchanged but was read all the same (`verify`, or its change time differs): compare.
    if before and content is not None and before[0][1:] == (file.size, file.modified, file.sidecar):
        reread.same += before[0][0] == content and not embedded
        if before[0][0] not in (content, None):
            reread.differing.append((file.path, file.member))
    database.run(
        "INSERT INTO files "
        "(path, member, bytes, modified, device, inode, sidecar, changed, content, caption, "
        "sidecar_data, error) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path, member) DO UPDATE SET "
        "bytes = excluded.bytes, modified = excluded.modified, device = excluded.device, "
        "inode = excluded.inode, sidecar = excluded.sidecar, changed = excluded.changed, "
        "content = excluded.content, caption = excluded.caption, "
        "sidecar_data = excluded.sidecar_data, error = excluded.error",
        (*file.row(), content, record.caption, record.sidecar_data, record.error),
    )
    return before[0][0] if before and before[0][0] not in (None, content) else None
