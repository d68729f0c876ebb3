"""What the summary adds to each model's folder, so that it is whole when it is copied: a card that
Hugging Face reads, and how evaluation shows an image to the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen import files
from kaizen.data.names import CONFIG_FILE, PREPROCESSING_FILE
from kaizen.evaluation.results import READERS, RunResult
from kaizen.models.config import (
    ModelConfig,
    Preprocessing,
    read_config,
    write_preprocessing,
)
from kaizen.params.registry import TRAINED
from kaizen.plan.job import Job
from kaizen.plan.roles import step_role
from kaizen.plan.specs import RunEntry, SummarySpec
from kaizen.report.card_texts import CITATION, LIMITS, LOADING
from kaizen.report.markdown import bullets, nested_lines, plain, table
from kaizen.report.series import READER_LABELS, method_label
from kaizen.report.tables import ABSENT, percent
from kaizen.store.store import Store

# The summary's folder of what belongs beside models; kaizen/plan/layout.py publishes it there.
FOLDER = "models"
_MOST_NAMES = 100


def write_model_folders(
    job: Job[SummarySpec],
    store: Store,
    runs: Sequence[RunResult],
    stream: Mapping[str, Any],
    out: Path,
) -> None:
    """Write into ``out``, a folder per run and per set of specialists, the description of the input
    and a run's cards, one for each step.

    ``runs`` are the summary's results in the order of its specification; ``stream`` is what
    tasks.json holds. Raises KaizenError where a record or a model's config.json is missing or does
    not match its recorded hash.
    """
    spec = job.spec

    def write(name: str, evaluation: str, head: str = TRAINED) -> None:
        crop = store.read_record(job.inputs[evaluation]).params["test_crop"]
        dataset = spec.data.dataset
        write_preprocessing(
            Preprocessing(
                test_crop=crop,
                resize=dataset.resize,
                bit_depth=dataset.bit_depth or None,
                head=head,
            ),
            out / name / PREPROCESSING_FILE,
        )

    for reference in spec.references:
        write(reference.input.removeprefix("reference-"), reference.input)
    for entry, run in zip(spec.runs, runs, strict=True):
        write(entry.name, entry.evaluations[-1], spec.deploy or TRAINED)
        for number, role in enumerate(entry.steps):
            config = read_config(store.open_file(job.inputs[role], CONFIG_FILE))
            text = step_card(entry, number, config, run, stream)
            files.write_text(out / entry.name / f"{step_role(number)}.md", text)


def step_card(
    entry: RunEntry, number: int, config: ModelConfig, run: RunResult, stream: Mapping[str, Any]
) -> str:
    """The Markdown page of a step's model, which begins with what Hugging Face reads of it."""
    name = f"{entry.name}/{step_role(number)}"
    seen = range(run.tasks) if len(entry.steps) == 1 else range(number + 1)
    row = -1 if len(entry.steps) == 1 else number
    accuracies = {
        reader: _mean([run.matrices[reader][row][task] for task in seen])
        for reader in READERS
        if reader in run.matrices
    }
    names = [plain(known.name) for known in config.classes]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    classes = f"{', '.join(names[:_MOST_NAMES])}{more}"
    image = config.image
    sections = {
        "What it is": f"Step {number} of the run {plain(entry.name)}: an image classifier and "
        f"feature extractor that has learnt {len(names)} of the classes of "
        f"{plain(stream['dataset'])}, with the self-supervised method "
        f"{method_label(run.point.method)}.\n",
        "Use": LOADING,
        "Facts": bullets(
            [
                ("Classes", classes),
                ("Backbone", f"`{config.network.backbone}`"),
                (
                    "Input",
                    f"{image.size} x {image.size}, {image.channels} channels, mean {image.mean}, "
                    f"standard deviation {image.std}",
                ),
                ("Key", f"`{config.key}`"),
                (
                    "Steps before it",
                    f"{len(config.lineage)}, the last `{config.lineage[-1]}`"
                    if config.lineage
                    else "none",
                ),
            ]
        ),
        "Results": "Mean accuracy on the held-out images of the tasks seen so far, in percent, "
        "among all classes of the stream.\n\n"
        + table(
            ["Reader", "Accuracy"],
            [
                [READER_LABELS[reader], ABSENT if value is None else percent(value)]
                for reader, value in accuracies.items()
            ],
            "r",
        ),
        "Intended use and limits": LIMITS,
        "Licence": "For you to choose, within what the licence of the training images allows; "
        "Kaizen's code is under the BSD-3-Clause licence.\n",
        "Citation": CITATION,
    }
    head = front_matter(name, run, stream["dataset"], accuracies.get("classifier"))
    parts = [f"{head}\n# Model card: {plain(name)}\n"]
    return "\n".join([*parts, *(f"## {title}\n\n{text}" for title, text in sections.items())])


def front_matter(name: str, run: RunResult, dataset: str, accuracy: float | None) -> str:
    """The YAML at a card's head, as Hugging Face's hub reads it."""
    head: dict[str, Any] = {
        "library_name": "kaizen-ssl",
        "pipeline_tag": "image-classification",
        "tags": [
            "continual-learning",
            "image-classification",
            "image-feature-extraction",
            "self-supervised-learning",
            run.point.method,
        ],
    }
    if accuracy is not None:
        measured = {
            "task": {"type": "image-classification"},
            "dataset": {"name": dataset, "type": dataset},
            "metrics": [
                {"type": "accuracy", "value": accuracy, "name": "mean over the tasks seen so far"}
            ],
        }
        head["model-index"] = [{"name": name, "results": [measured]}]
    return f"---\n{nested_lines(head)}---\n"


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of what was measured; None where nothing was."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
