"""Indexing: read and embed files, and save them in the store."""
