"""Indexing: files are read, embedded and written into the store."""
