"""The page of `kaizen watch --browser`, on this machine alone: a server that shows a grid's states.

Whoever else can reach a port of this machine, its other users and every page that the browser has
open, is kept out by an address that cannot be guessed, and by the name that the server is asked
under: a site that lets its own name lead here (DNS rebinding) is refused. It only answers, and
changes nothing.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from kaizen.errors import KaizenError

HOST = "127.0.0.1"
# The names by which this machine knows itself.
_NAMES = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HTML, _CSS, _JS = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript"
# Name in the address -> package and file, and what it is.
_FILES = {
    "": ("kaizen.jobs", "watch.html", _HTML),
    "page.css": ("kaizen.page", "page.css", _CSS),
    "watch.css": ("kaizen.jobs", "watch.css", _CSS),
    "watch.js": ("kaizen.jobs", "watch.js", f"{_JS}; charset=utf-8"),
}
_SECONDS_FOR_A_REQUEST = 10.0
# However many pages are open, the store is looked at no more often.
_SECONDS_BETWEEN_LOOKS = 1.0


class GridServer(ThreadingHTTPServer):
    """Answers at `url` until `shutdown`, or until what waits in `serve_forever` is interrupted."""

    daemon_threads = True

    def __init__(self, look: Callable[[], dict[str, Any]], port: int) -> None:
        """Listen on ``port``, 0: any free one; ``look`` gives the state to show, and is called by
        one thread at a time. Raises KaizenError where the port cannot be had.
        """
        self._look = look
        self._lock = threading.Lock()
        self._state, self._looked = b"", float("-inf")
        self.token = secrets.token_urlsafe(18)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise KaizenError(
                f"--port {port}: {error.strerror}; name another, or 0 for any that is free"
            ) from None

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def state(self) -> bytes:
        """The state as JSON, not older than a second."""
        with self._lock:
            if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
                self._state = json.dumps(self._look(), allow_nan=False).encode()
                self._looked = time.monotonic()
            return self._state

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away in the middle of an answer."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: GridServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "kaizen", ""
    timeout = _SECONDS_FOR_A_REQUEST

    def do_GET(self) -> None:
        """Answer with the page, a part of it, or the state."""
        if not self._is_asked_by_its_name():
            self._say(HTTPStatus.MISDIRECTED_REQUEST, "this server is not the one of that name")
            return
        _, token, name = [*urlsplit(self.path).path.split("/", 2), "", ""][:3]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._say(HTTPStatus.NOT_FOUND, "the address is the one that `kaizen watch` printed")
            return
        if name == "state":
            self._state()
        elif name in _FILES:
            body, kind = _file(name)
            self._answer(HTTPStatus.OK, body, kind)
        else:
            self._say(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _state(self) -> None:
        try:
            state = self.server.state()
        except (KaizenError, OSError) as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        else:
            self._answer(HTTPStatus.OK, state, "application/json")

    def _is_asked_by_its_name(self) -> bool:
        """Whether the request's Host is this machine, by whatever port it came."""
        try:
            return urlsplit(f"//{self.headers.get('Host', '')}").hostname in _NAMES
        except ValueError:
            return False

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._answer(status, json.dumps({"error": text}).encode(), "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for who watches."""


@cache
def _file(name: str) -> tuple[bytes, str]:
    """A part of the page, and what it is."""
    package, file, kind = _FILES[name]
    return resources.files(package).joinpath(file).read_bytes(), kind
