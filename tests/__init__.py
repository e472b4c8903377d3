"""The tests: the same folders as the package, and helpers that are imported as `tests.room.module`."""
