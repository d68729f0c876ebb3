"""What kept features say: maps of two dimensions, the effective rank, the drift between steps.

All of it follows from the principal components, and does not change when features are turned,
mirrored, shifted or scaled as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kaizen.evaluation.kept import KeptFeatures
from kaizen.evaluation.recorded import ShownImages


@dataclass(frozen=True)
class StepLook:
    """After one step: the kept ``images``; their ``points`` float64 [n, 2] on the map, with a mean
    square distance of 1 from the centre, and the share of the variance that the map ``explains``;
    the effective ``rank``; and ``likeness``, the CKA with the features of the step before on the
    images that both have. None where there is nothing to measure.
    """

    images: ShownImages
    points: np.ndarray
    explains: float | None = None
    rank: float | None = None
    likeness: float | None = None


def looks_of(steps: Iterable[KeptFeatures]) -> tuple[StepLook, ...]:
    """What the kept features of a run say after each step; each map is turned and mirrored so that
    it lies on the one of the step before.
    """
    found: list[StepLook] = []
    before: KeptFeatures | None = None
    for kept in steps:
        here, there = _common(kept.images, before.images) if before else (_NONE, _NONE)
        points = _plane(kept.components)
        if before and len(here) and found[-1].explains is not None:
            points = points @ rotation(points[here], found[-1].points[there])
        variance = np.square(kept.components.astype(np.float64)).sum(axis=0)
        total = float(variance.sum())
        likeness = None
        if before is not None:
            likeness = cka(kept.components[here], before.components[there])
        found.append(
            StepLook(
                kept.images,
                points,
                float(variance[:2].sum()) / total if total else None,
                effective_rank(variance),
                likeness,
            )
        )
        before = kept
    return tuple(found)


_NONE = np.empty(0, dtype=np.int64)


def effective_rank(variance: np.ndarray) -> float | None:
    """The effective rank of features with the ``variance`` [C] of their principal components: exp
    of the entropy of the singular values' shares (Roy and Vetterli, EUSIPCO 2007); None where all
    features are the same.
    """
    singular = np.sqrt(variance[variance > 0].astype(np.float64))
    if not len(singular):
        return None
    share = singular / singular.sum()
    return math.exp(-float((share * np.log(share)).sum()))


def cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """Linear centred kernel alignment of features [n, C] and [n, D] of the same n images: 1 where
    they differ by a turn and a scale, about 0 where they have nothing in common.

    By the unbiased estimate of Song et al. (JMLR 2012), as fewer images than features would seem
    alike by chance (Kornblith et al. 2019, arXiv:1905.00414); so it can be a little below 0.
    None below four images, or where one has no variance.
    """
    if len(x) < 4:
        return None
    k, m = _gram(x), _gram(y)
    norm = _hsic(k, k) * _hsic(m, m)
    return _hsic(k, m) / math.sqrt(norm) if norm > 0 else None


def _gram(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x = x - x.mean(axis=0)
    k: np.ndarray = x @ x.T
    k /= max(float(np.trace(k)), np.finfo(np.float64).tiny)
    np.fill_diagonal(k, 0.0)
    return k


def _hsic(k: np.ndarray, m: np.ndarray) -> float:
    """The unbiased estimate of HSIC from kernels [n, n] with zeros on the diagonal, times n (n -
    3).
    """
    n = len(k)
    first = float((k * m).sum())
    second = float(k.sum()) * float(m.sum()) / ((n - 1) * (n - 2))
    third = 2.0 * float(k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return first + second - third


def rotation(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The turn, mirrored or not, float64 [2, 2], that brings ``points`` [n, 2] nearest to ``onto``
    (Procrustes' problem, which has a closed form in the plane).
    """
    (a, b), (c, d) = points.T @ onto
    turned, mirrored = math.hypot(a + d, b - c), math.hypot(a - d, b + c)
    if turned >= mirrored:
        angle = math.atan2(b - c, a + d)
        return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    angle = math.atan2(b + c, a - d)
    return np.array([[math.cos(angle), math.sin(angle)], [math.sin(angle), -math.cos(angle)]])


def _plane(components: np.ndarray) -> np.ndarray:
    """The first two components float64 [n, 2], scaled to a mean square of 1."""
    points = np.zeros((len(components), 2))
    wide = min(2, components.shape[1])
    points[:, :wide] = components[:, :wide]
    size = math.sqrt(float(np.square(points).sum()) / max(1, len(points)))
    return points / size if size else points


def _common(one: ShownImages, other: ShownImages) -> tuple[np.ndarray, np.ndarray]:
    """The places of the images that both have, in ``one`` and in ``other``."""
    places = {key: place for place, key in enumerate(_keys(other))}
    both = [(place, places[key]) for place, key in enumerate(_keys(one)) if key in places]
    here, there = zip(*both, strict=True) if both else ((), ())
    return np.array(here, dtype=np.int64), np.array(there, dtype=np.int64)


def _keys(images: ShownImages) -> list[tuple[int, int]]:
    return list(zip(images.task.tolist(), images.row.tolist(), strict=True))
