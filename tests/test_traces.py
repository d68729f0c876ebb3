"""What a job leaves for those who watch it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from project import make_project
from told import Told

from kaizen.errors import KaizenError
from kaizen.store.node_id import NodeId
from kaizen.training import loop
from kaizen.training.reporter import EpochEnd
from kaizen.training.resume import Progress
from kaizen.training.traces import (
    AMOUNT_FILE,
    FAILURE_FILE,
    ROWS_FILE,
    Traces,
    read_amount,
    read_failure,
    read_rows,
)

TERMS = {"L": 2.5, "L_FE_CT": 2.0}


def train(work: Path, epochs: range, total: int = 9) -> Told:
    """A job that reports these epochs."""
    told = Told()
    job = Traces(told, work)
    for epoch in epochs:
        job.epoch(EpochEnd(epoch, total, TERMS, 0.1 * epoch, 100.0))
    return told


def epochs_in(work: Path) -> list[int]:
    return [row.epoch for row in read_rows(work)]


def test_rows_come_back(tmp_path: Path) -> None:
    train(tmp_path / "work", range(1, 4))
    rows = read_rows(tmp_path / "work")
    assert [(row.epoch, row.epochs, row.lr) for row in rows] == [
        (1, 9, 0.1),
        (2, 9, 0.2),
        (3, 9, pytest.approx(0.3)),
    ]
    assert rows[0].terms == TERMS and rows[0].images_per_second == 100.0
    assert all(row.seconds >= 0 and row.at > 1e9 for row in rows)


def test_an_accuracy_comes_back_where_one_was_tried(tmp_path: Path) -> None:
    job = Traces(Told(), tmp_path)
    for epoch, accuracy in ((1, 0.5), (2, None), (3, 0.0)):
        job.epoch(EpochEnd(epoch, 9, TERMS, 0.1, 100.0, accuracy))
    assert [row.accuracy for row in read_rows(tmp_path)] == [0.5, None, 0.0]
    lines = (tmp_path / ROWS_FILE).read_text().splitlines()
    assert ["accuracy" in line for line in lines] == [True, False, True]


def test_epochs_that_are_trained_again_are_there_once(tmp_path: Path) -> None:
    train(tmp_path, range(1, 6))
    train(tmp_path, range(4, 7))
    assert epochs_in(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert len((tmp_path / ROWS_FILE).read_text().splitlines()) == 6


def test_half_a_line_is_skipped_and_followed_by_whole_ones(tmp_path: Path) -> None:
    train(tmp_path, range(1, 4))
    path = tmp_path / ROWS_FILE
    os.truncate(path, path.stat().st_size - 30)
    assert epochs_in(tmp_path) == [1, 2]
    train(tmp_path, range(3, 5))
    assert epochs_in(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "7",
        '{"epoch": 3}',
        '{"epoch":3,"epochs":2,"at":1,"seconds":1,"images_per_second":1,"lr":1,"terms":{}}',
        '{"epoch":3,"epochs":9,"at":NaN,"seconds":1,"images_per_second":1,"lr":1,"terms":{}}',
        '{"epoch":true,"epochs":9,"at":1,"seconds":1,"images_per_second":1,"lr":1,"terms":{}}',
        '{"epoch":3,"epochs":9,"at":1,"seconds":1,"images_per_second":1,"lr":1,"terms":[1]}',
        '{"epoch":3,"epochs":9,"at":"1","seconds":1,"images_per_second":1,"lr":1,"terms":{}}',
        '{"epoch":3,"epochs":9,"at":1e99,"seconds":1,"images_per_second":1,"lr":1,"terms":{}}',
        '{"epoch":3,"epochs":9,"at":1,"seconds":1,"images_per_second":1,"lr":1,"terms":{},'
        '"accuracy":2}',
        "x" * 100_000,
    ],
)
def test_a_row_that_none_wrote_is_none(tmp_path: Path, line: str) -> None:
    train(tmp_path, range(1, 3))
    with open(tmp_path / ROWS_FILE, "a") as file:
        file.write(line + "\n")
    assert epochs_in(tmp_path) == [1, 2]


def test_what_a_terminal_would_obey_is_not_read(tmp_path: Path) -> None:
    for name, text in (
        (AMOUNT_FILE, '{"done": 1, "total": 2, "what": "\\u001b[2J", "at": 5}'),
        (FAILURE_FILE, '{"message": "\\u001b[2J", "at": 5}'),
    ):
        (tmp_path / name).write_text(text)
    amount, failure = read_amount(tmp_path), read_failure(tmp_path)
    assert amount is not None and amount.what == "�[2J"
    assert failure is not None and failure.message == "�[2J"


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in (ROWS_FILE, AMOUNT_FILE, FAILURE_FILE):
        os.mkfifo(tmp_path / name)
    assert read_rows(tmp_path) == []
    assert read_amount(tmp_path) is None and read_failure(tmp_path) is None


def test_an_amount_is_written_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("kaizen.training.traces.time.monotonic", lambda: clock[0])
    job = Traces(Told(), tmp_path)
    seen = []
    for second in range(12):
        clock[0] = float(second)
        job.amount(second, 100, "images")
        found = read_amount(tmp_path)
        seen.append(None if found is None else found.done)
    assert seen == [0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 10, 10]


def test_where_nothing_can_be_written_the_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file in the folder's place")
    told = train(tmp_path / "work", range(1, 4))
    assert len(told.notes) == 1 and "kaizen watch" in told.notes[0]


def test_a_step_leaves_rows_until_it_is_finished_and_none_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped half way, and gone on with: the rows are those of an undisturbed step."""
    project = make_project(
        tmp_path / "p", {"train.epochs": 5, "grid.variants": ["no_distill"], "split.tasks": 2}
    )
    seen: dict[str, list[int]] = {}
    whole: Callable[..., None] = loop.Step._train_epoch
    stop_at = [3]

    def train_epoch(step: loop.Step, progress: Progress) -> None:
        whole(step, progress)
        seen.setdefault(step.work.name, [])[:] = epochs_in(step.work)
        if progress.epoch == stop_at[0]:
            raise KaizenError("the power failed")

    monkeypatch.setattr(loop.Step, "_train_epoch", train_epoch)
    project.kaizen("run").bad()
    (work,) = (project.store.root / ".work").iterdir()
    assert epochs_in(work) == [1, 2, 3]
    failure = read_failure(work)
    assert failure is not None and failure.message == "the power failed"
    stop_at[0] = 0
    project.kaizen("run").good()
    assert len(seen) == 2 and all(epochs == [1, 2, 3, 4, 5] for epochs in seen.values())
    node = NodeId.from_file_name(work.name)
    assert node is not None and project.store.has(node) and not work.exists()
    assert ROWS_FILE not in project.store.read_record(node).files
