"""Log, step.json, card and report say what happened, not what the parameters asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import CLASSES, Project, make_project

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.training.facts import StepFacts, read_facts, write_facts

# 2 tasks of 2 classes with 12 images, of which 3 keep their label; half of the rows: of each class
# 2 labelled ones, and 9 of the 18 others. Replay: of each class's 3 none, of the 18 others 4.
CHANGES = {
    "labels.fraction": 0.25,
    "replay.proportion": [0.25],
    "train.data_fraction": 0.5,
    "train.batch_size": 256,
    "train.replay_batch_size": 32,
    "train.lr": 1.0,
    "train.optimizer": "sgd",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("facts") / "project", CHANGES)
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    (project.root / "output.txt").write_text(outcome.output)
    return project


def folder(project: Project, variant: str, step: int) -> Path:
    (found,) = project.root.glob(f"results/models/simclr-{variant}-*seed0/step-{step:02d}")
    return found


def test_the_step_counts_what_it_trained_with(project: Project) -> None:
    first = {
        "rows": 13,
        "of_rows": 24,
        "labelled": 4,
        "replay_rows": 0,
        "replay_labelled": 0,
        "batch_size": 13,
        "replay_batch_size": 0,
        "batches": 1,
        "lr": 13 / 256,
        "replay_lacks": [],
        "classes": {"1": "bee", "3": "dog"},
    }
    assert read_json(folder(project, "kaizen-replay25pct", 0) / "step.json") == first
    tasks = read_json(project.root / "data/shards/tasks.json")["tasks"]
    every = dict(zip("0123", CLASSES, strict=True))
    second = first | {"replay_rows": 4, "replay_batch_size": 4, "classes": every}
    second["replay_lacks"] = tasks[0]["class_names"]
    assert read_json(folder(project, "kaizen-replay25pct", 1) / "step.json") == second
    third = first | {"classes": every}
    assert read_json(folder(project, "no_distill", 1) / "step.json") == third
    replay = pq.read_table(next(project.root.glob("data/replay/*/step-01/replay.parquet")))
    assert replay.num_rows == 4 and set(replay["label"].to_pylist()) == {-1}


def test_the_rate_is_that_of_the_batch_that_is_trained_with(project: Project) -> None:
    history = pq.read_table(folder(project, "no_distill", 0) / "history.parquet").to_pydict()
    assert history["lr"][0] == pytest.approx(13 / 256)


def test_log_card_and_report_tell_it(project: Project) -> None:
    line = (
        "13 of 24 images (4 labelled), 4 of replay (0 labelled); batches of 13 + 4, 1 per epoch; "
        "learning rate 0.05078"
    )
    small = "batches have 13 task images, all there are, not train.batch_size 256"
    unlabelled = "no replay image has a label"
    card = (folder(project, "kaizen-replay25pct", 1).parent / "README.md").read_text()
    for text in ((project.root / "output.txt").read_text(), card):
        assert line in text and small in text and unlabelled in text
    assert "batches of 13\n" in card and "25 % of the earlier tasks: 4 images" in card
    assert "54.2 %" in card, "13 of 24 rows, not 50 %"
    report = (project.root / "results/summary/report.md").read_text()
    _, _, report = report.partition("## What was trained on")
    row = next(line for line in report.splitlines() if line.startswith("| SimCLR | Kaizen, 25 %"))
    cells = [cell.strip() for cell in row.split("|")[3:-1]]
    assert cells == ["13", "4", "4", "13", "4", "0.05078"]
    row = next(line for line in report.splitlines() if line.startswith("| SimCLR | No dist"))
    assert [cell.strip() for cell in row.split("|")[5:8]] == ["0", "13", "0"]
    assert "**Otherwise than the parameters say:**" in report
    assert small in report and unlabelled in report


def test_where_all_is_as_asked_nothing_is_noted(tmp_path: Path) -> None:
    facts = StepFacts(24, 24, 24, 6, 6, 8, 4, 3, 0.0625)
    assert facts.warnings(8, 4) == []
    assert facts.text() == (
        "24 images (24 labelled), 6 of replay (6 labelled); batches of 8 + 4, 3 per epoch; "
        "learning rate 0.0625"
    )
    lacking = StepFacts(24, 24, 24, 6, 6, 8, 4, 3, 0.0625, ["bee", "a|b"])
    assert lacking.warnings(8, 4) == [
        "no labelled image of 'bee', 'a|b' is replayed: the replay size comes to none of them"
    ]
    none = StepFacts(24, 24, 0, 0, 0, 8, 0, 3, 0.0625)
    assert none.warnings(8, 0) == [
        "no image that is trained on has a label: the classifier learns none"
    ]
    write_facts(facts, tmp_path)
    assert read_facts(tmp_path / "step.json") == facts


@pytest.mark.parametrize(
    "content", [[], {}, {"rows": 1}, {"rows": "many"}], ids=["list", "empty", "short", "text"]
)
def test_other_files_are_no_facts(tmp_path: Path, content: object) -> None:
    (tmp_path / "step.json").write_text(json.dumps(content))
    with pytest.raises(KaizenError, match=r"step\.json does not hold a step's facts"):
        read_facts(tmp_path / "step.json")
