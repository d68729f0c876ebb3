"""A real Chromium, headless, by its DevTools protocol over a websocket."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from servers import ended

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
    # Whatever a page asks for elsewhere, it does not get.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Chromium:
    """A browser with one page; skips the test where there is none, or no websocket-client."""

    def __init__(self, folder: Path) -> None:
        """Start it with a new profile in ``folder``."""
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            pytest.skip("chromium is not installed (Debian's package chromium)")
        websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
        profile = folder / "profile"
        profile.mkdir(parents=True)
        with open(folder / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        try:
            port = self._port(profile / "DevToolsActivePort")
            self._socket = websocket.create_connection(
                self._page(port), timeout=60, suppress_origin=True
            )
            for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
                self.send(f"{domain}.enable")
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        ended(self._process, 20)

    def _port(self, file: Path) -> int:
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            if file.exists() and (lines := file.read_text().split()):
                return int(lines[0])
            time.sleep(0.1)
        raise AssertionError("Chromium did not start")

    @staticmethod
    def _page(port: int) -> str:
        import urllib.request

        until = time.monotonic() + 30
        while time.monotonic() < until:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as found:
                pages = [one for one in json.load(found) if one["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(0.1)
        raise AssertionError("Chromium has no page")

    def send(self, method: str, **params: Any) -> Any:
        """The result of a command of the protocol; what happens meanwhile goes to ``events``."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.events.append(message)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """The value of JavaScript, awaited."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> None:
        """Wait until JavaScript is true."""
        until = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < until, (
                f"{expression}: {self.value('document.body.innerText')}"
            )
            time.sleep(0.05)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a page's field."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str, code: str, number: int, text: str = "") -> None:
        """Press and release a key."""
        about = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def accessible(self) -> list[tuple[str, str]]:
        """What a screen reader has of the page: role and name of each node."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return [
            (node.get("role", {}).get("value", ""), node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]

    def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])

    def requested(self) -> list[str]:
        """The addresses that were asked for so far."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the console has of errors and warnings, and exceptions."""
        return [json.dumps(event["params"]) for event in self.events if _complains(event)]


def _complains(event: dict[str, Any]) -> bool:
    params = event["params"]
    if event["method"] == "Log.entryAdded":
        return params["entry"]["level"] in ("error", "warning")
    if event["method"] == "Runtime.consoleAPICalled":
        return params["type"] in ("error", "warning")
    return bool(event["method"] == "Runtime.exceptionThrown")
