"""The parts of a shared step: rows, norms, the command that starts the processes, and how a job
follows them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_params, make_plan
from torch import nn

from kaizen.compute import distributed
from kaizen.errors import Interrupted, KaizenError, NodeFailed
from kaizen.jobs import launch
from kaizen.models.shared import SharedBatchNormAct, share_statistics
from kaizen.store.made import Made
from kaizen.store.store import Store
from kaizen.training.reporter import EpochEnd, PlainReporter

# -- parts -------------------------------------------------------------------------------------


def test_rows_are_dealt_evenly_and_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "count", lambda: 3)
    for total in range(3, 12):
        parts = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            parts.append(range(total)[distributed.own_rows(total)])
        assert [row for part in parts for row in part] == list(range(total))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_another_number_of_rows_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "count", lambda: 2)
    with pytest.raises(ValueError, match="3 rows of 5 in process 0, which encodes 2"):
        distributed.gather_rows(torch.zeros(3, 4), 5)


def test_norms_of_other_kinds_are_shared_or_refused() -> None:
    class BatchNormAct2d(nn.BatchNorm2d):
        """As timm's."""

        def __init__(self) -> None:
            super().__init__(3)
            self.drop, self.act = nn.Identity(), nn.ReLU()

    norm = BatchNormAct2d().eval()
    share_statistics(norm)
    assert isinstance(norm, SharedBatchNormAct)
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(images), images.relu(), rtol=0, atol=1e-4)
    with pytest.raises(
        KaizenError, match=r"runtime\.processes: the backbone's SyncBatchNorm takes statistics"
    ):
        share_statistics(nn.SyncBatchNorm(3))
    layer = nn.LayerNorm(3)
    share_statistics(layer)
    assert type(layer) is nn.LayerNorm


def test_more_processes_than_images_in_a_batch_are_refused() -> None:
    make_params({"runtime.processes": 4, "train.batch_size": 4})
    with pytest.raises(
        KaizenError, match=r"runtime\.processes: 6 processes \(on all hosts\) cannot share batches"
    ):
        make_params({"runtime.processes": 3, "runtime.hosts": 2, "train.batch_size": 4})


JOB = make_plan({"runtime.processes": 4, "runtime.hosts": 2}).runs[0].steps[0].job()
STORE = Store(Path("/no/store"))


def test_several_hosts_need_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(
        KaizenError, match=r"runtime\.hosts: 2 hosts are asked for, but this is not a job of SLURM"
    ):
        launch.launch_command(JOB, Path("/store"), Path("/building"))
    monkeypatch.setenv("SLURM_JOB_ID", "70123")
    command = " ".join(launch.launch_command(JOB, Path("/store"), Path("/building")))
    assert command.startswith(
        "srun --nodes 2 --ntasks-per-node 1 --cpus-per-task 4 --kill-on-bad-exit=1 "
    )
    assert "--nproc-per-node 4 --nnodes 2 --rdzv-backend c10d" in command
    assert ":30123 --rdzv-id 70123 --module kaizen.jobs.worker {" in command


# -- the job and its processes, which small programs stand for ---------------------------------


class Reported(PlainReporter):
    """Remembers the lines."""

    def __init__(self) -> None:
        super().__init__("job", None, None)
        self.lines: list[str] = []

    def _write(self, text: str, always: bool) -> None:
        self.lines.append(text)


def run_program(
    monkeypatch: pytest.MonkeyPatch, program: str, stop: Any = lambda: False
) -> tuple[Any, list[str]]:
    """What the job makes of processes that do as ``program``; an exception is returned."""
    monkeypatch.setattr(launch, "launch_command", lambda *_: [sys.executable, "-c", program])
    reported = Reported()
    try:
        return launch.train_in_processes(JOB, STORE, Path(), reported, stop), reported.lines
    except BaseException as error:
        return error, reported.lines


def test_the_job_replays_what_the_first_process_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        [0, "note", ["2 processes"]],
        [0, "epoch", [vars(EpochEnd(1, 2, {"L": 0.5}, 0.1, 64.0))]],
        [0, "result", [{"environment": {"torch": "9"}, "training_seconds": 1.0}]],
    ]
    found, reported = run_program(
        monkeypatch, f"for line in {[json.dumps(line) for line in lines]}: print(line)"
    )
    assert found == Made({"torch": "9"}, training_seconds=1.0)
    assert reported[0] == "2 processes"
    assert reported[1].startswith("epoch 1/2 L 0.5000 lr 0.1 64 images/s")


@pytest.mark.parametrize(
    ("messages", "kind", "text"),
    [
        (
            [[0, "NodeFailed", ["not finite"]], [1, "NodeFailed", ["not finite"]]],
            NodeFailed,
            "not finite",
        ),
        ([[1, "Interrupted", ["saved"]], [0, "Interrupted", ["saved"]]], Interrupted, "saved"),
        (
            [[1, "KaizenError", ["shard is damaged"]]],
            KaizenError,
            "process 1 (from 0): shard is damaged",
        ),
        (
            [[0, "OSError", [28, "No space left on device", "/x"]]],
            OSError,
            "[Errno 28] No space left on device: '/x'",
        ),
        ([[2, "MemoryError", []]], MemoryError, ""),
    ],
)
def test_errors_end_the_job_with_one_message(
    messages: list[Any], kind: type[BaseException], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        f"import sys\nfor line in {[json.dumps(line) for line in messages]}: "
        "print(line)\nsys.exit(1)"
    )
    found, reported = run_program(monkeypatch, program)
    assert type(found) is kind
    assert str(found) == text
    assert reported == []


def test_processes_that_die_without_a_word_fail_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    found, reported = run_program(
        monkeypatch, "import sys; print('Killed', file=sys.stderr); sys.exit(1)"
    )
    assert isinstance(found, NodeFailed)
    assert "a process of those that share the step died (torchrun ended with 1)" in str(found)
    assert reported == ["Killed"]


def test_a_request_to_stop_is_passed_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import json, signal, sys, time
times = []
signal.signal(signal.SIGTERM, lambda *_: times.append(1))
print(json.dumps([0, "note", ["ready"]]), flush=True)
while not times: time.sleep(0.01)
time.sleep(0.5)
print(json.dumps([0, "Interrupted", [f"{len(times)} times"]]), flush=True)
"""
    reported = Reported()
    monkeypatch.setattr(launch, "launch_command", lambda *_: [sys.executable, "-c", program])
    with pytest.raises(Interrupted, match=r"^1 times$"):
        launch.train_in_processes(JOB, STORE, Path(), reported, lambda: bool(reported.lines))


def test_an_impatient_job_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def impatient() -> bool:
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt
        return False

    program = (
        "import os, pathlib, time; "
        f"pathlib.Path('{tmp_path}/pid').write_text(str(os.getpid())); time.sleep(600)"
    )
    found, _ = run_program(monkeypatch, program, impatient)
    assert isinstance(found, KeyboardInterrupt)
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()
