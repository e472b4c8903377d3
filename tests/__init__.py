"""Tests in the same folder structure as the package; helpers are imported as `tests.room.module`."""
