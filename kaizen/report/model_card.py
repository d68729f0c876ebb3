"""The model card: what a run's last model is, how it was trained and how well it does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from kaizen.data.names import CHECKPOINT
from kaizen.evaluation.metrics import METRICS, run_metrics
from kaizen.evaluation.results import READERS, Reference, RunResult
from kaizen.params.registry import SUPERVISED
from kaizen.plan.point import size_text
from kaizen.plan.roles import PRIOR
from kaizen.plan.specs import RunEntry, StepSpec, step_spec
from kaizen.report.card_texts import CITATION, LIMITS, LOADING
from kaizen.report.markdown import bullets, nested_lines, plain, table
from kaizen.report.series import (
    METRIC_SHORT,
    READER_LABELS,
    VARIANT_LABELS,
    method_label,
)
from kaizen.report.tables import ABSENT, percent
from kaizen.store.records import Record
from kaizen.training.facts import StepFacts

# Tensors of a checkpoint that are state, not parameters.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_PARTS = ("encoder", "classifier")


@dataclass(frozen=True)
class FinishedRun:
    """A run of the summary with what its nodes left.

    ``steps`` are the steps' records and ``facts`` what they were trained on, in their order;
    ``checkpoint`` is the last step's, ``evaluation`` the record of the run's evaluation.
    """

    entry: RunEntry
    result: RunResult
    reference: Reference | None
    steps: Sequence[Record]
    facts: Sequence[StepFacts]
    checkpoint: Path
    evaluation: Record
    # The reader that predicts.
    deploy: str


def model_card(finished: FinishedRun, stream: Mapping[str, Any]) -> str:
    """The Markdown page; ``stream`` is what tasks.json holds."""
    entry, run, steps = finished.entry, finished.result, finished.steps
    last = step_spec(steps[-1])
    variant = VARIANT_LABELS.get(run.point.variant, run.point.variant)
    folder = f"results/models/{entry.name}/step-{len(steps) - 1:02d}"
    sections = {
        "What it is": "An image classifier and feature extractor that learnt "
        f"{len(stream['classes'])} classes of {plain(stream['dataset'])} from a stream of "
        f"{len(stream['tasks'])} tasks, "
        + (
            "all at once (joint training, not continual learning), "
            if run.joint
            else "one after the other, "
        )
        + (
            "by its labels alone, in the"
            if run.point.method == SUPERVISED
            else f"with the self-supervised method {method_label(run.point.method)} and the"
        )
        + f" variant *{plain(variant)}*, seed {run.point.seed}.\n",
        "Intended use and limits": LIMITS,
        "How it was trained": bullets(_facts(finished, last)),
        "Training data": _training_data(steps, finished.facts, stream)
        + "\nThe data card, `data/shards/README.md`, describes them.\n",
        "Results": f"Prediction uses: {READER_LABELS[finished.deploy]} (`deploy.head`).\n\n"
        + _results(run, finished.reference),
        "How to load it": "Each step's folder is a model of its own, and whole when it is "
        f"copied elsewhere: `cd {folder}` first.\n\n{LOADING}",
        "Lineage": "Each step starts from the checkpoint of the one before it. `kaizen explain "
        f"{folder}` prints commit, wall time and the command that makes it again.\n\n"
        f"{_lineage(entry, steps)}",
        "Environment": _environment(steps, finished.evaluation),
        "Parameters of the last step": f"```yaml\n{nested_lines(steps[-1].params)}```\n",
        "Licence": (
            "Kaizen's code is under the BSD-3-Clause licence. The licence of this model is for you "
            "to choose and to state here, within what the licence of its training images allows.\n"
        ),
        "Citation": CITATION,
    }
    head = f"# Model card: {plain(entry.name)}\n"
    return "\n".join([head, *(f"## {name}\n\n{text}" for name, text in sections.items())])


def _facts(finished: FinishedRun, last: StepSpec) -> list[tuple[str, str]]:
    """The choices that make this run what it is."""
    train, image, point, facts = last.train, last.image, finished.result.point, finished.facts
    feature, soft = last.feature_distill, last.classifier_distill
    counts = _parameter_counts(finished.checkpoint)
    distillation = f"{feature.distiller}, weight {feature.weight:g}" if feature else "none"
    replay = "none"
    if point.prototypes:
        replay = "pseudo-features of the earlier classes' statistics, no image"
    elif point.replay_size:
        images = ", ".join(str(step.replay_rows) for step in facts[1:])
        size = size_text(point.replay_size, point.replay_unit)
        replay = f"{size} of the earlier tasks: {images} images from step 1 on"
    batches = ", ".join(str(size) for size in dict.fromkeys(step.batch_size for step in facts))
    return [
        ("SSL method", "none" if point.method == SUPERVISED else method_label(point.method)),
        ("Feature distillation", distillation),
        (
            "Classifier distillation",
            f"weight {soft.weight:g}{', old logits only' if last.old_labels else ''}"
            if soft
            else "none",
        ),
        ("Replay", replay),
        ("Backbone", f"`{last.model.backbone}`, {counts['encoder']:,} parameters"),
        (
            "Classifier",
            f"{counts['classifier']:,} parameters, hidden layers {last.model.classifier_hidden}",
        ),
        (
            "Input",
            f"{image.size} x {image.size}, {image.channels} channels, mean {image.mean}, standard "
            f"deviation {image.std}",
        ),
        (
            "Optimisation",
            f"{train.optimizer}, {train.epochs} epochs per step, batches of {batches}",
        ),
        ("Seed", str(point.seed)),
    ]


def _parameter_counts(checkpoint: Path) -> dict[str, int]:
    """How many parameters encoder and classifier have, from the header of a safetensors file."""
    counts = dict.fromkeys(_PARTS, 0)
    with safetensors.safe_open(checkpoint, "np") as file:
        for name in file.keys():  # noqa: SIM118
            part, _, rest = name.partition(".")
            if part in counts and rest.rpartition(".")[2] not in _BUFFERS:
                counts[part] += math.prod(file.get_slice(name).get_shape())
    return counts


def _training_data(
    steps: Sequence[Record], facts: Sequence[StepFacts], stream: Mapping[str, Any]
) -> str:
    """Per step the classes and numbers of its images; a joint model has one step of all tasks."""
    rows = []
    trained = []
    for number, (step, did) in enumerate(zip(steps, facts, strict=True)):
        spec = step_spec(step)
        trained.append((f"Step {number}", did.text()))
        sentences = did.warnings(spec.train.batch_size, spec.replay_batch_size or 0)
        trained += [(f"Step {number}, note", sentence) for sentence in sentences]
        tasks = [stream["tasks"][task] for task in spec.tasks]
        names = dict.fromkeys(name for task in tasks for name in task["class_names"])
        rows.append(
            [
                str(number),
                plain(
                    ", ".join(task["domain"] for task in tasks if "domain" in task)
                    or ", ".join(names)
                ),
                str(did.of_rows),
                str(sum(task["train"]["labelled"] for task in tasks)),
                f"{100 * did.rows / did.of_rows:.3g} %",
                "yes" if did.replay_rows else "no",
            ]
        )
    head = table(
        ["Step", "Classes or domain", "Images", "Labelled", "Share trained on", "Replay"],
        rows,
        "lrrrl",
    )
    return f"{head}\nTrained with, as counted by the steps:\n\n{bullets(trained)}"


def _results(run: RunResult, reference: Reference | None) -> str:
    """Metrics per reader, and each reader's accuracy per step and task, in percent of held-out test
    images.
    """
    metrics = run_metrics(run, reference)
    readers = [reader for reader in READERS if reader in metrics]
    head = ["Reader", *(METRIC_SHORT[metric] for metric in METRICS)]
    rows = [
        [
            READER_LABELS[reader],
            *(ABSENT if value is None else percent(value) for value in metrics[reader].values()),
        ]
        for reader in readers
    ]
    parts = [
        "In percent of held-out test images, among all classes of the stream. CA continual "
        "accuracy, FA final accuracy, F forgetting (0 is best), FT forward transfer, BWT backward "
        "transfer; `results/summary/report.md` defines them.\n\n"
        f"{table(head, rows, 'r' * len(METRICS))}"
    ]
    tasks = [f"task {task}" for task in range(run.tasks)]
    for reader in readers:
        rows = [
            [f"step {step}", *(ABSENT if value is None else percent(value) for value in row)]
            for step, row in enumerate(run.matrices[reader])
        ]
        parts.append(f"{READER_LABELS[reader]}, on each task after each step:\n\n"
                     f"{table(['', *tasks], rows, 'r' * len(tasks))}")  # fmt: skip
    return "\n".join(parts)


def _lineage(entry: RunEntry, steps: Sequence[Record]) -> str:
    rows = [
        [
            f"`results/models/{entry.name}/step-{number:02d}`",
            f"`{step.id.key}`",
            f"`{step.inputs[PRIOR].key}`" if PRIOR in step.inputs else ABSENT,
            f"`{step.files[CHECKPOINT].sha256}`",
        ]
        for number, step in enumerate(steps)
    ]
    return table(["Step", "Key", "Starts from", "SHA-256 of model.safetensors"], rows, "lll")


def _environment(steps: Sequence[Record], evaluation: Record) -> str:
    """What the steps and the evaluation ran on: one line where that was the same."""
    found: dict[str, list[str]] = {}
    for name, record in [
        *((f"step {number}", step) for number, step in enumerate(steps)),
        ("evaluation", evaluation),
    ]:
        text = ", ".join(f"{name} {value}" for name, value in sorted(record.environment.items()))
        found.setdefault(text, []).append(name)
    if len(found) == 1:
        return f"{plain(next(iter(found)))}.\n"
    return bullets([(", ".join(names), plain(text)) for text, names in found.items()])
