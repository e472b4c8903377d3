"""Download a file over HTTP; used only when a caller passes a URL explicitly.

URLs may come from untrusted sources (lists of URLs, requests to a server). So only http and https are
allowed, also in redirects, addresses in private networks are refused, and size and time are limited while
reading.
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
    """Download the content of an http or https URL.

    Parameters
    ----------
    url : str
        Proxies are taken from the environment variables.
    limits : Limits, optional
        `max_bytes` is enforced while reading, whatever length the server declared.
    timeout : float
        Seconds for the whole download including redirects, and for each single wait for data.
    allow_private : bool
        Also allow this machine and private networks. Keep it off for untrusted URLs.

    Raises
    ------
    ImageError
        Another scheme, a private address, an HTTP error, or a response that is too large or too slow; the
        message names the URL.

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
        with _opener(allow_private, deadline).open(request, timeout=timeout) as response:
            return _read(response, limits, deadline, timeout)
    except ImageError as error:
        raise ImageError(f"{url}: {error}") from error.__cause__
    except urllib.error.HTTPError as error:
        raise ImageError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ImageError(f"{url}: cannot be fetched: {reason or type(error).__name__}") from error


def _read(response: Any, limits: Limits, deadline: float, timeout: float) -> bytes:
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal():
        limits.check_bytes(int(declared))
    data = bytearray()
    while block := response.read1(_BLOCK):
        data += block
        limits.check_bytes(len(data))
        if time.monotonic() > deadline:
            raise ImageError(f"not read to its end within {timeout:g} seconds")
    if declared.isdecimal() and len(data) < int(declared):
        raise ImageError(f"the connection ended after {len(data):,} of {int(declared):,} bytes")
    return bytes(data)


def _check(url: str, allow_private: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme.lower() not in _SCHEMES:
        raise ImageError(f"only http and https addresses are fetched, not {parts.scheme!r}")
    if not parts.hostname:
        raise ImageError("the address names no host")
    if allow_private or _by_proxy(parts.scheme.lower(), parts.netloc):
        # A proxy resolves the name itself, so only a numeric address can be checked here.
        addresses = [parts.hostname] if not allow_private else []
    else:
        records = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in records]
    for address in addresses:
        _refuse_private(address)


def _by_proxy(scheme: str, host: str) -> bool:
    return scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)


def _refuse_private(address: str) -> None:
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return  # a host name, which the proxy resolves
    mapped = getattr(number, "ipv4_mapped", None)
    if not (mapped or number).is_global or number.is_multicast:
        raise ImageError(f"{address} is on a private network (allow_private=True would fetch it)")


def _opener(allow_private: bool, deadline: float) -> urllib.request.OpenerDirector:
    """An opener that supports http, https and proxies, but not file, ftp or data URLs."""
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
    """Checks the target of every redirect like the first URL."""

    def __init__(self, allow_private: bool, deadline: float) -> None:
        self._allow_private, self._deadline = allow_private, deadline

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check(newurl, self._allow_private)
        # The next server gets the remaining time; otherwise ten redirects could take ten times as long.
        req.timeout = self._deadline - time.monotonic()
        if req.timeout <= 0:
            raise ImageError("the time limit was reached during redirects")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _CheckedConnection:
    """Checks the address of the actual connection: a host name may resolve differently the second time."""

    sock: socket.socket
    check_address = False

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        if self.check_address:
            _refuse_private(self.sock.getpeername()[0])


class _HttpConnection(_CheckedConnection, http.client.HTTPConnection):
    """HTTP connection that rejects private addresses."""


class _HttpsConnection(_CheckedConnection, http.client.HTTPSConnection):
    """HTTPS connection that rejects private addresses."""


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
    # The proxy itself may be in a private network: it was configured by the owner of this machine.
    check_address = (
        not allow_private and not request.has_proxy() and not getattr(request, "_tunnel_host", None)
    )

    def make(host: str, **options: Any) -> Any:
        connection: Any = kind(host, **options)
        connection.check_address = check_address
        return connection

    return make
