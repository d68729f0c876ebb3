"""The model that answers, the one before it, and why another was not taken."""

from __future__ import annotations

import datetime
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from kaizen.errors import KaizenError
from kaizen.inference.answering import Answering
from kaizen.serving.published import Found

_MOST_REFUSALS = 20


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False)
class Served:
    """A model as it is served: where it is from, the hash of what it was loaded from, since when,
    and what its check found.
    """

    model: Answering
    found: Found
    content: str
    check: dict[str, Any] = field(default_factory=dict)
    loaded: str = field(default_factory=now)

    def named(self) -> dict[str, Any]:
        """What stands in each answer: which model gave it."""
        return {"key": self.model.key, "name": self.found.name, "step": self.found.step}

    def to_json(self) -> dict[str, Any]:
        """The same with place, time and check."""
        return {
            **self.named(),
            "place": str(self.found.path),
            "loaded": self.loaded,
            "classes": len(self.model.classes),
            "check": self.check,
        }


@dataclass(frozen=True)
class Refusal:
    """A step that was not taken, and why."""

    name: str
    why: str
    when: str = field(default_factory=now)


class Deployment:
    """Which model answers. A request takes ``current`` once and keeps it to its end, so that a swap
    is one assignment, and nothing waits for it.
    """

    def __init__(self, first: Served) -> None:
        """Begin with a model."""
        self.current = first
        self.earlier: Served | None = None
        self.swaps = 0
        self.rollbacks = 0
        self.refused = 0
        self.refusals: deque[Refusal] = deque(maxlen=_MOST_REFUSALS)
        # What was rolled back from: it is not taken again.
        self.left: list[Served] = []
        self._lock = threading.Lock()

    def swap(self, new: Served, old: Served) -> bool:
        """Let a model answer in the place of ``old``, which is kept for `roll_back`; False where
        another than ``old`` answers by now.
        """
        with self._lock:
            if self.current is not old:
                return False
            self.earlier, self.current = old, new
            self.swaps += 1
        return True

    def roll_back(self) -> Served:
        """Let the model before answer again, and keep no other; raises KaizenError where there is
        none.
        """
        with self._lock:
            if self.earlier is None:
                raise KaizenError(
                    "there is no earlier model to go back to: none was swapped since the start, or "
                    "since the last rollback"
                )
            self.left.append(self.current)
            self.current, self.earlier = self.earlier, None
            self.rollbacks += 1
        return self.current

    def refuse(self, name: str, why: str) -> None:
        """Note why a step was not taken."""
        with self._lock:
            self.refused += 1
            self.refusals.append(Refusal(name, why))

    def state(self) -> dict[str, Any]:
        """All of it, for /info."""
        with self._lock:
            return {
                "answers": self.current.to_json(),
                "earlier": None if self.earlier is None else self.earlier.to_json(),
                "swaps": self.swaps,
                "rollbacks": self.rollbacks,
                "rolled_back": [served.found.name for served in self.left],
                "refused": [vars(refusal) for refusal in self.refusals],
            }
