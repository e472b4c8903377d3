"""Sources of pairs: tar shards, tables and folders, and the counts of shards."""
