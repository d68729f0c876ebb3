"""DVC experiments, metrics and plots of the real workflow: readable, never stale, each shared node
made once.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import REPOSITORY, Project

PLOTS = (
    "accuracy_over_steps",
    "accuracy_bars",
    "per_task_heatmap",
    "loss_terms",
    "confusion_matrix",
)
QUEUE_SECONDS, IDLE_SECONDS = 900, 60


def run_queue(project: Project) -> None:
    """Run what is queued by two workers; fails with the status where an experiment failed."""
    # Not with a pipe, which the workers would keep open: one of DVC's that finds a file of the
    # queue half written never ends.
    subprocess.run(
        ["dvc", "queue", "start", "--jobs", "2"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    deadline = time.monotonic() + QUEUE_SECONDS
    while re.search("Queued|Running", status := project.run("dvc", "queue", "status")):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert "Failed" not in status, status
    deadline = time.monotonic() + IDLE_SECONDS
    while "0 active, 0 idle" not in project.run("dvc", "queue", "status"):
        if time.monotonic() > deadline:
            project.run("dvc", "queue", "stop")
            break
        time.sleep(1)


@pytest.fixture(scope="module")
def queued(
    reproduced: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, list[str]]:
    """A project after three experiments in its queue, run by two workers; and each experiment's
    output.
    """
    project = reproduced.copy_with_links(tmp_path_factory.mktemp("queued") / "project")
    # Each job says that it made its node.
    project.variables["KAIZEN_TERMINAL"] = "all"
    names = {"softer": 1.0, "softest": 0.5, "harder": 4.0}
    for name, weight in names.items():
        changes = (
            "--set-param",
            f"distill.classifier.weight={weight}",
            "--set-param",
            "train.lr=0.5",
        )
        project.run("dvc", "exp", "run", "--queue", "--name", name, *changes)
    project.start_counting()
    run_queue(project)
    return project, [project.run("dvc", "queue", "logs", name) for name in names]


def test_a_queue_with_two_workers_makes_each_shared_node_once(
    queued: tuple[Project, list[str]], reproduced: Project
) -> None:
    project, outputs = queued
    # One weight of the distillation reaches step 1 of Kaizen alone; all share steps 0 and 1 of the
    # baseline.
    ideal = {"step": 2 + 3, "evaluation": 1 + 3, "reference": 1, "summary": 3}
    assert project.jobs() == ideal
    made = re.findall(r"^(.*): done$", "\n".join(outputs), flags=re.MULTILINE)
    assert len(made) == sum(ideal.values()), made
    assert project.manifest() == reproduced.manifest(), "the workspace itself is as it was"


def test_experiments_of_a_queue_are_applied_without_a_job(
    queued: tuple[Project, list[str]], tmp_path: Path
) -> None:
    project = queued[0].copy_with_links(tmp_path / "project")
    before = project.manifest()
    for name in ("harder", "softer"):
        project.run("dvc", "exp", "apply", name)
        assert "Nothing to be done" in project.snakemake("--dry-run").good()
        project.check_nothing_stale()
        assert project.manifest() != before
    assert project.jobs() == {}


def test_experiments_are_shown_in_few_columns(queued: tuple[Project, list[str]]) -> None:
    project, _ = queued
    text = project.run("dvc", "exp", "show", "--only-changed", "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    shown = set(rows[0]) - {"Experiment", "rev", "typ", "Created", "parent", "State", "Executor"}
    changed = {"distill.classifier.weight", "train.lr"}
    metrics = {
        f"simclr.{variant}.{metric}"
        for variant in ("kaizen", "no_distill")
        for metric in ("CA", "FA", "F")
    }
    assert changed < shown <= changed | metrics
    assert {row["Experiment"] for row in rows} >= {"softer", "softest", "harder"}
    parameters = json.loads(project.run("dvc", "params", "diff", "--json", "HEAD", "softer"))
    assert set(parameters["params.yaml"]) == changed
    values = json.loads(project.run("dvc", "metrics", "diff", "--json", "HEAD", "softer"))[
        "results/metrics.json"
    ]
    assert values and set(values) <= metrics


def test_plots_draw_the_figures_data(queued: tuple[Project, list[str]]) -> None:
    project, _ = queued
    page = Path(
        project.run("dvc", "plots", "diff", "HEAD", "softer").strip().removeprefix("file://")
    ).read_text()
    specs = {spec["title"]["text"]: spec for spec in embedded_specs(page)}
    described = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["plots"]
    assert [name for plot in described for name in plot] == list(PLOTS)
    for plot in described:
        ((_, settings),) = plot.items()
        ((path, _),) = settings["y"].items()
        spec = specs[settings["title"]]
        rows = [row for row in spec["data"]["values"] if row["rev"] == "HEAD"]
        with open(project.root / path, newline="") as file:
            expected = list(csv.DictReader(file))
        assert [{name: row[name] for name in expected[0]} for row in rows] == expected
        assert {row["rev"] for row in spec["data"]["values"]} == {"HEAD", "softer"}
        columns = {*spec["data"]["values"][0], *made_by(spec["transform"])}
        assert fields(spec) <= columns, f"{path} lacks what its plot shows"
        assert set(spec["data"]["format"]["parse"]) <= columns
        assert "DVC_METRIC" not in json.dumps(spec)


def embedded_specs(page: str) -> list[dict[str, Any]]:
    """The Vega-Lite specifications in a page of `dvc plots`."""
    return [
        json.JSONDecoder().raw_decode(page, match.end())[0]
        for match in re.finditer(r"var spec = ", page)
    ]


def made_by(transforms: list[dict[str, Any]]) -> set[str]:
    """The fields that transforms add."""
    steps = [
        step
        for transform in transforms
        for kind in ("aggregate", "joinaggregate", "window")
        for step in transform.get(kind, [])
    ]
    return {step["as"] for step in [*transforms, *steps] if "as" in step}


def fields(value: Any) -> set[str]:
    """Every field that a specification names."""
    if isinstance(value, list):
        return set().union(*map(fields, value))
    if not isinstance(value, dict):
        return set()
    own = {value["field"]} if isinstance(value.get("field"), str) else set()
    return own.union(*(fields(part) for name, part in value.items() if name != "values"))


def test_parameters_left_out_of_params_yaml_take_their_defaults(project: Project) -> None:
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    for section in ("reference_compat", "per_method", "variants", "labels", "augment"):
        params.pop(section)
    params["runtime"] = {"step_minutes": 5}
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    before = project.manifest()
    project.run("dvc", "repro")
    assert project.jobs() == {}
    assert project.manifest() == before
    assert "didn't change" in project.run("dvc", "repro")
    project.run("dvc", "exp", "run", "--name", "third", "--set-param", "report.title=third")
    assert project.jobs() == {"summary": 1}
    project.check_nothing_stale()
