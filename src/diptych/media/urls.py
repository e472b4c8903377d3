"""Fetching one picture from the web, only when a caller asks for it by name: nothing here runs by itself.

An address may come from a stranger (a list of URLs, a request to a server), so only http and https are
followed, also through redirects, machines on private networks are refused, and size and time are limited
while reading. Decoding the bytes is left to `images`.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from diptych.errors import ImageError
from diptych.media.sources import Limits

_SCHEMES = ("http", "https")
_BLOCK = 2**16  # bytes
_HEADERS = {"User-Agent": "diptych", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}


def fetch(
    url: str, *, limits: Limits | None = None, timeout: float = 20.0, allow_private: bool = False
) -> bytes:
    """The bytes behind an http or https address.

    Parameters
    ----------
    url : str
        The address. Proxies are taken from the environment, as everywhere.
    limits : Limits, optional
        `max_bytes` is enforced while reading, whatever length the server promised.
    timeout : float
        Seconds for the whole of it, redirects included; for each wait, where a server drips its answer.
    allow_private : bool
        Also reach this machine and private networks. Leave it off where addresses come from others.

    Returns
    -------
    bytes

    Raises
    ------
    ImageError
        Another scheme, a private address, an answer that is no success, too large or too slow; the message
        names the address.

    Examples
    --------
    >>> fetch("file:///etc/hosts")
    Traceback (most recent call last):
        ...
    diptych.errors.ImageError: file:///etc/hosts: only http and https addresses are fetched, not 'file'
    """
    limits = limits or Limits()
    deadline = time.monotonic() + timeout
    try:
        _check(url, allow_private)
        request = urllib.request.Request(url, headers=_HEADERS)
        with _opener(allow_private, deadline).open(request, timeout=timeout) as answer:
            return _read(answer, limits, deadline, timeout)
    except ImageError as error:
        raise ImageError(f"{url}: {error}") from error.__cause__
    except urllib.error.HTTPError as error:
        raise ImageError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ImageError(f"{url}: cannot be fetched: {reason or type(error).__name__}") from error


def _read(answer: Any, limits: Limits, deadline: float, timeout: float) -> bytes:
    promised = answer.headers.get("Content-Length", "")
    if promised.isdecimal():
        limits.check_bytes(int(promised))
    data = bytearray()
    while block := answer.read1(_BLOCK):
        data += block
        limits.check_bytes(len(data))
        if time.monotonic() > deadline:
            raise ImageError(f"not read to its end within {timeout:g} seconds")
    if promised.isdecimal() and len(data) < int(promised):
        raise ImageError(f"the connection ended after {len(data):,} of {int(promised):,} bytes")
    return bytes(data)


def _check(url: str, allow_private: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme.lower() not in _SCHEMES:
        raise ImageError(f"only http and https addresses are fetched, not {parts.scheme!r}")
    if not parts.hostname:
        raise ImageError("the address names no host")
    if allow_private or _by_proxy(parts.scheme.lower(), parts.netloc):
        # A proxy looks the name up by itself, and only an address written as numbers can be judged here.
        addresses = [parts.hostname] if not allow_private else []
    else:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        _refuse_private(address)


def _by_proxy(scheme: str, host: str) -> bool:
    return scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)


def _refuse_private(address: str) -> None:
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return  # a name, which the proxy will look up
    mapped = getattr(number, "ipv4_mapped", None)
    if not (mapped or number).is_global or number.is_multicast:
        raise ImageError(f"{address} is on a private network (allow_private=True would fetch it)")


def _opener(allow_private: bool, deadline: float) -> urllib.request.OpenerDirector:
    """An opener that knows http, https and proxies, and no file, ftp or data addresses."""
    opener = urllib.request.OpenerDirector()
    handlers: tuple[urllib.request.BaseHandler, ...] = (
        urllib.request.ProxyHandler(),
        _Http(allow_private),
        _Https(allow_private),
        _Redirects(allow_private, deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Judges every address a server sends us on to as the first one was judged."""

    def __init__(self, allow_private: bool, deadline: float) -> None:
        self._allow_private, self._deadline = allow_private, deadline

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check(newurl, self._allow_private)
        # What is left for the next server, or ten of them could take ten times as long.
        req.timeout = self._deadline - time.monotonic()
        if req.timeout <= 0:
            raise ImageError("sent on from server to server until the time was over")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Judged:
    """Judges the machine that was really reached: a name may give another address the second time."""

    sock: socket.socket
    judge = False

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        if self.judge:
            _refuse_private(self.sock.getpeername()[0])


class _HttpConnection(_Judged, http.client.HTTPConnection):
    """A judged connection in the open."""


class _HttpsConnection(_Judged, http.client.HTTPSConnection):
    """A judged connection, encrypted."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    def http_open(self, req: Any) -> Any:
        return self.do_open(_connection(_HttpConnection, req, self._allow_private), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    def https_open(self, req: Any) -> Any:
        return self.do_open(_connection(_HttpsConnection, req, self._allow_private), req)


def _connection(kind: type[Any], request: Any, allow_private: bool) -> Any:
    # A proxy may well stand on the private network: it was named by this machine's owner.
    judge = not allow_private and not request.has_proxy() and not getattr(request, "_tunnel_host", None)

    def make(host: str, **options: Any) -> Any:
        connection: Any = kind(host, **options)
        connection.judge = judge
        return connection

    return make
