"""The data card: what the stream consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaizen.data.found import Finding, Found, Share
from kaizen.params.typed import UNSET, as_json, from_dict
from kaizen.plan.point import size_text
from kaizen.plan.specs import SummarySpec
from kaizen.report.markdown import bullets, nested_lines, plain, table
from kaizen.report.tables import ABSENT

_PARTS = ("train", "test")
_LIMITS = """\
Its purpose is research on continual learning: a model sees one task's training images at a time,
and the test images only to be measured. What the images show, how they were collected and labelled,
and whether people can be recognised in them is a matter of the source; Kaizen knows nothing of it
and changes nothing about it. Labels are the source's and were not checked. The licence of the
images is the source's: state it here before you pass the shards on.
"""

_MAKING = (
    "`kaizen explain data/shards` prints commit, wall time, how the tasks were asked for, the raw "
    "data's checksums and the command that makes it again. How its images were read and "
    "labelled:\n\n"
)
_READING = """\
The shards are Parquet files; `docs/data.md` describes their columns. A row is the original file's
bytes, or pixels:

```python
import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

rows = pq.read_table("data/shards/task-00.train.parquet").to_pylist()
row = rows[0]
if row["encoding"] == "raw":
    shape = row["height"], row["width"], row["channels"]
    pixels = np.frombuffer(row["image"], np.uint8).reshape(shape)  # [H, W, C]
else:
    pixels = np.asarray(Image.open(io.BytesIO(row["image"])))
```

Hugging Face's `datasets` decodes rows that are files itself; of raw ones it gives the bytes, to be
decoded as above:

```python
from datasets import Image, load_dataset

rows = load_dataset("parquet", data_files="data/shards/task-*.train.parquet", split="train")
rows = rows.cast_column("image", Image())
```
"""


def data_card(spec: SummarySpec, stream: Mapping[str, Any], found: Found) -> str:
    """The Markdown page; ``spec`` is the summary's, ``stream`` what tasks.json holds, ``found``
    what the source found in the raw data.
    """
    tasks = stream["tasks"]
    by = {
        "class": "some of the classes",
        "data": "a part of every class's images",
        "domain": "a domain of the source",
        "arrival": "a folder of images that arrived",
    }
    parts = {part: [task[part] for task in tasks] for part in _PARTS}
    totals = {part: sum(entry["rows"] for entry in entries) for part, entries in parts.items()}
    labelled = sum(entry["labelled"] for entry in parts["train"])
    skipped = {part: sum(entry["skipped"] for entry in entries) for part, entries in parts.items()}
    facts = [
        ("Source", plain(stream["dataset"])),
        (
            "Classes",
            f"{len(stream['classes'])}: {', '.join(plain(name) for name in stream['classes'])}",
        ),
        ("Split", f"{len(tasks)} tasks, each {by[stream['split']]}"),
        ("Images", f"{totals['train']} for training, {totals['test']} for testing"),
        (
            "Labels",
            f"{labelled} of the {totals['train']} training images keep theirs; test images all do",
        ),
        (
            "Image sizes",
            ", ".join(f"{name} {_range(name, parts)} pixels" for name in ("height", "width")),
        ),
        *_colour(parts),
        ("Corrupt, skipped", f"{skipped['train']} for training, {skipped['test']} for testing"),
        *_held_out(found, tasks),
        *_found(found),
        *_retired(spec),
        ("Replay", _replay(spec)),
    ]
    sections = {
        "What it is": bullets(facts),
        "Purpose and limits": _LIMITS,
        "Tasks": table(
            [
                "Task",
                "Classes or domain",
                "Training images",
                "Labelled",
                "Skipped",
                "Test images",
                "Skipped",
            ],
            [_row(task) for task in tasks],
            "lrrrrr",
        ),
        "Checksums": "SHA-256 of each shard's content (all columns in row order, whatever the "
        "compression), as its footer has it too:\n\n"
        + table(
            ["Shard", "SHA-256 of its content"],
            [
                [f"`task-{task['task']:02d}.{part}.parquet`", f"`{task[part]['content_sha256']}`"]
                for task in tasks
                for part in _PARTS
                if "content_sha256" in task[part]
            ],
            "l",
        ),
        "How it was made": _MAKING + f"```yaml\n{nested_lines(as_json(spec.data))}```\n",
        "How to read it": _READING,
    }
    head = f"# Data card: {plain(stream['dataset'])}, a stream of {len(tasks)} tasks\n"
    return "\n".join([head, *(f"## {name}\n\n{text}" for name, text in sections.items())])


def _colour(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """How many of the images are stored in colour."""
    counts = {part: sum(entry.get("colour", 0) for entry in parts[part]) for part in _PARTS}
    return [("In colour", f"{counts['train']} for training, {counts['test']} for testing")]


def _held_out(found: Found, tasks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What share was held out where there is no test part: of all tasks, or of each arrival."""
    name = "Held out for testing"
    if found.held_out:
        return [(name, found.held_out.text())]
    by_share: dict[str, list[int]] = {}
    for task in tasks:
        if "held_out" in task:
            share = from_dict(Share, task["held_out"])
            by_share.setdefault(share.text(), []).append(task["task"])
    shares = [f"{share}: task {', '.join(map(str, of))}" for share, of in by_share.items()]
    return [(name, "; ".join(shares))] if shares else []


def _found(found: Found) -> list[tuple[str, str]]:
    """What was left out before ingestion, and which images are there more than once."""
    facts = []
    if found.skipped:
        train, test = (_findings(part, "the first:") for part in vars(found.skipped).values())
        facts.append(("Left out of the training part", train or "nothing"))
        facts.append(("Left out of the test part", test or "nothing"))
    if found.copies is not UNSET:
        copies = _findings(found.copies, "such as")
        facts.append(("Images that are there more than once", copies or "none"))
    return facts


def _findings(findings: Sequence[Finding], example: str) -> str:
    return "; ".join(
        f"{finding.count} {plain(finding.what)} ({example} {plain(finding.first)})"
        for finding in findings
    )


def _retired(spec: SummarySpec) -> list[tuple[str, str]]:
    """Which tasks' training images were given up."""
    if not spec.retired:
        return []
    named = ", ".join(f"task {task}" for task in spec.retired)
    return [("Retired", f"the training images of {named} were given up and are not counted here")]


def _row(task: Mapping[str, Any]) -> list[str]:
    train, test = task["train"], task["test"]
    counts = (train["rows"], train["labelled"], train["skipped"], test["rows"], test["skipped"])
    return [
        str(task["task"]),
        plain(task.get("domain") or ", ".join(task["class_names"])),
        *map(str, counts),
    ]


def _range(name: str, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The smallest and the largest of a dimension over all shards that hold an image."""
    found = [
        value for entries in parts.values() for entry in entries for value in entry.get(name, [])
    ]
    if not found:
        return ABSENT
    return str(min(found)) if min(found) == max(found) else f"{min(found)} to {max(found)}"


def _replay(spec: SummarySpec) -> str:
    """The policy and the sizes that the runs have."""
    if any(run.point.prototypes for run in spec.runs):
        return f"{spec.context.replay_policy}: no image, but statistics of features"
    sizes = dict.fromkeys(
        size_text(run.point.replay_size, run.point.replay_unit)
        for run in spec.runs
        if run.point.replay_size
    )
    return (
        f"{spec.context.replay_policy}, {', '.join(sizes)} of the earlier tasks"
        if sizes
        else "none"
    )
