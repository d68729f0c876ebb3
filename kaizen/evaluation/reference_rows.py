"""What a grid is read by and not compared as a rival: streaming linear discriminant analysis on
features that no run has learnt from the stream (Hayes and Kanan, CVPR workshops 2020).

Means of classes and one covariance, shrunk by the oracle approximating rule (`kaizen.heads.lda`),
from the labelled rows that step 0's parameters let a step train on; of the tasks so far, so that
only classes seen are predicted. The features: pixels, an untrained network, step 0's encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kaizen.data.shards import shard_info
from kaizen.evaluation.features import StepModels
from kaizen.heads.base import LinearHead
from kaizen.heads.lda import solve
from kaizen.heads.statistics import ClassStatistics
from kaizen.views.augment import evaluation_transform
from kaizen.views.decode import load_row_groups

# From uint8 images [N, C, H, W] to features [N, D] on the CPU.
Features = Callable[[Tensor], Tensor]

# The covariance of more pixels would take more memory and time than it is worth.
SIDE = 16

Row = list[float | None]


def features_of_rows(models: StepModels) -> dict[str, Features]:
    """The features of each row (`kaizen.evaluation.results.LDA_ROWS`).

    Pixels are those that a network sees, averaged down to at most `SIDE` a side.
    """
    untrained, first = models.untrained(), models.load(models.first)

    def pixels(images: Tensor) -> Tensor:
        inputs = evaluation_transform(images, models.image, models.test_crop)
        side = min(SIDE, models.image.size)
        return F.adaptive_avg_pool2d(inputs, side).flatten(1)

    return {
        "lda_pixels": pixels,
        "lda_random_network": lambda images: models.features(untrained, images)[0].cpu(),
        "lda_step_0": lambda images: models.features(first, images)[0].cpu(),
    }


def lda_matrices(
    features: Mapping[str, Features],
    train: Sequence[Path],
    tests: Sequence[tuple[Tensor, Tensor]],
    models: StepModels,
    fraction: float,
) -> dict[str, list[Row]]:
    """Per row a T x T matrix of accuracies, row t after task t.

    ``train`` are the tasks' training shards, of whose rows the share ``fraction`` is learnt from,
    read by row groups; ``tests`` the test images uint8 [M, C, H, W] and labels int64 [M] of each
    task. None for a task without test images, and before the first label.
    """
    shown = {name: [see(images) for images, _ in tests] for name, see in features.items()}
    learnt = {name: ClassStatistics.empty(parts[0].shape[1]) for name, parts in shown.items()}
    matrices: dict[str, list[Row]] = {name: [] for name in features}
    for path in train:
        for group in range(len(shard_info(path).row_groups)):
            images, labels = load_row_groups(path, models.image, fraction, [group], labelled=True)
            if not len(labels):
                continue
            for name, see in features.items():
                rows = see(torch.from_numpy(images))
                of_group = ClassStatistics.of(rows, torch.from_numpy(labels))
                learnt[name] = learnt[name].add(of_group)
        for name, statistics in learnt.items():
            head = solve(statistics, statistics, None) if len(statistics.classes) else None
            matrices[name].append(
                [
                    _accuracy(head, rows, labels)
                    for rows, (_, labels) in zip(shown[name], tests, strict=True)
                ]
            )
    return matrices


def _accuracy(head: LinearHead | None, features: Tensor, labels: Tensor) -> float | None:
    if head is None or not len(labels):
        return None
    return (head.predict(features) == labels).double().mean().item()
