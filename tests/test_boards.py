"""`runtime.live`: a step's curves in TensorBoard and DVCLive too."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from project import make_project
from told import Told

from kaizen.jobs import foresight
from kaizen.training.boards import open_board
from kaizen.training.reporter import EpochEnd
from kaizen.training.traces import Row, Traces


class Kept:
    """A board that keeps the epochs."""

    def __init__(self, first: int) -> None:
        self.first, self.epochs, self.closed = first, list[int](), False

    def add(self, row: Row) -> None:
        if row.epoch == 7:
            raise RuntimeError("a fault of the library")
        self.epochs.append(row.epoch)

    def close(self) -> None:
        self.closed = True


def train(work: Path, boards: list[Kept], epochs: range) -> str:
    """A job that reports these epochs; what it said."""

    def board(first: int) -> Kept:
        boards.append(Kept(first))
        return boards[-1]

    told = Told()
    job = Traces(told, work, board)
    for epoch in epochs:
        job.epoch(EpochEnd(epoch, 9, {"L": 1.0}, 0.1, 100.0))
    job.close()
    return " ".join(told.notes)


def test_a_board_begins_with_the_epochs_before_an_interruption(tmp_path: Path) -> None:
    boards: list[Kept] = []
    train(tmp_path, boards, range(1, 5))
    train(tmp_path, boards, range(4, 6))
    assert [(board.first, board.epochs) for board in boards] == [
        (1, [1, 2, 3, 4]),
        (1, [1, 2, 3, 4, 5]),
    ]
    assert all(board.closed for board in boards)


def test_a_fault_of_a_board_costs_the_board_alone(tmp_path: Path) -> None:
    boards: list[Kept] = []
    said = train(tmp_path, boards, range(5, 10))
    assert boards[0].epochs == [5, 6]
    assert said == "note: runtime.live: a fault of the library; the curves end here"


@pytest.mark.parametrize("live", ["tensorboard", "dvclive"])
def test_a_board_that_is_not_installed_is_refused_before_any_job(
    live: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "p", {"runtime": {"live": live}})
    monkeypatch.setattr(foresight, "_is_installed", lambda package: package != live)
    done = project.kaizen("check")
    assert done.code == 2 and f"runtime.live: {live} is not installed" in done.output


def rows() -> list[Row]:
    return [
        Row(n, 3, 1e9 + n, 1.0, 100.0, 0.1 * n, {"L": 5.0 - n}, accuracy=0.25 * n)
        for n in (1, 2, 3)
    ]


def test_tensorboard_reads_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra live)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        board = open_board("tensorboard", "step-1-abc", 1)
        for row in rows():
            board.add(row)
        board.close()
    found = EventAccumulator(str(tmp_path / "logs/tensorboard/step-1-abc"))
    found.Reload()
    losses = [(event.step, event.value) for event in found.Scalars("loss/L")]
    assert losses == [(1, 4.0), (2, 3.0), (3, 2.0)], "those of the later file alone"
    assert [event.value for event in found.Scalars("accuracy")] == [0.25, 0.5, 0.75]


def test_dvclive_keeps_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dvclive", reason="dvclive is not installed (extra live)")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        board = open_board("dvclive", "step-1-abc", 1)
        for row in rows():
            board.add(row)
        board.close()
    folder = tmp_path / "logs/dvclive/step-1-abc"
    with open(folder / "plots/metrics/loss/L.tsv", newline="") as file:
        found = [
            (int(row["step"]), float(row["L"])) for row in csv.DictReader(file, delimiter="\t")
        ]
    assert found == [(1, 4.0), (2, 3.0), (3, 2.0)]
    tried = (folder / "plots/metrics/accuracy.tsv").read_text().split()
    assert tried[-6:] == ["1", "0.25", "2", "0.5", "3", "0.75"]
    assert not (tmp_path / "dvc.yaml").exists() and not (folder / "dvc.yaml").exists()
