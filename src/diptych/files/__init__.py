"""How bytes are stored: atomic writes, archives, tables, text encodings, locations and path patterns."""
