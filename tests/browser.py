"""A Chromium for pages on disk, with no network: sizes, light and dark, downloads, pictures."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

from chromium import Chromium

_SECONDS = 90.0
_READY = "document.documentElement?.dataset.ready !== undefined"


class Browser(Chromium):
    """One page; ``errors`` are what its console said since it was opened, ``requests`` what it
    asked for.
    """

    def __init__(self, folder: Path) -> None:
        """Start it with a profile and downloads in ``folder``."""
        super().__init__(folder)
        self.downloads = folder / "downloads"
        self.downloads.mkdir(exist_ok=True)
        place = str(self.downloads.absolute())
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=place)

    @property
    def errors(self) -> list[str]:
        return self.complaints()

    @property
    def requests(self) -> list[str]:
        return self.requested()

    def call(self, method: str, **params: Any) -> Any:
        """The result of a DevTools method."""
        return self.send(method, **params)

    def js(self, expression: str) -> Any:
        """The value of JavaScript, awaited."""
        return self.value(expression)

    def show(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page from disk and wait until its figures are drawn."""
        self.events.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.send("Page.navigate", url=path.absolute().as_uri())
        self.wait(_READY, _SECONDS)

    def settled(self, act: str) -> None:
        """Do something that draws the figures again, and wait for them."""
        self.js("delete document.documentElement.dataset.ready")
        self.js(act)
        self.wait(_READY, _SECONDS)

    def shot(self, path: Path, whole: bool = False) -> None:
        """A picture of what is in view, or of the whole page."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **(
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
