"""Work ahead of its consumer in threads: bounded, and with results in order.

Use both functions inside `worker_threads`, so that nothing runs on when the consumer stops early.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result_co = TypeVar("Result_co", covariant=True)


class Task(Protocol[Result_co]):
    """Work that was submitted, such as a `Future`."""

    def result(self) -> Result_co:
        """Wait for the result, or raise the error of the work."""


@contextmanager
def worker_threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads; at the end of the block tasks that have not begun are dropped."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def map_ahead(
    submit: Callable[[Item], Task[Result_co]], items: Iterable[Item], ahead: int | Callable[[], int]
) -> Iterator[Result_co]:
    """Submit items in advance, and yield their results in the order of the items.

    An error of the work on an item is raised where its result is due; an error of `items` itself is raised at
    once, and results in advance are lost.

    Parameters
    ----------
    submit : callable
        Starts the work on an item.
    items : iterable
        Iterated in the thread of the consumer, never further than the results in advance.
    ahead : int or callable
        Largest number of items that are in progress or done and waiting; a callable is asked before each
        result, for a bound that depends on the results so far.

    Examples
    --------
    >>> with worker_threads(2, "squares") as pool:
    ...     list(map_ahead(lambda n: pool.submit(pow, n, 2), range(5), 3))
    [0, 1, 4, 9, 16]
    """
    remaining = iter(items)
    running: deque[Task[Result_co]] = deque()
    while True:
        limit = ahead if isinstance(ahead, int) else ahead()
        running.extend(map(submit, islice(remaining, max(limit - len(running), 0))))
        if not running:
            return
        yield running.popleft().result()


def read_ahead(pool: ThreadPoolExecutor, items: Iterator[Item]) -> Iterator[Item]:
    """Advance an iterator in a thread, one item ahead of the consumer; never in two threads at a time.

    Examples
    --------
    >>> with worker_threads(1, "reader") as pool:
    ...     list(read_ahead(pool, iter("abc")))
    ['a', 'b', 'c']
    """
    end = object()
    following = pool.submit(next, items, end)
    while (item := following.result()) is not end:
        following = pool.submit(next, items, end)
        yield item  # type: ignore[misc]  # not the object that marks the end
