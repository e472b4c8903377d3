"""Rows of the tables `contents` and `files`: written inside the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.catalog.annotations.records import DECODED, FileRecord, ImageRecord, RereadFiles

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database


def save_content(database: Database, image: ImageRecord, created: set[int]) -> int | None:
    """Save a content and return its number; add it to `created` if it is new and was decoded."""
    if image.hash is None:
        return None
    known = database.all("SELECT id FROM contents WHERE hash = ?", (image.hash,))
    if known and image.known:
        return int(known[0][0])
    decoded = image.decoded()
    if known and image.error is not None and _is_embedded(database, known[0][0]):
        # It was decoded before, so its metadata is valid: only this attempt to decode it has failed.
        database.run("UPDATE contents SET error = ? WHERE id = ?", (image.error, known[0][0]))
        return int(known[0][0])
    if known:  # decoded again, by `retry` or by a newer version that reads more
        names = ", ".join(f"{name} = ?" for name in DECODED)
        database.run(f"UPDATE contents SET {names} WHERE id = ?", (*decoded, known[0][0]))
        return int(known[0][0])
    placeholders = ", ".join("?" * (len(decoded) + 2))
    database.run(
        f"INSERT INTO contents (hash, bytes, {', '.join(DECODED)}) VALUES ({placeholders})",
        (image.hash, image.size, *decoded),
    )
    content = int(database.all("SELECT id FROM contents WHERE hash = ?", (image.hash,))[0][0])
    if image.error is None:
        created.add(content)
    return content


def _is_embedded(database: Database, content: int) -> bool:
    """Whether some space has an embedding of a content."""
    return bool(database.all("SELECT 1 FROM vectors WHERE content = ? LIMIT 1", (content,)))


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
