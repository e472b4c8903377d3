"""Nearest-neighbour search over half-precision rows in memory-mapped files: exact, or by an inverted file."""
