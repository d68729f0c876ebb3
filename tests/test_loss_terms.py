"""The figure of the loss terms, and the histories that it is drawn from."""

from __future__ import annotations

import csv
import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
import pytest
from conftest import make_plan
from made_up import EPOCHS, TASKS, THREE, grid, histories, history, parse_csv
from svg import Drawing, read

from kaizen.errors import KaizenError
from kaizen.evaluation.confusion import Counts, write_confusion
from kaizen.evaluation.results import RunResult
from kaizen.models.config import config_of, write_config
from kaizen.plan.nodes import Node
from kaizen.plan.point import Point
from kaizen.plan.specs import StepSpec
from kaizen.report.figures import curves
from kaizen.report.figures.expand import first_rows
from kaizen.report.figures.grid import Grid, words
from kaizen.report.figures.paper import draw
from kaizen.report.figures.rows import ROWS
from kaizen.report.losses import History, read_steps
from kaizen.report.node import run_summary
from kaizen.report.series import group
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store
from kaizen.training.facts import StepFacts, write_facts
from kaizen.training.terms import TERM_TEXTS, TERMS

# Per epoch, the mean of each loss term.
Epochs = Sequence[Mapping[str, float]]


class Losses(NamedTuple):
    """The figure of the loss terms, its rows, and the runs that they are of."""

    drawing: Drawing
    rows: list[dict[str, Any]]
    runs: list[RunResult]


def drawn(runs: Sequence[RunResult], traced: Sequence[History]) -> Losses:
    """The figure of ``traced`` as SVG, and the rows that it is drawn from."""
    shown = Grid(series=tuple(group(runs, [])), references=(), classes=None, histories=list(traced))
    columns, make = ROWS["losses"]
    names, figure = words(shown), curves.losses()
    data = {"columns": columns.split(), "rows": list(make(shown, 0))}
    rows = first_rows(figure, data, names)
    return Losses(read(draw(figure, rows, names, [])), rows, list(runs))


EVERYONE = {"Kaizen", "CaSSLe", "No distillation"}
# The panels' titles, and who has a line in each.
PANELS = {
    "L_FE_CT self-supervised loss": EVERYONE,
    "L_FE_KD feature distillation": {"Kaizen", "CaSSLe"},
    "L_C_CT classifier cross-entropy": EVERYONE,
    "L_C_KD classifier distillation": {"Kaizen"},
}


@pytest.fixture(scope="module")
def losses() -> Losses:
    """The loss terms of two methods."""
    runs, _ = grid(("simclr", "byol"), THREE)
    return drawn(runs, histories(runs))


def test_every_loss_term_has_a_panel(losses: Losses) -> None:
    headers = [
        s.text
        for s in losses.drawing.shapes
        if s.text and "cell" in s.role and "role-title" in s.role
    ]
    assert headers == [f"{m}: {term}" for m in ("SimCLR", "BYOL") for term in PANELS]


def test_a_panel_has_the_variants_that_have_its_term_in_their_colours(losses: Losses) -> None:
    for method in ("SimCLR", "BYOL"):
        for title, labels in PANELS.items():
            of_panel = [r for r in losses.rows if r["term_panel"] == f"{method}: {title}"]
            assert {row["series"] for row in of_panel} == labels
    series = group(losses.runs, [])
    lines = losses.drawing.of("mark-line")
    assert {line.attributes["stroke"] for line in lines} == {one.colour for one in series}
    # Step 0 has no teacher to distil from: two tasks' lines for those terms, three for the others.
    assert len(lines) == 2 * (3 * 3 + 2 * 2 + 3 * 3 + 2)


def test_the_panels_show_all_epochs_of_all_tasks(losses: Losses) -> None:
    for title in PANELS:
        start = EPOCHS if "distillation" in title else 0
        for label in PANELS[title]:
            at = [
                row["at"]
                for row in losses.rows
                if (row["term_panel"], row["series"]) == (f"BYOL: {title}", label)
            ]
            assert at == list(range(start, TASKS * EPOCHS))


def test_a_line_is_drawn_through_the_values_of_the_history(losses: Losses) -> None:
    of_cassle = [epoch for step in history(losses.runs[1]).steps for epoch in step]
    found = [
        row["value"]
        for row in losses.rows
        if (row["series"], row["term_panel"]) == ("CaSSLe", "SimCLR: L_FE_KD feature distillation")
    ]
    assert found == [e["L_FE_KD"] for e in of_cassle[EPOCHS:]]


def test_terms_that_nobody_has_take_no_panel() -> None:
    run = RunResult(Point("simclr", "no_distill", None, "proportion", 0), {"classifier": [[0.5]]})
    absent = {"L_FE_KD": 0.0, "L_C_KD": 0.0}
    values = [{"L_FE_CT": -0.9, "L_C_CT": 30.0}, {"L_FE_CT": 40.0, "L_C_CT": 0.1}]
    found = drawn([run], [History(run.point, (tuple(v | absent for v in values),))])
    headers = [
        s.text
        for s in found.drawing.shapes
        if s.text and "cell" in s.role and "role-title" in s.role
    ]
    assert headers == ["L_FE_CT self-supervised loss", "L_C_CT classifier cross-entropy"]
    assert not [text for text in found.drawing.texts() if "log axis" in text], "one is negative"


def test_without_a_history_there_is_no_figure_of_losses() -> None:
    run = RunResult(Point("simclr", "no_distill", None, "proportion", 0), {"classifier": [[0.5]]})
    shown = Grid(series=tuple(group([run], [])), references=(), classes=None)
    assert list(ROWS["losses"][1](shown, 0)) == []


def test_the_terms_are_those_of_the_objective() -> None:
    from kaizen.training.objective import Objective

    assert TERM_TEXTS == {
        "L_FE_CT": "self-supervised loss",
        "L_FE_KD": "feature distillation",
        "L_C_CT": "classifier cross-entropy",
        "L_C_KD": "classifier distillation",
    }
    weights = Objective(0.7, 2.5, 1.0, False).weights
    assert TERMS == tuple(TERM_TEXTS) == tuple(weights)
    assert weights == {"L_FE_CT": 1.0, "L_FE_KD": 0.7, "L_C_CT": 1.0, "L_C_KD": 2.5}
    only_trained = Objective(None, None, 1.0, False).weights
    assert only_trained == {"L_FE_CT": 1.0, "L_FE_KD": 0.0, "L_C_CT": 1.0, "L_C_KD": 0.0}


def finish(store: Store, node: Node[Any], fill: Callable[[Path], object]) -> None:
    """Put a node into the store with the files that ``fill`` writes into its folder."""
    with store.lock(node.id), store.building(node.id) as building:
        fill(building)
        store.commit(node.job().to_json(), building, {}, {})


def write_history(path: Path, epochs: Epochs) -> None:
    columns: dict[str, Sequence[float]]
    columns = {name: [epoch[name] for epoch in epochs] for name in epochs[0]}
    columns |= {
        "epoch": list(range(len(epochs))),
        "L": [0.0] * len(epochs),
        "lr": [0.1] * len(epochs),
    }
    reverse = pyarrow.table(columns).take(list(range(len(epochs)))[::-1])
    pyarrow.parquet.write_table(reverse, path)


def write_step(folder: Path, epochs: Epochs | None, node: Node[StepSpec]) -> None:
    names = {str(label): f"class {label}" for label in range(10)}
    write_config(config_of(node.spec, names, node.key, []), folder)
    if epochs:
        write_history(folder / "history.parquet", epochs)
    header = json.dumps(
        {"encoder.w": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}}
    ).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    write_facts(StepFacts(8, 8, 8, 0, 0, 8, 0, 1, 0.0625), folder)


def write_accuracy(folder: Path, text: str) -> None:
    (folder / "accuracy.json").write_text(text)


def test_a_history_is_read_in_order_of_its_epochs(tmp_path: Path) -> None:
    steps = history(grid()[0][0]).steps
    for step, epochs in enumerate(steps):
        write_history(tmp_path / f"{step}.parquet", epochs)
    assert read_steps([tmp_path / f"{step}.parquet" for step in range(len(steps))]) == steps


def test_the_summary_node_reads_the_histories_of_the_first_seed(tmp_path: Path) -> None:
    changes = {
        "grid.variants": ["kaizen", "cassle"],
        "grid.seeds": [4, 0],
        "report.formats": ["png"],
    }
    plan = make_plan({**changes, "replay.proportion": [0.1, 0.2]})
    store = Store(tmp_path / "store")
    results = {}
    for run in plan.runs:
        accuracies = {"classifier": np.tril(np.full((5, 5), 0.5)).tolist()}
        results[run.name] = RunResult(
            run.point,
            accuracies,
        )
        content = json.dumps({"matrices": accuracies | {"knn": [[None] * 5] * 5}})
        counts: list[Counts] = [
            {(label, step): step + 1 for label in range(10)} for step in range(5)
        ]

        def fill(folder: Path, text: str = content, counts: Sequence[Counts] = counts) -> None:
            (folder / "accuracy.json").write_text(text)
            write_confusion(counts, folder / "confusion.parquet")

        finish(store, run.evaluations[0], fill)
        for node, epochs in zip(run.steps, history(results[run.name]).steps, strict=True):
            if not store.has(node.id):
                # The summary has no use for the other seeds' histories.
                kept = epochs if run.point.seed == 4 else None
                finish(store, node, partial(write_step, epochs=kept, node=node))
    part = {"rows": 8, "labelled": 8, "skipped": 0, "content_sha256": "f"}
    tasks = [
        {"task": task, "classes": labels, "class_names": [f"class {label}" for label in labels]}
        | {"train": part, "test": part}
        for task, labels in enumerate(
            plan.runs[0].evaluations[0].job().to_json()["params"]["tasks"]
        )
    ]
    stream = {
        "dataset": "made up",
        "split": "class",
        "classes": list(plan.facts.classes),
        "tasks": tasks,
    }
    finish(
        store, plan.shards[0], lambda folder: (folder / "tasks.json").write_text(json.dumps(stream))
    )
    for reference in plan.references:
        content = json.dumps({"specialists": None, "random_network": {"knn": [None] * 5}})
        finish(store, reference.evaluation, partial(write_accuracy, text=content))
    job = plan.summary.job().through_json()
    spec = job.to_json()
    steps = {run.name: run.steps for run in plan.runs}
    assert {role: node for role, node in spec["inputs"].items() if role.startswith("step-")} == {
        f"step-{name}-{task:02d}": {"kind": "step", "key": node.key}
        for name, nodes in steps.items()
        for task, node in enumerate(nodes)
    }
    assert [point["history"] for point in spec["params"]["runs"]] == [True, False] * 3
    run_summary(job, store, tmp_path / "out")
    with open(tmp_path / "out/figures/loss_terms.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["variant"], row["replay_size"], row["seed"]) for row in rows} == {
        ("kaizen", "0.1", "4"),
        ("kaizen", "0.2", "4"),
        ("cassle", "", "4"),
    }
    per_class = parse_csv(tmp_path / "out/per_class.csv")
    tasks = plan.runs[0].evaluations[0].job().to_json()["params"]["tasks"]
    assert len(per_class) == len(plan.runs) * 5 * 10
    assert all(row["label"] in tasks[row["task"]] for row in per_class)
    assert all(row["class"] == f"class {row['label']}" for row in per_class)
    assert all(row["accuracy"] == (row["label"] == row["step"]) for row in per_class)
    large = history(results["simclr-kaizen-replay20pct-seed4"]).steps[2]
    found = [
        row
        for row in rows
        if (row["replay_size"], row["step"], row["term"]) == ("0.2", "2", "L_C_KD")
    ]
    assert [float(row["value"]) for row in found] == [epoch["L_C_KD"] for epoch in large]
    damaged = store.folder(NodeId.of("step", plan.runs[0].steps[3].key)) / "history.parquet"
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(KaizenError, match=re.escape(str(damaged))):
        run_summary(job, store, tmp_path / "again")
