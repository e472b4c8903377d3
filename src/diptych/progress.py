"""Progress of long operations: named stages that count finished items."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

Progress: TypeAlias = Callable[[int], None]  # called with the number of items finished since the last call
# Opens a stage: (description, total number of items or None if unknown) -> context that gives a `Progress`.
Stage: TypeAlias = Callable[[str, int | None], AbstractContextManager[Progress]]


@contextlib.contextmanager
def silent(description: str, total: int | None) -> Iterator[Progress]:
    """A `Stage` that shows nothing.

    Examples
    --------
    >>> with silent("embedding", 100) as progress:
    ...     progress(1)
    """
    yield lambda count: None
