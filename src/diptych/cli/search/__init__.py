"""Commands that look into a collection: search, similar, duplicates, map."""
