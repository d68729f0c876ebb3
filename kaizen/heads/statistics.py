"""What an analytic head keeps of the images that it has seen: count, mean and scatter of features.

All of it in float64. The scatter of rows x about their mean m is the sum of (x - m)(x - m)^T; with
the means it says the second moments, and unlike these it does not cancel where features are far
from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from kaizen.heads.drift import DriftMap


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of the labelled rows of some classes.

    ``classes`` int64 [K], ascending; ``counts`` float64 [K]; ``means`` float64 [K, D]; ``scatter``
    within the classes, each about its own mean: float64 [D, D], summed over the classes, or
    [K, D, D], each class's own.
    """

    classes: Tensor
    counts: Tensor
    means: Tensor
    scatter: Tensor

    @staticmethod
    def empty(size: int, per_class: bool = False) -> ClassStatistics:
        """The statistics of no rows with ``size`` features."""
        shape = (0, size, size) if per_class else (size, size)
        return ClassStatistics(
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0, dtype=torch.float64),
            torch.zeros(0, size, dtype=torch.float64),
            torch.zeros(shape, dtype=torch.float64),
        )

    @staticmethod
    def of(features: Tensor, labels: Tensor, per_class: bool = False) -> ClassStatistics:
        """The statistics of rows [N, D], of any float type, with ``labels`` int64 [N], all >= 0."""
        x = features.double()
        classes, place = labels.unique(return_inverse=True)
        counts = torch.bincount(place, minlength=len(classes)).double()
        means = torch.zeros(len(classes), x.shape[1], dtype=torch.float64)
        means.index_add_(0, place, x)
        means /= counts[:, None]
        rest = x - means[place]
        if per_class:
            own = [rest[place == k] for k in range(len(classes))]
            empty = torch.zeros(0, x.shape[1], x.shape[1], dtype=torch.float64)
            scatter = torch.cat([empty, *((rows.T @ rows)[None] for rows in own)])
        else:
            scatter = rest.T @ rest
        return ClassStatistics(classes, counts, means, scatter)

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor]) -> ClassStatistics:
        """Those that a step's file holds under the names of the fields; raises KeyError for one
        that is not there.
        """
        names = (field.name for field in fields(ClassStatistics))
        return ClassStatistics(**{name: tensors[name] for name in names})

    @property
    def per_class(self) -> bool:
        """Whether each class has a scatter of its own."""
        return self.scatter.dim() == 3

    @property
    def size(self) -> int:
        """The number of features D."""
        return self.means.shape[1]

    @property
    def rows(self) -> int:
        """The number of rows that they are of."""
        return int(self.counts.sum().item())

    def add(self, other: ClassStatistics) -> ClassStatistics:
        """These rows and the other's, as if taken at once (Chan, Golub and LeVeque 1979).

        A class of both is merged. Both must keep their scatter in the same way.
        """
        classes = torch.cat([self.classes, other.classes]).unique()
        one, two = self._among(classes), other._among(classes)
        counts = one.counts + two.counts
        share = two.counts / counts
        apart = two.means - one.means
        means = one.means + share[:, None] * apart
        # What the two means add to the scatter about the common one.
        weight = one.counts * share
        if self.per_class:
            between = weight[:, None, None] * apart[:, :, None] * apart[:, None, :]
        else:
            between = (apart * weight[:, None]).T @ apart
        return ClassStatistics(classes, counts, means, one.scatter + two.scatter + between)

    def mapped(self, drift: DriftMap) -> ClassStatistics:
        """Where the same rows lie in the features of the newer encoder, as ``drift`` has it.

        Each row x is taken for A x + b and a rest of the map's residual covariance R, so a scatter
        S of n rows becomes A S A^T + n R.
        """
        weight, residual = drift.weight, drift.residual
        scatter = weight @ self.scatter @ weight.T
        if residual is not None and self.per_class:
            scatter = scatter + self.counts[:, None, None] * residual
        elif residual is not None:
            scatter = scatter + self.counts.sum() * residual
        return ClassStatistics(self.classes, self.counts, drift(self.means), scatter)

    def covariance(self) -> Tensor:
        """The covariance within classes, float64 [D, D], positive semidefinite.

        Of a shared scatter the sum over N - K; of each class's own the mean over the classes that
        have two rows or more, so that a small class counts as much as a large one. 0 where no class
        has two rows.
        """
        if self.per_class:
            several = self.counts > 1
            own = self.scatter[several] / (self.counts[several] - 1)[:, None, None]
            return own.sum(0) / several.sum().clamp(min=1)
        return self.scatter / self.degrees().clamp(min=1)

    def degrees(self) -> Tensor:
        """The degrees of freedom of the scatter within classes, N - K: float64 scalar."""
        return self.counts.sum() - len(self.counts)

    def _among(self, classes: Tensor) -> ClassStatistics:
        """The same, with rows of zeros for those of ``classes`` that are not among its own."""
        place = torch.searchsorted(classes, self.classes)
        counts = torch.zeros(len(classes), dtype=torch.float64)
        counts[place] = self.counts
        means = torch.zeros(len(classes), self.size, dtype=torch.float64)
        means[place] = self.means
        scatter = self.scatter
        if self.per_class:
            scatter = torch.zeros(len(classes), self.size, self.size, dtype=torch.float64)
            scatter[place] = self.scatter
        return ClassStatistics(classes, counts, means, scatter)
