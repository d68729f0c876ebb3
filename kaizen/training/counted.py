"""Counting what a step trains on: the rows of its shards and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kaizen.data.shards import shard_info
from kaizen.training.facts import StepFacts
from kaizen.views.decode import selected_labels


def step_facts(
    tasks: Sequence[Path],
    replay: Sequence[Path],
    *,
    fraction: float,
    batch_sizes: tuple[int, int],
    batches: int,
    lr: float,
    learnt: Mapping[str, str],
    labelled: bool = False,
) -> StepFacts:
    """The facts of a step on the shards ``tasks`` and ``replay``; reads their labels only.

    ``learnt`` are the classes of the steps before, label -> name; ``labelled``: rows without a
    label are not trained on.
    """
    infos = [shard_info(path) for path in replay]
    classes = dict(learnt)
    for info in (*map(shard_info, tasks), *infos):
        names = zip(info.classes, info.class_names, strict=True)
        classes |= {str(label): name for label, name in names}
    whole = [len(selected_labels(path)) for path in tasks]
    labels = np.concatenate([selected_labels(path, fraction, labelled=labelled) for path in tasks])
    replayed = (selected_labels(path, labelled=labelled) for path in replay)
    old = np.concatenate([np.empty(0, np.int64), *replayed])
    lacks = [
        name
        for info in infos
        for label, name in zip(info.classes, info.class_names, strict=True)
        if label not in old
    ]
    return StepFacts(
        len(labels),
        sum(whole),
        int((labels >= 0).sum()),
        len(old),
        int((old >= 0).sum()),
        *batch_sizes,
        batches,
        lr,
        lacks,
        dict(sorted(classes.items(), key=lambda item: int(item[0]))),
    )
