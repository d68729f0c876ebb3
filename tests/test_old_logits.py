"""`distill.classifier.logits: old`: which softmaxes the classifier's losses are over, against sums
written out, with fixed and growing heads.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from conftest import make_plan

from kaizen.compute.device import choose_compute
from kaizen.models.feature_classifier import Architecture
from kaizen.params import ModelParams, SimCLRParams
from kaizen.plan.specs import StepSpec
from kaizen.ssl.base import Moment
from kaizen.training.step import objective_of
from kaizen.training.student import ContinualModel, build_model, frozen_copy

COMPUTE = choose_compute("cpu", "float32", 1)
START = Moment(0, 1, 0)
OLD: dict[str, Any] = {
    "distill.classifier.weight": 1.5,
    "distill.classifier.temperature": 2.0,
    "distill.classifier.logits": "old",
    "grid.variants": ["kaizen"],
    "grid.methods": ["simclr"],
}


def model(seed: int, logits: int) -> ContinualModel:
    ssl = SimCLRParams(projector_hidden=16, projector_out=8)
    network = ModelParams(width=4, classifier_hidden=[8])
    return build_model(
        Architecture(model=network, channels=3, logits=logits, seed=seed), "simclr", ssl
    )


def softmax(logits: list[float], classes: list[int]) -> dict[int, float]:
    """The shares of ``classes``, in plain Python."""
    parts = {place: math.exp(logits[place]) for place in classes}
    return {place: part / sum(parts.values()) for place, part in parts.items()}


# The classes of three tasks; step 2 learns labels 4 and 0. A growing head has its logits in the
# order of arrival; logit 6 of the fixed one is of a class still to come.
@pytest.mark.parametrize(
    ("order", "new", "old", "own"),
    [
        (None, 0, [1, 3, 5], [0, 4]),
        ([3, 5, 1, 4, 0], 2, [1, 3, 5], [0, 4]),
        # A class that comes back is among both.
        (None, 0, [1, 3, 4, 5], [0, 4]),
    ],
)
def test_the_losses_are_those_of_the_formula(
    order: list[int] | None, new: int, old: list[int], own: list[int]
) -> None:
    logits = len(order) if order else 7
    student, teacher = model(1, logits).train(), frozen_copy(model(2, logits), False, new)
    base = make_plan(OLD).runs[0].steps[1].spec
    assert base.classifier_distill is not None
    step = dataclasses.replace(
        base,
        logits=order,
        num_classes=logits,
        old_labels=old,
        task_labels=own,
        feature_distill=None,
    )
    generator = torch.Generator().manual_seed(3)
    views = tuple(torch.randn(6, 3, 8, 8, generator=generator) for _ in range(2))
    # Four rows of the task, one of them without a label, and two of replay.
    labels = [4, 0, -1, 4, 3, 5]
    objective = objective_of(step, 4, COMPUTE)
    total, terms = objective(
        student, teacher, (views[0], views[1]), torch.tensor(labels), compute=COMPUTE, moment=START
    )

    places = {
        label: (order or list(range(7))).index(label) for label in {*labels, *old, *own} - {-1}
    }
    student = model(1, logits).train()
    entropy, distilled = 0.0, 0.0
    for view in views:
        now = student.classifier(student.encoder(view)).tolist()
        before = teacher.classifier(teacher.encoder(view)).tolist()
        for row, label in enumerate(labels):
            if label >= 0:
                among = [places[c] for c in own] if row < 4 else list(range(logits))
                entropy -= math.log(softmax(now[row], among)[places[label]]) / 5
            among = [places[c] for c in old]
            wanted = softmax([value / 2 for value in before[row]], among)
            found = softmax([value / 2 for value in now[row]], among)
            distilled -= sum(wanted[c] * math.log(found[c]) for c in among) * 2**2 / 6 / 2
    named = terms.tolist()
    assert named[2] == pytest.approx(entropy, rel=1e-5)
    assert named[3] == pytest.approx(distilled, rel=1e-5)
    assert total.item() == pytest.approx(named[0] + entropy + 1.5 * distilled, rel=1e-5)


def test_rows_of_the_task_move_no_other_class() -> None:
    step = make_plan(OLD | {"distill.classifier.weight": 0.0}).runs[0].steps[1].spec
    student = model(1, 10).train()
    teacher = frozen_copy(model(2, 10), False)
    views = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor((step.task_labels or []) * 2)
    step = dataclasses.replace(step, feature_distill=None)
    total, _ = objective_of(step, 4, COMPUTE)(
        student, teacher, (views[0], views[1]), labels, compute=COMPUTE, moment=START
    )
    total.backward()
    moved = dict(student.classifier.named_parameters())["2.bias"].grad
    assert moved is not None and set(moved.nonzero().flatten().tolist()) == set(
        step.task_labels or []
    )


def specs(changes: dict[str, Any]) -> list[StepSpec]:
    return [step.spec for step in make_plan(changes).runs[0].steps]


@pytest.mark.parametrize("head", ["fixed", "growing"])
def test_the_plan_names_old_classes_and_the_tasks_own(head: str) -> None:
    plan = make_plan(OLD | {"model.classifier_head": head})
    tasks = plan.runs[0].evaluations[0].spec.tasks
    first, *later = plan.runs[0].steps
    assert first.spec.old_labels is None
    for number, step in enumerate(later, start=1):
        assert step.spec.old_labels == sorted(label for task in tasks[:number] for label in task)
        assert step.spec.task_labels == sorted(tasks[number])
        assert step.job().to_json()["params"]["classifier_distill"]["logits"] == "old"


def test_nothing_is_told_apart_where_every_class_is_both() -> None:
    same = OLD | {"split.by": "data"}
    keys = [
        [step.key for step in make_plan(changes).runs[0].steps]
        for changes in (same, same | {"distill.classifier.logits": "all"})
    ]
    assert keys[0] == keys[1]


def test_the_default_is_in_no_key() -> None:
    grid = {"grid.variants": ["kaizen"]}
    written = make_plan(grid | {"distill.classifier.logits": "all"}).runs[0].steps[1]
    params = written.job().to_json()["params"]
    assert params["classifier_distill"] == {"weight": 2.0, "temperature": 1.0}
    assert not {"old_labels", "task_labels"} & params.keys()
    assert written.key == make_plan(grid).runs[0].steps[1].key
