"""Migration of a catalogue of an earlier format to the current one, in one transaction.

A catalogue holds data that people entered by hand (tags, ratings), so a new version migrates old catalogues
instead of asking for a new one wherever it can.
"""

from __future__ import annotations

from diptych.catalog.database import schema
from diptych.catalog.database.database import Database
from diptych.errors import CatalogError


def migrate(database: Database) -> None:
    """Migrate the tables of a catalogue to the current format.

    Raises
    ------
    CatalogError
        The format is newer, cannot be migrated, or is older and the database is read-only.
    """
    number = _format_of(database)
    if number == schema.FORMAT:
        return
    problem = (
        f"{database.name} is a catalogue of format {number or 'none'}, this version reads {schema.FORMAT}"
    )
    if number is not None and number > schema.FORMAT:
        raise CatalogError(f"{problem}: update diptych")
    if number not in schema.MIGRATIONS:
        raise CatalogError(f"{problem}: index again, into another folder")
    if database.readonly:
        raise CatalogError(f"{problem}: run any command on it once as a user who may write to its folder")
    with database.writing():
        # Read the number again inside the transaction: another process may have migrated meanwhile.
        for step in range(_format_of(database) or 0, schema.FORMAT):
            for statement in schema.statements(schema.MIGRATIONS[step], database.column_types):
                database.run(statement)
        database.run("UPDATE meta SET value = ? WHERE key = 'format'", (str(schema.FORMAT),))


def _format_of(database: Database) -> int | None:
    rows = database.all("SELECT value FROM meta WHERE key = 'format'")
    return int(rows[0][0]) if rows and str(rows[0][0]).isdecimal() else None
