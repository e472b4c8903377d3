"""The store of a catalogue: writes contents, files and embeddings, in transactions.

A content that no file holds any more is removed, with its embeddings; a file whose content is known already
adds one row to a table and no embedding. Reading is in `entries`, walking the disk in `files.listing`,
encoding in `intake`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np

from diptych.catalog.annotations.annotations import (
    AnnotationChanges,
    FileLocation,
    annotate,
    carry_annotations,
    restore_annotations,
    set_aside,
)
from diptych.catalog.annotations.records import (
    ImageRecord,
    ListedFile,
    RereadFiles,
    save_content,
    save_file,
)
from diptych.catalog.annotations.tags import keep_details, update_from_sidecars
from diptych.catalog.database import schema
from diptych.catalog.database.database import Database, Sqlite, migrate, select_in
from diptych.catalog.database.file_space import FileSpace, sweep
from diptych.catalog.database.postgres import Postgres, PostgresSpace, is_address
from diptych.catalog.database.spaces import Space, create_space, read_space
from diptych.errors import CatalogError
from diptych.files.disk import saving
from diptych.vectors.segments import SEGMENT_ROWS

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

FILE = "catalog.sqlite"

# Rows that are deleted with a content, by table and column; the content itself last.
_CONTENT_COLUMNS = (
    *(("tags", "content"), ("ratings", "content"), ("glances", "content"), ("compared", "content")),
    *(("pairs", "first"), ("pairs", "second"), ("contents", "id")),
)


class Store:
    """A catalogue: its database and its spaces; without a folder, both are in PostgreSQL.

    Attributes
    ----------
    name : str
        Name of the catalogue in messages.
    active, filling : Space or None
        The space that is searched, and one that is being filled to replace it.
    """

    def __init__(self, database: Database, folder: Path | None) -> None:
        self.database, self.folder = database, folder
        self.name = database.name if folder is None else str(folder)
        self.active: Space | None = None
        self.filling: Space | None = None
        self._readers: WeakSet[Space] = WeakSet()
        self.reopen()

    def reopen(self) -> None:
        """Open the spaces that exist now; earlier ones stay open, as a thread may still write to one."""
        self.active, self.filling = self._open("active"), self._open("filling")

    def _open(self, state: str) -> Space | None:
        info = read_space(self.database, state)
        if info is None:
            return None
        if self.folder is None:
            return PostgresSpace(self.database, info)
        return FileSpace(self.database, self.folder, info)

    def open_for_reader(self) -> Space | None:
        """Open the active space a second time, so that a reader is not affected by what this store writes."""
        if (space := self._open("active")) is not None:
            self._readers.add(space)
        return space

    @classmethod
    def create(cls, location: str | Path) -> Store:
        """Open a catalogue, creating it if needed; several processes may do so at once.

        Parameters
        ----------
        location : path or str
            A folder, or the address of a PostgreSQL database.

        Raises
        ------
        CatalogError
            The folder holds other files.
        """
        if is_address(location):
            database: Database = Postgres(str(location))
            folder = None
        else:
            folder = Path(location)
            with saving(folder):
                folder.mkdir(parents=True, exist_ok=True)
                # `sweep` and `restore` remove files in this folder, so it must hold nothing else.
                if not (folder / FILE).exists() and any(folder.iterdir()):
                    raise CatalogError(
                        f"{folder} holds other files and no catalogue: name a separate folder, such as "
                        f"{folder / '.diptych'}"
                    )
            database = Sqlite(folder / FILE, create=True)
        try:
            with database.writing():
                # Inside the transaction: of two processes that create the catalogue at once, the second sees
                # the tables of the first.
                if not database.has_table("meta"):
                    for statement in schema.statements(schema.TABLES, database.column_types):
                        database.run(statement)
                    database.run("INSERT INTO meta (key, value) VALUES ('format', ?)", (str(schema.FORMAT),))
            return cls._checked(database, folder)
        except BaseException:
            database.close()
            raise

    @classmethod
    def open(cls, location: str | Path) -> Store:
        """Open an existing catalogue: a folder, or the address of a PostgreSQL database.

        Raises
        ------
        CatalogError
            There is no catalogue, or it is damaged or of a newer version.
        """
        message = "there is no catalogue in {}: make one with  diptych index PATH"
        folder = None if is_address(location) else Path(location)
        if folder is not None and not (folder / FILE).is_file():
            raise CatalogError(message.format(folder))
        database: Database = Postgres(str(location)) if folder is None else Sqlite(folder / FILE)
        try:
            if folder is None and not database.has_table("meta"):
                raise CatalogError(message.format(database.name))  # not the address: it may hold a password
            return cls._checked(database, folder)
        except BaseException:
            database.close()
            raise

    @classmethod
    def _checked(cls, database: Database, folder: Path | None) -> Store:
        migrate(database)
        return cls(database, folder)

    def begin_space(self, identity: str, model: str, golden: FloatArray, *, state: str = "active") -> Space:
        """Return the space in this state, creating it if there is none.

        Raises
        ------
        CatalogError
            Another process has created one for another encoder.
        """
        with self.database.writing():
            existing = read_space(self.database, state)
            if existing is None:
                create_space(self.database, identity, model, golden, state=state, segment_rows=SEGMENT_ROWS)
            elif existing.identity != identity:
                raise CatalogError(
                    f"another process is filling {self.name} with {existing.model_label}: wait for it, "
                    "or stop it"
                )
        self.reopen()
        space = self.active if state == "active" else self.filling
        assert space is not None
        return space

    # ------------------------------------------------------------------------------------------ writing

    def save_images(
        self, images: Sequence[ImageRecord], space: Space, reread: RereadFiles | None = None
    ) -> AnnotationChanges:
        """Save images with their files and embeddings, all in one transaction.

        If a content exists already, the files are added to it. A file that held another content before is
        detached from it. Returns how tags and ratings were affected.

        Parameters
        ----------
        images : sequence of ImageRecord
        space : Space
            Receives the embeddings.
        reread : RereadFiles, optional
            Receives the results for files that were known before.
        """
        reread = reread or RereadFiles()
        with self.database.writing():
            changes = AnnotationChanges()
            saved: set[int] = set()
            replaced: list[tuple[int, int | None, FileLocation]] = []  # old content, new content, file
            embedded: list[int] = []
            vectors: list[FloatArray] = []
            # Most catalogues have nothing set aside: ask once instead of for each file.
            has_set_aside = bool(self.database.all("SELECT 1 FROM set_aside LIMIT 1"))
            created: set[int] = set()  # contents that are new and could be decoded
            for image in images:
                content = save_content(self.database, image, created)
                if content is not None and image.details is not None:
                    keep_details(self.database, content, image.details, exists=image.stored)
                if content is not None and image.annotations:
                    annotate(self.database, content, image.annotations)
                for record in image.files:
                    location = (record.file.path, record.file.member)
                    # The old content is only noted here: whether it is an orphan is known once all files of
                    # the batch are saved, e.g. when a.jpg and b.jpg have swapped their names.
                    old = save_file(self.database, record, content, reread, embedded=image.vector is not None)
                    if old is not None:
                        replaced.append((old, content, location))
                    if has_set_aside and content is not None:
                        changes.brought_back += restore_annotations(self.database, content, location)
                saved |= set() if content is None else {content}
                if content is not None and image.vector is not None:
                    embedded.append(content)
                    vectors.append(image.vector)
            # Another process may have replaced the space since this run opened it.
            if vectors or replaced:
                space = self._current(space)
            if vectors:
                space.put(embedded, np.stack(vectors))
            update_from_sidecars(self.database, saved)
            # The order matters: annotations are copied to edits before the old contents are removed, and old
            # contents that keep other files lose the sidecar data of the file that left them.
            # Example: a.jpg held content 7 (tagged by hand) and is an edit now, content 9. `replaced` is
            # [(7, 9, a.jpg)]; 9 gets the tags; no other file holds 7, so 7 and its embedding are deleted.
            carried = carry_annotations(self.database, space, replaced, created)
            changes.carried += carried.edits
            former_files = {old: location for old, _, location in replaced}
            changes.set_aside += self._drop_orphans(former_files, without_set_aside=carried.contents)
            update_from_sidecars(self.database, former_files)
        return changes

    def _current(self, space: Space) -> Space:
        """Return the space, or the one of the same encoder that has replaced it meanwhile."""
        rows = self.database.all("SELECT identity FROM spaces WHERE id = ?", (space.info.id,))
        if rows and rows[0][0] == space.info.identity:
            return space
        self.reopen()
        for candidate in (self.active, self.filling):
            if candidate is not None and candidate.info.identity == space.info.identity:
                return candidate
        raise CatalogError(
            f"{self.name}: the vectors were replaced by another model's: run the command again"
        )

    def forget(self, files: Sequence[FileLocation]) -> AnnotationChanges:
        """Remove files from the catalogue, and the contents that no other file holds."""
        with self.database.writing():
            return self.forget_within(files)

    def forget_within(self, files: Sequence[FileLocation]) -> AnnotationChanges:
        """Remove files as `forget` does, inside the caller's transaction."""
        former_files: dict[int, FileLocation] = {}
        for path, member in files:
            rows = self.database.all(
                "SELECT content FROM files WHERE path = ? AND member = ?", (path, member)
            )
            former_files.update((row[0], (path, member)) for row in rows if row[0] is not None)
            self.database.run("DELETE FROM files WHERE path = ? AND member = ?", (path, member))
        changes = AnnotationChanges(set_aside=self._drop_orphans(former_files))
        update_from_sidecars(self.database, former_files)
        return changes

    def rename(self, moved: Sequence[tuple[ListedFile, FileLocation]]) -> None:
        """Record files that were moved or renamed: pairs of the file as listed now and its old location."""
        with self.database.writing():
            for file, old_location in moved:
                # The new path may have a row of its own, of a file that was replaced by the moved one; (path,
                # member) is unique.
                self.database.run("DELETE FROM files WHERE path = ? AND member = ?", (file.path, file.member))
                self.database.run(
                    "UPDATE files SET path = ?, member = ?, device = ?, inode = ?, changed = ? "
                    "WHERE path = ? AND member = ?",
                    (file.path, file.member, file.device, file.inode, file.changed, *old_location),
                )

    def _drop_orphans(
        self, former_files: Mapping[int, FileLocation], *, without_set_aside: Collection[int] = ()
    ) -> list[FileLocation]:
        """Remove those of these contents that no file holds, and set their annotations aside.

        `former_files` maps each content to a file that held it; annotations of `without_set_aside` need not
        be saved. Returns the files of contents with annotations.
        """
        orphans = [
            content
            for content in former_files
            if not self.database.all("SELECT 1 FROM files WHERE content = ? LIMIT 1", (content,))
        ]
        if not orphans:
            return []
        annotated = set_aside(
            self.database,
            {content: former_files[content] for content in orphans if content not in without_set_aside},
        )
        # Read the spaces from the database: another process may have created one since `reopen`.
        for state in ("active", "filling"):
            info = read_space(self.database, state)
            if info is None:
                continue
            opened = self.active if state == "active" else self.filling
            if opened is not None and opened.info.id == info.id:
                opened.drop(orphans)
            elif (space := self._open(state)) is not None:
                space.drop(orphans)
                space.close()
        # All of it is one transaction, so a kill leaves either everything or nothing; dead rows in the files
        # of a space are marked in the same transaction.
        for table, column in _CONTENT_COLUMNS:
            self.database.many(f"DELETE FROM {table} WHERE {column} = ?", [(content,) for content in orphans])
        return annotated

    # ------------------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """Number of images that can be searched, which are contents with an embedding."""
        return 0 if self.active is None else len(self.active)

    def stored_results(self, hashes: Sequence[bytes], space: Space) -> dict[bytes, str | None]:
        """Map hashes of contents that need not be decoded again: to None if embedded, else to the error."""
        sql = (
            "SELECT c.hash, c.error FROM contents c LEFT JOIN vectors v ON v.content = c.id AND v.space = ? "
            "WHERE (v.row IS NOT NULL OR c.error IS NOT NULL) AND c.hash IN ({})"
        )
        rows = select_in(self.database, sql, hashes, space.info.id)
        return {bytes(content_hash): error for content_hash, error in rows}

    def sweep(self) -> None:
        """Remove the files of deleted spaces, which a killed process may have left."""
        if self.folder is not None:
            with self.database.writing():
                sweep(self.folder, {row[0] for row in self.database.all("SELECT id FROM spaces")})

    def close(self) -> None:
        """Close the spaces and the database."""
        for space in (self.active, self.filling, *self._readers):
            if space is not None:
                space.close()
        self.database.close()
