"""What SIGTERM and SIGINT do to a job."""

from __future__ import annotations

import signal
from types import FrameType

from kaizen.errors import Interrupted
from kaizen.store.node_id import Kind


class StopRequest:
    """A step is asked to save and stop after its batch, any other node ends at once."""

    def __init__(self) -> None:
        """Not yet listening; see `listen`."""
        self.requested = False
        self.can_save = False

    def listen(self) -> None:
        """Install the handlers; only ever in the main thread of a process of its own."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def now_making(self, kind: Kind) -> None:
        """Note what is being made from now on."""
        self.can_save = kind is Kind.STEP

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        if not self.can_save:
            raise Interrupted("stopped; the same command makes this node from its beginning")

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.requested
