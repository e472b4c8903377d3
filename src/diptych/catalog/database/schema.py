"""Tables of a catalogue, in SQL that both SQLite and PostgreSQL accept.

A *content* is an image identified by its bytes; one or more *files* hold it. A *space* is the set of
embeddings made by one encoder, and an entry of *vectors* assigns a row of a space to a content. So copies are
embedded once, a renamed file needs no embedding, and the embeddings of a new encoder are built beside those
in use.

Example: `a.jpg` and its copy `b.jpg` are two rows of `files` with the same `content` 7, one row of `contents`
with id 7, and one row of `vectors` (space 1, row 42, content 7); its embedding is row 42 of space 1.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMAT = 3

# {blob}, {serial} and {real} are the column types whose names differ between the two databases.
# spaces.state: 'active' is searched, 'filling' is to replace it. spaces.golden: see `embedding.golden`.
# dead.bits: one bit per row of a segment. own_data: what a header said where a sidecar overrides it (JSON).
# glances, compared and pairs belong to the search for duplicates.
# Indexes beside the keys: `vectors_content` also ensures one row per content and space. `files_content`
# answers which files hold a content, e.g. whether the last one has gone. `files_sidecar_data` is partial, for
# the few files with sidecars; a query must repeat its condition to use it. `tags_tag`, `contents_taken` and
# `set_aside_path` serve filters and returning files. Paths are bytes: a file name need not be valid in any
# encoding.
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE spaces (
    id {serial},
    identity TEXT NOT NULL,
    model TEXT NOT NULL,
    dim INTEGER NOT NULL,
    segment_rows INTEGER NOT NULL,
    state TEXT NOT NULL,
    row_count BIGINT NOT NULL DEFAULT 0,
    golden {blob} NOT NULL,
    background {blob}
);

CREATE TABLE contents (
    id {serial},
    hash {blob} NOT NULL UNIQUE,
    bytes BIGINT NOT NULL,
    format TEXT,
    width INTEGER,
    height INTEGER,
    taken TEXT,
    taken_from TEXT,
    own_data TEXT NOT NULL DEFAULT '',
    latitude {real},
    longitude {real},
    camera TEXT,
    difference_hash BIGINT,
    perceptual_hash BIGINT,
    error TEXT
);
CREATE INDEX contents_taken ON contents (taken);

CREATE TABLE vectors (
    space BIGINT NOT NULL,
    row BIGINT NOT NULL,
    content BIGINT NOT NULL,
    PRIMARY KEY (space, row)
);
CREATE UNIQUE INDEX vectors_content ON vectors (content, space);

CREATE TABLE dead (
    space BIGINT NOT NULL,
    segment BIGINT NOT NULL,
    bits {blob} NOT NULL,
    PRIMARY KEY (space, segment)
);

CREATE TABLE files (
    id {serial},
    path {blob} NOT NULL,
    member TEXT NOT NULL DEFAULT '',
    content BIGINT,
    bytes BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    device BIGINT NOT NULL,
    inode BIGINT NOT NULL,
    changed BIGINT NOT NULL DEFAULT 0,
    sidecar BIGINT NOT NULL,
    sidecar_data TEXT NOT NULL DEFAULT '',
    caption TEXT NOT NULL DEFAULT '',
    error TEXT,
    UNIQUE (path, member)
);
CREATE INDEX files_content ON files (content);
CREATE INDEX files_sidecar_data ON files (content) WHERE sidecar_data <> '';

CREATE TABLE tags (
    content BIGINT NOT NULL,
    tag TEXT NOT NULL,
    score {real} NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (content, tag, origin)
);
CREATE INDEX tags_tag ON tags (tag);

CREATE TABLE ratings (
    content BIGINT NOT NULL,
    origin TEXT NOT NULL,
    rating INTEGER NOT NULL,
    PRIMARY KEY (content, origin)
);

CREATE TABLE set_aside (
    hash {blob} PRIMARY KEY,
    path {blob} NOT NULL,
    member TEXT NOT NULL,
    difference_hash BIGINT,
    perceptual_hash BIGINT,
    taken TEXT,
    annotations TEXT NOT NULL
);
CREATE INDEX set_aside_path ON set_aside (path);

CREATE TABLE archives (
    path {blob} PRIMARY KEY,
    bytes BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    members BIGINT NOT NULL
);

CREATE TABLE glances (
    content BIGINT PRIMARY KEY,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    grey {blob} NOT NULL,
    cells {blob} NOT NULL,
    words {blob} NOT NULL
);

CREATE TABLE compared (content BIGINT PRIMARY KEY, depth BIGINT NOT NULL);

CREATE TABLE pairs (
    first BIGINT NOT NULL,
    second BIGINT NOT NULL,
    tier TEXT NOT NULL,
    change TEXT NOT NULL,
    whole BIGINT,
    bits BIGINT,
    cosine {real},
    pixels {real},
    box TEXT,
    PRIMARY KEY (first, second)
);
CREATE INDEX pairs_second ON pairs (second);

CREATE TABLE roots (
    path {blob} PRIMARY KEY,
    finished TEXT,
    exclude TEXT NOT NULL DEFAULT '[]',
    archives INTEGER NOT NULL DEFAULT 1,
    system_folders INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE forgotten (path {blob} PRIMARY KEY);

CREATE TABLE runs (id {serial}, beat {real} NOT NULL)
"""

# Statements that migrate a catalogue of format n to format n + 1, by n.
# A migration repeats statements of `TABLES` on purpose: it must go on making format 3 when `TABLES` makes
# format 4. DELETE FROM archives lets the next run list their members again, since this version looks for more
# files beside them.
MIGRATIONS: Mapping[int, str] = {
    2: """
ALTER TABLE contents ADD COLUMN taken_from TEXT;
ALTER TABLE contents ADD COLUMN own_data TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN changed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN sidecar_data TEXT NOT NULL DEFAULT '';
CREATE INDEX files_sidecar_data ON files (content) WHERE sidecar_data <> '';
ALTER TABLE roots ADD COLUMN archives INTEGER NOT NULL DEFAULT 1;
ALTER TABLE roots ADD COLUMN system_folders INTEGER NOT NULL DEFAULT 0;
CREATE TABLE ratings (
    content BIGINT NOT NULL,
    origin TEXT NOT NULL,
    rating INTEGER NOT NULL,
    PRIMARY KEY (content, origin)
);
CREATE TABLE set_aside (
    hash {blob} PRIMARY KEY,
    path {blob} NOT NULL,
    member TEXT NOT NULL,
    difference_hash BIGINT,
    perceptual_hash BIGINT,
    taken TEXT,
    annotations TEXT NOT NULL
);
CREATE INDEX set_aside_path ON set_aside (path);
CREATE TABLE forgotten (path {blob} PRIMARY KEY);
DELETE FROM archives
"""
}

# Temporary tables of one comparison with the disk (`files.comparison`); each connection has its own.
# found: every file listed now; gone: known files that were not listed; pending: files to be read.
# They are not locked by others, and a kill leaves nothing behind. IF NOT EXISTS, because the
# connection of `index --watch` makes one comparison after another.
LISTING_TABLES = """
CREATE TEMP TABLE IF NOT EXISTS found (
    path {blob} NOT NULL,
    member TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    device BIGINT NOT NULL,
    inode BIGINT NOT NULL,
    sidecar BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (path, member)
);
CREATE INDEX IF NOT EXISTS found_inode ON found (inode);
CREATE TEMP TABLE IF NOT EXISTS gone (path {blob} NOT NULL, member TEXT NOT NULL, PRIMARY KEY (path, member));
CREATE TEMP TABLE IF NOT EXISTS pending (
    id {serial},
    path {blob} NOT NULL,
    member TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    device BIGINT NOT NULL,
    inode BIGINT NOT NULL,
    sidecar BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    verify INTEGER NOT NULL
)
"""

SQLITE_TYPES: Mapping[str, str] = {
    "blob": "BLOB",
    # AUTOINCREMENT never reuses a number: another process may still refer to a deleted space or content.
    "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "real": "REAL",
}
POSTGRES_TYPES: Mapping[str, str] = {
    "blob": "BYTEA",
    "serial": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    "real": "DOUBLE PRECISION",
}


def statements(text: str, column_types: Mapping[str, str]) -> list[str]:
    """Split `TABLES` or `LISTING_TABLES` into statements, with the column types of one database.

    Examples
    --------
    >>> statements(TABLES, SQLITE_TYPES)[0]
    'CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)'
    """
    return [statement.strip() for statement in text.format(**column_types).split(";") if statement.strip()]
