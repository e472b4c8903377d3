"""Fetching pictures by URL from a local server; the network is not used."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from diptych.errors import ImageError
from diptych.media import Limits, fetch
from tests.waiting import HANG, pause

BODY = b"picture bytes " * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/round/"):  # endless, one chunk per tenth of a second
            pause(0.1)
            self.send_response(302)
            self.send_header("Location", f"/round/{int(self.path.removeprefix('/round/')) + 1}")
            self.end_headers()
            return
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path == "/gone":
            self.send_error(404, "Gone")
            return
        self.send_response(200)
        if self.path == "/short":
            self.send_header("Content-Length", str(len(BODY) + 5))
        if self.path == "/sized":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.path == "/endless":
            for _ in range(10_000):
                self.wfile.write(BODY)
        if self.path == "/slow":
            release.wait(HANG)
        self.wfile.write(BODY)

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()


release = threading.Event()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    release.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_bytes_come_back(server: str) -> None:
    assert fetch(f"{server}/plain", allow_private=True) == BODY
    assert fetch(f"{server}/sized", allow_private=True) == BODY
    assert fetch(f"{server}/to/{server}/plain", allow_private=True) == BODY


@pytest.mark.parametrize(
    "url", ["file:///etc/hosts", "ftp://a.b/c", "data:text/plain,x", "cat.jpg", "", "HTTP:"]
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ImageError, match=r"only http and https|names no host"):
        fetch(url, allow_private=True)


def test_redirects_share_one_limit_of_time(server: str) -> None:
    with pytest.raises(ImageError, match=r"timed out|until the time was over"):
        fetch(f"{server}/round/0", allow_private=True, timeout=0.5)


@pytest.mark.parametrize("target", ["file:///etc/hosts", "ftp://a.b/c"])
def test_redirects_to_other_schemes_are_refused(server: str, target: str) -> None:
    with pytest.raises(ImageError, match=r"only http and https|is not allowed"):
        fetch(f"{server}/to/{target}", allow_private=True)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0"),
        *("[::1]", "[::ffff:127.0.0.1]", "224.0.0.1", "2130706433"),
    ],
)
def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(ImageError, match=r"on a private network|cannot be fetched"):
        fetch(f"http://{host}:9/", timeout=2)


def test_a_redirect_to_a_private_address_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.media.urls._CheckedConnection.check_address", False)
    judged: list[str] = []

    def refuse(address: str) -> None:
        judged.append(address)
        if len(judged) > 1:
            raise ImageError("on a private network")

    monkeypatch.setattr("diptych.media.urls._refuse_private", refuse)
    monkeypatch.setattr("diptych.media.urls._connection", lambda kind, *_: kind)
    with pytest.raises(ImageError, match="private network"):
        fetch(f"{server}/to/{server}/plain")
    assert judged == ["127.0.0.1", "127.0.0.1"]


def test_a_name_that_changes_its_address_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, port = socket.getaddrinfo, int(server.rpartition(":")[2])
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))]]

    def rebind(host: str, *args: Any, **options: Any) -> Any:
        return answers.pop() if answers else real("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    with pytest.raises(ImageError, match=r"127\.0\.0\.1 is on a private network"):
        fetch(f"http://example.com:{port}/plain")


@pytest.mark.parametrize("path", ["endless", "sized"])
def test_size_is_limited_while_reading(server: str, path: str) -> None:
    with pytest.raises(ImageError, match=r"over the limit of .* --max-pixels"):
        fetch(f"{server}/{path}", limits=Limits(max_bytes=len(BODY) - 1), allow_private=True)


def test_failures_are_named(server: str) -> None:
    with pytest.raises(ImageError, match=r"/gone: the server answered 404 Gone"):
        fetch(f"{server}/gone", allow_private=True)
    with pytest.raises(ImageError, match=r"/short: .*(ended after 14,000 of 14,005|IncompleteRead)"):
        fetch(f"{server}/short", allow_private=True)
    with pytest.raises(ImageError, match=r"/slow: cannot be fetched: .*timed out"):
        fetch(f"{server}/slow", allow_private=True, timeout=0.3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ImageError, match="cannot be fetched"):
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/", allow_private=True)
    with pytest.raises(ImageError, match="cannot be fetched"):
        fetch("http://[bad/", allow_private=True)
