"""A real Chromium without a head or a network, driven by DevTools; tests skip without it."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--force-color-profile=srgb",
    # Nothing but files: every name leads nowhere.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
_SECONDS = 90.0


class Browser:
    """One page of a Chromium; ``errors`` are what its console said, ``requests`` what it asked
    for.
    """

    def __init__(self, socket: Any, downloads: Path) -> None:
        """Listen on an open DevTools ``socket``; downloads go to a folder."""
        self._socket, self._last, self.downloads = socket, 0, downloads
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads.absolute())
        )

    def call(self, method: str, **params: Any) -> Any:
        """The result of a DevTools method; events that come before it are noted."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if event == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        if event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(str(params["args"]))
        if event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + _SECONDS
        while not self.js(expression):
            assert time.monotonic() < until, f"{expression} did not become true; {self.errors}"
            time.sleep(0.05)

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page from disk and wait until its figures are drawn."""
        self.errors.clear()
        self.requests.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.wait("document.documentElement?.dataset.ready !== undefined")

    def settled(self, act: str) -> None:
        """Do something that draws the figures again, and wait for them."""
        self.js("delete document.documentElement.dataset.ready")
        self.js(act)
        self.wait("document.documentElement?.dataset.ready !== undefined")

    def shot(self, path: Path, whole: bool = False) -> None:
        """A picture of what is in view, or of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **(
            {"clip": {"x": 0, "y": 0, "scale": 1,
                      "width": self.js("document.documentElement.clientWidth"),
                      "height": self.js("document.documentElement.scrollHeight")}}
            if whole else {}))  # fmt: skip
        path.write_bytes(base64.b64decode(found["data"]))

    def downloaded(self, name: str) -> bytes:
        """The bytes of a finished download."""
        place, until = self.downloads / name, time.monotonic() + _SECONDS
        while not place.exists():
            assert time.monotonic() < until, f"{name} was not downloaded"
            self.js("0")
            time.sleep(0.05)
        return place.read_bytes()


def chromium() -> str | None:
    """The Chromium of this machine; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium with a new profile below ``folder``; ends it."""
    program = chromium()
    if program is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    websocket = pytest.importorskip("websocket")
    profile = folder / "profile"
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        )
    try:
        port = _port(profile / "DevToolsActivePort", process)
        with contextlib.closing(_connect(websocket, port, downloads)) as opened:
            yield opened
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(path: Path, process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + _SECONDS
    while not (path.exists() and path.read_text().strip()):
        assert process.poll() is None, "chromium ended at its start"
        assert time.monotonic() < until, "chromium did not start"
        time.sleep(0.05)
    return int(path.read_text().split("\n")[0])


def _connect(websocket: Any, port: int, downloads: Path) -> Browser:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json", timeout=_SECONDS) as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    socket = websocket.create_connection(
        pages[0]["webSocketDebuggerUrl"],
        timeout=_SECONDS,
        http_no_proxy=["127.0.0.1"],
        suppress_origin=True,
    )
    return Browser(socket, downloads)
