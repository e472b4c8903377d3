"""Database connections, one per thread, because a transaction belongs to a connection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from diptych.errors import CatalogError


class Closable(Protocol):
    """A connection that can be closed."""

    def close(self) -> None:
        """Close the connection."""
        ...


C = TypeVar("C", bound=Closable)


class _ConnectionHolder(Generic[C]):
    """Closes its connection when the thread that refers to it ends."""

    def __init__(self, connection: C) -> None:
        self.connection = connection

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be shutting down
            self.connection.close()


class ThreadConnections(Generic[C]):
    """Connections to one database: opened at a thread's first use, closed when the thread ends.

    Parameters
    ----------
    connect : callable
        Opens a connection that another thread may close.
    name : str
        Name of the database in messages.
    is_open : callable, optional
        Whether a connection can be reused; one whose server was restarted is replaced.

    Examples
    --------
    >>> import io
    >>> connections = ThreadConnections(io.StringIO, name="pictures")
    >>> connections.of_this_thread() is connections.of_this_thread()
    True
    >>> others = []
    >>> thread = threading.Thread(target=lambda: others.append(connections.of_this_thread()))
    >>> thread.start(); thread.join()
    >>> others[0] is connections.of_this_thread()
    False
    >>> connections.close()
    """

    def __init__(
        self, connect: Callable[[], C], *, name: str, is_open: Callable[[C], bool] = lambda _: True
    ) -> None:
        self._connect, self._name, self._is_open = connect, name, is_open
        # Dropped when a thread ends, and with it the holder, whose `__del__` closes the connection. So a
        # server with short-lived threads does not pile up connections.
        self._local = threading.local()
        # Threads keep the holders alive (`_local`). The weak set lets `close` reach those of all threads.
        self._holders: WeakSet[_ConnectionHolder[C]] = WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def of_this_thread(self) -> C:
        """Return the connection of the calling thread, opening it if needed.

        Raises
        ------
        CatalogError
            `close` was called.
        """
        holder: _ConnectionHolder[C] | None = getattr(self._local, "holder", None)
        if self._closed:
            raise CatalogError(f"{self._name} was closed: open the catalogue again")
        if holder is None or not self._is_open(holder.connection):
            holder = _ConnectionHolder(self._connect())
            # `close` takes the same lock, so it either sees this connection or prevents its use.
            with self._lock:
                if self._closed:
                    raise CatalogError(f"{self._name} was closed: open the catalogue again")
                self._holders.add(holder)
            self._local.holder = holder
        return holder.connection

    def close(self) -> None:
        """Close the connections of every thread."""
        with self._lock:
            self._closed = True
            for holder in list(self._holders):
                holder.connection.close()
