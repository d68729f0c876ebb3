"""A grid on a terminal, drawn anew as it changes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, TextIO

from kaizen.jobs.grid import Grid, Picture
from kaizen.jobs.grid_lines import Line, grid_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_SECONDS_BETWEEN_LOOKS = 1.0


def print_grid(picture: Picture, console: Console) -> None:
    """Print a picture as wide as the console, of whatever height."""
    for line in grid_lines(picture, console.width, 10_000):
        console.print(_text([line]), no_wrap=True, crop=False, overflow="ignore")


def _text(lines: Sequence[Line]) -> Text:
    from rich.text import Text

    found = Text(no_wrap=True, overflow="ignore")
    for number, line in enumerate(lines):
        if number:
            found.append("\n")
        for text, style in line:
            found.append(text, style="" if style == "none" else style)
    return found


class View:
    """A part of a terminal that shows a grid."""

    def __init__(self, grid: Grid, stream: TextIO) -> None:
        """Not yet shown; a context that ends with the last picture."""
        from rich.console import Console
        from rich.live import Live

        self.grid = grid
        self.console = Console(file=stream)
        self._live = Live(console=self.console, auto_refresh=False)
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Show it."""
        self._live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        """Draw it a last time, and leave it there."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(Exception):
            self.refresh()
        self._live.stop()

    def refresh(self) -> bool:
        """Look again; returns whether all is done."""
        with self._lock:
            picture = self.grid.look()
            size = self.console.size
            lines = grid_lines(picture, size.width, max(6, size.height - 1))
            self._live.update(_text(lines), refresh=True)
        return picture.is_done

    def keep_fresh(self) -> None:
        """Look again every second, in a thread, until the context ends."""

        def work() -> None:
            while not self._end.wait(_SECONDS_BETWEEN_LOOKS):
                # What goes wrong in looking must not cost the work that is looked at.
                with contextlib.suppress(Exception):
                    self.refresh()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
