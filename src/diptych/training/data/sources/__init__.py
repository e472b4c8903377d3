"""Where pairs come from: tar shards, tables, folders; and their order and length."""
