"""The file of a step's analytic heads: their statistics, which the next step goes on from, and the
weights that read classes.

safetensors: ``classes`` int64 [K], ``counts``, ``means`` and ``scatter`` float64
(`kaizen.heads.statistics`), of each kind ``<kind>.weight`` float64 [K, D] and ``<kind>.bias`` [K],
and ``projection`` float32 [F, D] where random features are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor

from kaizen.errors import KaizenError
from kaizen.files import atomic_path
from kaizen.heads.base import LinearHead
from kaizen.heads.expansion import expanded
from kaizen.heads.statistics import ClassStatistics
from kaizen.models.feature_classifier import read_checkpoint
from kaizen.params.registry import ANALYTIC_HEADS

_STATISTICS = ("classes", "counts", "means", "scatter")


@dataclass(frozen=True)
class StepHeads:
    """The analytic heads of one step by their kinds, and what they see of features."""

    statistics: ClassStatistics
    heads: Mapping[str, LinearHead]
    projection: Tensor | None = None

    def readers(self) -> list[str]:
        """The kinds that predict; none where no image had a label so far."""
        return list(self.heads) if len(self.statistics.classes) else []

    def predict(self, kind: str, features: Tensor) -> Tensor:
        """The classes of features [N, F], int64 [N], among those that had an image with a label."""
        return self.heads[kind].predict(expanded(features.cpu(), self.projection))


def write_heads(step: StepHeads, path: Path) -> None:
    """Write the file; the same heads give the same bytes."""
    statistics = step.statistics
    tensors = {name: getattr(statistics, name) for name in _STATISTICS}
    for kind, head in step.heads.items():
        tensors |= {f"{kind}.weight": head.weight, f"{kind}.bias": head.bias}
    if step.projection is not None:
        tensors["projection"] = step.projection
    # Two heads may share a tensor, which the format does not allow.
    written = {name: value.contiguous().clone() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(written))


def read_heads(path: Path) -> StepHeads:
    """Read the file; raises KaizenError where it is none."""
    tensors = read_checkpoint(path)
    try:
        statistics = ClassStatistics.of_tensors(tensors)
        heads = {
            kind: LinearHead(statistics.classes, tensors[f"{kind}.weight"], tensors[f"{kind}.bias"])
            for kind in ANALYTIC_HEADS
            if f"{kind}.weight" in tensors
        }
    except KeyError as error:
        raise KaizenError(
            f"{path} lacks the tensor {error}; delete its folder and run again"
        ) from None
    return StepHeads(statistics, heads, tensors.get("projection"))
