"""A point of the grid, and how replay sizes are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kaizen.params import ReplayUnit

# What stands in the place of a unit where pseudo-features are replayed, which have no size.
PROTOTYPES: Literal["prototypes"] = "prototypes"


@dataclass(frozen=True, slots=True)
class Point:
    """SSL method x variant x replay size x seed: what identifies a run of the grid.

    ``replay_size`` is None for a variant without replay, and where pseudo-features are replayed,
    which the unit `PROTOTYPES` says.
    """

    method: str
    variant: str
    replay_size: float | int | None
    replay_unit: ReplayUnit
    seed: int

    @property
    def prototypes(self) -> bool:
        """Whether pseudo-features are replayed."""
        return self.replay_unit == PROTOTYPES

    @property
    def series(self) -> tuple[str, str, float | int | None, str]:
        """What runs of several seeds have in common."""
        return (self.method, self.variant, self.replay_size, self.replay_unit)

    @property
    def label(self) -> str:
        """The point without its seed, for titles: "simclr kaizen replay5pct"."""
        return " ".join(self._words())

    @property
    def name(self) -> str:
        """A readable, path-safe name that is unique in the grid."""
        return "-".join([*self._words(), f"seed{self.seed}"])

    def _words(self) -> list[str]:
        size = self.replay_size
        words = [] if size is None else [f"replay{size_word(size, self.replay_unit)}"]
        words += [PROTOTYPES] if self.prototypes else []
        # The variant `supervised` stands for its method too.
        names = dict.fromkeys((self.method, self.variant))
        return [*names, *words]


def size_text(size: float | int, unit: str) -> str:
    """A replay size for people: "5 %", "20 images per class" or "200 images"."""
    if unit == "proportion":
        return f"{100 * size:g} %"
    return f"{size:.12g} images per class" if unit == "per_class" else f"{size:.12g} images"


def size_word(size: float | int, unit: str) -> str:
    """A replay size in names of runs and folders: "5pct", "20imagesperclass" or "200images"."""
    if unit == "proportion":
        return f"{100 * size:g}pct"
    return size_text(size, unit).replace(" ", "")
