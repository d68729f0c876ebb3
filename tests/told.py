"""A reporter that keeps what a job says, for tests."""

from __future__ import annotations

from kaizen.training.reporter import PlainReporter


class Told(PlainReporter):
    """Keeps notes and alarms."""

    def __init__(self) -> None:
        super().__init__("x", None, None)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def alarm(self, text: str) -> None:
        self.notes.append(text)
