"""What a catalogue knows besides vectors: pictures by their bytes, the files that hold them, what went wrong.

Everything is written here, in transactions. A content without files goes, and its vectors with it; a file
whose content is known already is a row and nothing more. What pictures look like to a reader is `entries`'s
business, walking the disk is `scan`'s, encoding `intake`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np

from diptych.catalog.annotations.annotations import Fate, Place, annotate, bring_back, set_aside
from diptych.catalog.annotations.edits import carry
from diptych.catalog.annotations.metadata_rows import keep_details, sum_up_sidecars
from diptych.catalog.annotations.records import DECODED, FileRecord, Found, Picture, Reread
from diptych.catalog.database import schema
from diptych.catalog.database.database import Database, Sqlite, in_parts
from diptych.catalog.database.file_space import FileSpace, sweep
from diptych.catalog.database.migrating import migrate
from diptych.catalog.database.postgres import Postgres, PostgresSpace, is_address
from diptych.catalog.database.spaces import Space, create_space, read_space
from diptych.errors import CatalogError
from diptych.files.disk import saving
from diptych.vectors.segments import SEGMENT_ROWS

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

FILE = "catalog.sqlite"

# What goes with a content, by table and column; the content itself last.
_OF_CONTENTS = (
    *(("tags", "content"), ("ratings", "content"), ("glances", "content"), ("compared", "content")),
    *(("pairs", "first"), ("pairs", "second"), ("contents", "id")),
)


class Store:
    """The database of a catalogue, and its spaces.

    Parameters
    ----------
    database : Database
    folder : path, optional
        Where the spaces' rows lie; None where the database keeps them.

    Attributes
    ----------
    name : str
        Of the catalogue, for messages.
    active, filling : Space or None
        The space that is searched, and one that is to take its place.
    """

    def __init__(self, database: Database, folder: Path | None) -> None:
        self.database, self.folder = database, folder
        self.name = database.name if folder is None else str(folder)
        self.active: Space | None = None
        self.filling: Space | None = None
        self._readers: WeakSet[Space] = WeakSet()
        self.reopen()

    def reopen(self) -> None:
        """See which spaces there are now; those of before stay open: a thread may be writing into one."""
        self.active, self.filling = self._open("active"), self._open("filling")

    def _open(self, state: str) -> Space | None:
        info = read_space(self.database, state)
        if info is None:
            return None
        if self.folder is None:
            return PostgresSpace(self.database, info)
        return FileSpace(self.database, self.folder, info)

    def open_for_reader(self) -> Space | None:
        """The active space once more, for a reader of its own: what this store writes does not move it."""
        if (space := self._open("active")) is not None:
            self._readers.add(space)
        return space

    @classmethod
    def create(cls, place: str | Path) -> Store:
        """Open a catalogue, made if it is not there; two processes may do so at once.

        Parameters
        ----------
        place : path or str
            A folder, or the address of a PostgreSQL database.

        Raises
        ------
        CatalogError
            The folder holds other things.
        """
        if is_address(place):
            database: Database = Postgres(str(place))
            folder = None
        else:
            folder = Path(place)
            with saving(folder):
                folder.mkdir(parents=True, exist_ok=True)
                if not (folder / FILE).exists() and any(folder.iterdir()):
                    raise CatalogError(
                        f"{folder} holds other things and no catalogue: name a folder of its own, such as "
                        f"{folder / '.diptych'}"
                    )
            database = Sqlite(folder / FILE, create=True)
        try:
            with database.writing():
                if not database.has_table("meta"):
                    for statement in schema.statements(schema.TABLES, database.words):
                        database.run(statement)
                    database.run("INSERT INTO meta (key, value) VALUES ('format', ?)", (str(schema.FORMAT),))
            return cls._checked(database, folder)
        except BaseException:
            database.close()
            raise

    @classmethod
    def open(cls, place: str | Path) -> Store:
        """Open a catalogue.

        Raises
        ------
        CatalogError
            There is none, it is damaged, or of a later version.
        """
        none = "there is no catalogue in {}: make one with  diptych index PATH"
        folder = None if is_address(place) else Path(place)
        if folder is not None and not (folder / FILE).is_file():
            raise CatalogError(none.format(folder))
        database: Database = Postgres(str(place)) if folder is None else Sqlite(folder / FILE)
        try:
            if folder is None and not database.has_table("meta"):
                raise CatalogError(none.format(database.name))  # an address may hold a password
            return cls._checked(database, folder)
        except BaseException:
            database.close()
            raise

    @classmethod
    def _checked(cls, database: Database, folder: Path | None) -> Store:
        migrate(database)
        return cls(database, folder)

    def begin_space(self, identity: str, model: str, golden: FloatArray, *, state: str = "active") -> Space:
        """The space in this state, begun if there is none.

        Raises
        ------
        CatalogError
            Another process has begun one with another encoder.
        """
        with self.database.writing():
            there = read_space(self.database, state)
            if there is None:
                create_space(self.database, identity, model, golden, state=state, segment_rows=SEGMENT_ROWS)
            elif there.identity != identity:
                raise CatalogError(
                    f"another process is filling {self.name} with {there.told}: wait for it, or stop it"
                )
        self.reopen()
        space = self.active if state == "active" else self.filling
        assert space is not None
        return space

    # ------------------------------------------------------------------------------------------ writing

    def keep(self, pictures: Sequence[Picture], space: Space, reread: Reread | None = None) -> Fate:
        """Keep pictures with their files and vectors: all of them, or none.

        A content that is known gets the files; a file that held another content before lets go of it. What
        became of tags and ratings that were made here is returned; `reread` learns of files known before.
        """
        reread = reread or Reread()
        with self.database.writing():
            fate = Fate()
            described: set[int] = set()
            replaced: list[tuple[int, int | None, Place]] = []  # content before, content now, file
            numbers: list[int] = []
            rows: list[FloatArray] = []
            waiting = bool(self.database.all("SELECT 1 FROM set_aside LIMIT 1"))
            created: set[int] = set()  # contents that are new, and could be decoded
            for picture in pictures:
                content = self._content(picture, created)
                if content is not None and picture.details is not None:
                    keep_details(self.database, content, picture.details, known=picture.known)
                if content is not None and picture.annotations:
                    annotate(self.database, content, picture.annotations)
                for record in picture.files:
                    place = (record.found.path, record.found.member)
                    if (
                        before := self._file(record, content, reread, picture.vector is not None)
                    ) is not None:
                        replaced.append((before, content, place))
                    if waiting and content is not None:
                        fate.brought_back += bring_back(self.database, content, place)
                described |= set() if content is None else {content}
                if content is not None and picture.vector is not None:
                    numbers.append(content)
                    rows.append(picture.vector)
            if rows or replaced:
                space = self._current(space)
            if rows:
                space.put(numbers, np.stack(rows))
            sum_up_sidecars(self.database, described)
            carried = carry(self.database, space, replaced, created)
            fate.carried += carried.edits
            left = {before: place for before, _, place in replaced}
            fate.set_aside += self._drop_orphans(left, without_trace=carried.contents)
            sum_up_sidecars(self.database, left)
        return fate

    def _current(self, space: Space) -> Space:
        """The space, or the one of the same encoder that has taken its place meanwhile."""
        found = self.database.all("SELECT identity FROM spaces WHERE id = ?", (space.info.id,))
        if found and found[0][0] == space.info.identity:
            return space
        self.reopen()
        for one in (self.active, self.filling):
            if one is not None and one.info.identity == space.info.identity:
                return one
        raise CatalogError(
            f"{self.name}: the vectors were replaced by another model's: run the command again"
        )

    def forget(self, files: Sequence[Place]) -> Fate:
        """Take files out of the catalogue, and the pictures that no other file holds."""
        with self.database.writing():
            return self.forget_within(files)

    def forget_within(self, files: Sequence[Place]) -> Fate:
        """Do as `forget`, inside a transaction of the caller."""
        left: dict[int, Place] = {}
        for path, member in files:
            rows = self.database.all(
                "SELECT content FROM files WHERE path = ? AND member = ?", (path, member)
            )
            left.update((row[0], (path, member)) for row in rows if row[0] is not None)
            self.database.run("DELETE FROM files WHERE path = ? AND member = ?", (path, member))
        fate = Fate(set_aside=self._drop_orphans(left))
        sum_up_sidecars(self.database, left)
        return fate

    def rename(self, moved: Sequence[tuple[Found, tuple[bytes, str]]]) -> None:
        """Files that are the same ones under another name: (as found now, path and member before)."""
        with self.database.writing():
            for found, before in moved:
                self.database.run(
                    "DELETE FROM files WHERE path = ? AND member = ?", (found.path, found.member)
                )
                self.database.run(
                    "UPDATE files SET path = ?, member = ?, device = ?, inode = ?, changed = ? "
                    "WHERE path = ? AND member = ?",
                    (found.path, found.member, found.device, found.inode, found.changed, *before),
                )

    def _content(self, picture: Picture, created: set[int]) -> int | None:
        """The number of a picture's content; of one that is new and sound, in `created` too."""
        if picture.hash is None:
            return None
        known = self.database.all("SELECT id FROM contents WHERE hash = ?", (picture.hash,))
        if known and picture.known:
            return int(known[0][0])
        decoded = picture.decoded()
        if known and picture.error is not None and self._is_seen(known[0][0]):
            # It could be decoded once, so what is known of it is true; only this encoder has not seen it.
            self.database.run("UPDATE contents SET error = ? WHERE id = ?", (picture.error, known[0][0]))
            return int(known[0][0])
        if known:
            names = ", ".join(f"{name} = ?" for name in DECODED)
            self.database.run(f"UPDATE contents SET {names} WHERE id = ?", (*decoded, known[0][0]))
            return int(known[0][0])
        marks = ", ".join("?" * (len(decoded) + 2))
        self.database.run(
            f"INSERT INTO contents (hash, bytes, {', '.join(DECODED)}) VALUES ({marks})",
            (picture.hash, picture.size, *decoded),
        )
        content = int(self.database.all("SELECT id FROM contents WHERE hash = ?", (picture.hash,))[0][0])
        if picture.error is None:
            created.add(content)
        return content

    def _is_seen(self, content: int) -> bool:
        """Whether some space has a row of it."""
        return bool(self.database.all("SELECT 1 FROM vectors WHERE content = ? LIMIT 1", (content,)))

    def _file(self, record: FileRecord, content: int | None, reread: Reread, embedded: bool) -> int | None:
        """Keep a file; the content it held before, if that was another one."""
        found = record.found
        if record.unreachable and self.database.run(
            "UPDATE files SET error = ? WHERE path = ? AND member = ? AND content IS NOT NULL",
            (record.error, found.path, found.member),
        ):
            return None  # a drive that is not there: what is known of it stays, and its state too
        before = self.database.all(
            "SELECT content, bytes, modified, sidecar FROM files WHERE path = ? AND member = ?",
            (found.path, found.member),
        )
        if before and content is not None and before[0][1:] == (found.size, found.modified, found.sidecar):
            reread.same += before[0][0] == content and not embedded
            if before[0][0] not in (content, None):
                reread.differing.append((found.path, found.member))
        self.database.run(
            "INSERT INTO files "
            "(path, member, bytes, modified, device, inode, sidecar, changed, content, caption, "
            "sidecar_data, error) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path, member) DO UPDATE SET "
            "bytes = excluded.bytes, modified = excluded.modified, device = excluded.device, "
            "inode = excluded.inode, sidecar = excluded.sidecar, changed = excluded.changed, "
            "content = excluded.content, caption = excluded.caption, "
            "sidecar_data = excluded.sidecar_data, error = excluded.error",
            (*found.row(), content, record.caption, record.sidecar_data, record.error),
        )
        return before[0][0] if before and before[0][0] not in (None, content) else None

    def _drop_orphans(self, left: Mapping[int, Place], *, without_trace: Collection[int] = ()) -> list[Place]:
        """Remove contents without files, and set their annotations aside; the files of those that had any."""
        gone = [
            content
            for content in left
            if not self.database.all("SELECT 1 FROM files WHERE content = ? LIMIT 1", (content,))
        ]
        if not gone:
            return []
        kept = set_aside(
            self.database, {content: left[content] for content in gone if content not in without_trace}
        )
        # Other processes may have begun a space since this one looked.
        for state in ("active", "filling"):
            info = read_space(self.database, state)
            if info is None:
                continue
            ours = self.active if state == "active" else self.filling
            if ours is not None and ours.info.id == info.id:
                ours.drop(gone)
            elif (space := self._open(state)) is not None:
                space.drop(gone)
                space.close()
        for table, column in _OF_CONTENTS:
            self.database.many(f"DELETE FROM {table} WHERE {column} = ?", [(one,) for one in gone])
        return kept

    # ------------------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """Pictures that can be found: contents with a vector."""
        return 0 if self.active is None else len(self.active)

    def known(self, hashes: Sequence[bytes], space: Space) -> dict[bytes, str | None]:
        """Those of these contents that need not be decoded again: embedded (None), or broken and why."""
        known: dict[bytes, str | None] = {}
        for marks, part in in_parts(hashes):
            for found, error in self.database.all(
                "SELECT c.hash, c.error FROM contents c "
                "LEFT JOIN vectors v ON v.content = c.id AND v.space = ? "
                f"WHERE c.hash IN ({marks}) AND (v.row IS NOT NULL OR c.error IS NOT NULL)",
                (space.info.id, *part),
            ):
                known[bytes(found)] = error
        return known

    def sweep(self) -> None:
        """Remove what a killed process may have left of spaces that are no more."""
        if self.folder is not None:
            with self.database.writing():
                sweep(self.folder, {row[0] for row in self.database.all("SELECT id FROM spaces")})

    def close(self) -> None:
        """Let go of files and maps."""
        for space in (self.active, self.filling, *self._readers):
            if space is not None:
                space.close()
        self.database.close()
