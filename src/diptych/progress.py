"""How long work reports its progress: named stages, each counting what is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

Progress: TypeAlias = Callable[[int], None]  # called with the number of items done since the last call
# Opens a stage by its description and its total number of items, None where that is not known.
Stage: TypeAlias = Callable[[str, int | None], AbstractContextManager[Progress]]


@contextlib.contextmanager
def silent(what: str, total: int | None) -> Iterator[Progress]:
    """A stage that shows nothing.

    Examples
    --------
    >>> with silent("embedding", 100) as progress:
    ...     progress(1)
    """
    yield lambda count: None
