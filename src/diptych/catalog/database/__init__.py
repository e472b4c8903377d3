"""Databases and tables of a catalogue: SQLite and PostgreSQL, schema, migrations, spaces of vectors."""
