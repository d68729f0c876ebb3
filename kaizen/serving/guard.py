"""What stands before every request: whom it may be from, how large it is, how many there are, how
long it takes. Whatever happens, the answer is one sentence.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaizen.errors import KaizenError
from kaizen.files import printable, shortened
from kaizen.serving.batching import Full
from kaizen.serving.figures import Figures
from kaizen.serving.limits import Limits
from kaizen.serving.uploads import Refused

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application around another one. ``hosts`` are the names that a request may ask for
    (None: any), so that no page of another site reaches a server of this machine by a name of its
    own; ``paths`` are those that the figures tell apart.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        figures: Figures,
        paths: Collection[str],
        hosts: Collection[str] | None,
    ) -> None:
        """Guard ``app``."""
        self._app, self._limits, self._figures = app, limits, figures
        self._paths, self._hosts = frozenset(paths), hosts
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on; see the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            await self._counted(scope, receive, sending)
        except Exception as error:
            # Starlette raises again what it has answered.
            if not status:
                await refusal(error)(scope, receive, sending)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._figures.requests.labels(path, str(status)).inc()
            self._figures.seconds.labels(path).observe(time.perf_counter() - began)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._refuse_strangers(headers, scope["method"])
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        most = self._limits.max_bytes
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise Refused(413, f"{length[:20]} bytes are more than {most}; send less at once")
        if self._under_way >= self._limits.max_requests:
            raise Refused(503, "too many requests are under way; try again in a moment")
        self._under_way += 1
        self._figures.under_way.set(self._under_way)
        try:
            async with asyncio.timeout(self._limits.timeout):
                await self._app(scope, _limited(receive, most), send)
        except TimeoutError as error:
            raise Refused(504, f"it took longer than {self._limits.timeout:g} s") from error
        finally:
            self._under_way -= 1
            self._figures.under_way.set(self._under_way)

    def _refuse_strangers(self, headers: Headers, method: str) -> None:
        host = headers.get("host", "")
        if self._hosts is not None and _named(f"//{host}")[1] not in self._hosts:
            raise Refused(421, "this server is not the one of that name; ask it by its own")
        origin = headers.get("origin")
        if method == "POST" and origin is not None and _named(origin)[0] != host:
            raise Refused(403, "pages of other sites may not ask this server")


def _named(address: str) -> tuple[str, str]:
    """The host of an address with its port, and without; blank where it is no address."""
    try:
        parts = urlsplit(address)
        return parts.netloc, parts.hostname or ""
    except ValueError:
        return "", ""


def _limited(receive: Receive, most: int) -> Receive:
    """What is received, refused beyond ``most`` bytes."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise Refused(413, f"the request has more than {most} bytes; send less at once")
        return message

    return limited


def refusal(error: Exception) -> Response:
    """The answer to a request that ended in an exception: its status, and one sentence."""
    refused = _as_refused(error)
    headers = {"retry-after": "1"} if refused.status == 503 else {}
    # What a client still sends would be taken for its next request.
    headers["connection"] = "close"
    return JSONResponse({"error": str(refused)}, refused.status, headers)


def _as_refused(error: Exception) -> Refused:
    """What an exception says to the client."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Full):
        return Refused(503, str(error))
    if isinstance(error, KaizenError):
        return Refused(422, shortened(printable(str(error)), 500))
    # Of the server's inside nothing is told; it stands in the server's own log.
    reason = shortened(printable(" ".join(f"{type(error).__name__}: {error}".split())), 500)
    print(f"kaizen: a request failed: {reason}", file=sys.stderr, flush=True)
    return Refused(500, "the server failed on this request; its log says why")


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
