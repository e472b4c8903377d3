"""File storage: atomic writes, tar archives, Parquet, text encodings, locations and path patterns."""
