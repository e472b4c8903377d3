"""One database connection for each thread: transactions belong to a connection, and must not mix threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from diptych.errors import CatalogError


class Closable(Protocol):
    """What a connection has to have here."""

    def close(self) -> None:
        """End it."""
        ...


C = TypeVar("C", bound=Closable)


class _Held(Generic[C]):
    """A connection that ends with the thread that holds it."""

    def __init__(self, connection: C) -> None:
        self.connection = connection

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be on its way out
            self.connection.close()


class ThreadConnections(Generic[C]):
    """Connections to one database, made when a thread first asks, closed when it ends or all are closed.

    Parameters
    ----------
    connect : callable
        Makes a connection that another thread may close.
    name : str
        Of the database, for messages.
    is_open : callable, optional
        Whether a connection may be used again: one whose server was restarted is replaced.

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
        self._local = threading.local()
        self._held: WeakSet[_Held[C]] = WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def of_this_thread(self) -> C:
        """The connection of the calling thread.

        Raises
        ------
        CatalogError
            All were closed.
        """
        held: _Held[C] | None = getattr(self._local, "held", None)
        if self._closed:
            raise CatalogError(f"{self._name} was closed: open the catalogue again")
        if held is None or not self._is_open(held.connection):
            held = _Held(self._connect())
            with self._lock:  # close() must see every connection
                if self._closed:
                    raise CatalogError(f"{self._name} was closed: open the catalogue again")
                self._held.add(held)
            self._local.held = held
        return held.connection

    def close(self) -> None:
        """Close the connections of every thread."""
        with self._lock:
            self._closed = True
            for held in list(self._held):
                held.connection.close()
