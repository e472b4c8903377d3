"""A catalogue of an earlier format brought to this version's format, in one transaction.

What a catalogue holds besides vectors (tags, ratings, captions) was partly made by hand, so a new version
never asks for a new catalogue where the old one can be brought on.
"""

from __future__ import annotations

from diptych.catalog.database import schema
from diptych.catalog.database.database import Database
from diptych.errors import CatalogError


def migrate(database: Database) -> None:
    """Bring the tables of a catalogue to this version's format.

    Raises
    ------
    CatalogError
        The catalogue is of a later format, of one that cannot be brought on, or of an earlier one and may
        not be written to.
    """
    number = _format_of(database)
    if number == schema.FORMAT:
        return
    named = f"{database.name} is a catalogue of format {number or 'none'}, this version reads {schema.FORMAT}"
    if number is not None and number > schema.FORMAT:
        raise CatalogError(f"{named}: update diptych")
    if number not in schema.MIGRATIONS:
        raise CatalogError(f"{named}: index again, into another folder")
    if database.readonly:
        raise CatalogError(f"{named}: run any command on it once as a user who may write to its folder")
    with database.writing():
        # Another process may have done it since the number was read.
        for step in range(_format_of(database) or 0, schema.FORMAT):
            for statement in schema.statements(schema.MIGRATIONS[step], database.words):
                database.run(statement)
        database.run("UPDATE meta SET value = ? WHERE key = 'format'", (str(schema.FORMAT),))


def _format_of(database: Database) -> int | None:
    rows = database.all("SELECT value FROM meta WHERE key = 'format'")
    return int(rows[0][0]) if rows and str(rows[0][0]).isdecimal() else None
