"""Commands that fill and keep a collection: index, tag, catalog."""
