"""A step that is killed at any moment and started again ends with the same bytes as one left
alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import node_command

from kaizen.store.node_id import NodeId
from kaizen.store.store import Store

OVERLAY = {
    "split": {"tasks": 2},
    "grid": {"variants": ["kaizen"], "specialists": False},
    "image": {"size": 8},
    "model": {"width": 4, "classifier_hidden": [8]},
    "ssl": {"simclr": {"projector_hidden": 16, "projector_out": 8}},
    "distill": {"feature": {"predictor_hidden": 16}},
    "train": {
        "epochs": 40,
        "batch_size": 16,
        "replay_batch_size": 4,
        "data_fraction": 0.3,
        "warmup_epochs": 1,
        # Views of 4 pixels in the first two epochs, of 8 in the others.
        "start_size": 0.5,
        "full_size_from": 0.1,
    },
    "reference_compat": {"teacher_train_mode": True},
    "runtime": {"save_every_epochs": 1},
}


class StepStores:
    """A folder with parameters, and stores beside each other in which one step is made."""

    def __init__(self, root: Path, params: Path) -> None:
        self.root, self.params = root, params
        (root / "overlay.yaml").write_text(yaml.safe_dump(OVERLAY))
        nodes = json.loads(self._kaizen("plan", "--json", store="reference"))["nodes"]
        self.steps = [node for node in nodes if node["kind"] == "step"]
        self.before = [node for node in nodes if node["kind"] in ("shards", "replay")]

    def _kaizen(self, *arguments: str, store: str) -> str:
        given = ["--params", str(self.params), "--overlay", "overlay.yaml"]
        environment = os.environ | {"KAIZEN_STORE": str(self.root / store)}
        command = [sys.executable, "-m", "kaizen", *arguments, *given]
        return subprocess.run(
            command, cwd=self.root, env=environment, check=True, capture_output=True, text=True
        ).stdout

    def start(self, spec: dict[str, Any], store: str) -> subprocess.Popen[str]:
        """Start the job of a node as the workflow does."""
        command = node_command(self.root / store, spec)
        return subprocess.Popen(command, cwd=self.root, stderr=subprocess.PIPE, text=True)

    def make(self, spec: dict[str, Any], store: str) -> str:
        process = self.start(spec, store)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return errors

    def without(self, spec: dict[str, Any], store: str) -> Store:
        """A copy of the reference, in which only the node of ``spec`` is missing."""
        subprocess.run(
            ["cp", "--archive", str(self.root / "reference"), str(self.root / store)], check=True
        )
        copy = Store(self.root / store)
        folder = copy.folder(NodeId.of(spec["kind"], spec["key"]))
        subprocess.run(["rm", "--recursive", str(folder)], check=True)
        return copy

    def files(self, spec: dict[str, Any], store: str) -> dict[str, bytes]:
        folder = Store(self.root / store).folder(NodeId.of(spec["kind"], spec["key"]))
        return {
            path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"
        }


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> StepStores:
    """Shards, replay and both steps made without interruption in the store `reference`."""
    params = Path(__file__).parents[1] / "params.yaml"
    work = StepStores(tmp_path_factory.mktemp("interruption"), params)
    for spec in (*work.before, *work.steps):
        work.make(spec, "reference")
    return work


@pytest.mark.parametrize(
    ("kill", "epochs"),
    [(signal.SIGKILL, (1,)), (signal.SIGTERM, (2, 9)), (signal.SIGKILL, (5, 6, 20))],
    ids=["killed once", "terminated twice", "killed three times"],
)
def test_an_interrupted_step_ends_with_the_same_bytes(
    work: StepStores, kill: signal.Signals, epochs: tuple[int, ...]
) -> None:
    store = f"{kill.name}-{len(epochs)}"
    step = work.steps[1]
    finished, node = work.without(step, store), NodeId.of("step", step["key"])
    state = finished.work_folder(node) / "resume.safetensors"
    for epoch in epochs:
        process = work.start(step, store)
        _wait_for_epoch(state, epoch, process)
        process.send_signal(kill)
        _, errors = process.communicate()
        assert process.returncode == (143 if kill == signal.SIGTERM else -signal.SIGKILL), errors
        assert not finished.has(node)
        if kill == signal.SIGTERM:
            assert "the same command resumes it" in errors
    assert "resumes at epoch" in work.make(step, store)
    assert work.files(step, store) == work.files(step, "reference")
    assert not state.exists(), "a finished step leaves no resume state behind"


def test_a_stop_between_batches_saves_that_very_batch(work: StepStores) -> None:
    """In process, where the moment can be chosen: stopped after every single batch of the first
    epochs.
    """
    from kaizen.errors import Interrupted
    from kaizen.jobs.make import run_job
    from kaizen.plan.job import read_job
    from kaizen.training.reporter import PlainReporter

    step = work.steps[1]
    store = work.without(step, "batches")
    job = read_job(step, "the plan")
    for _ in range(25):
        with pytest.raises(Interrupted, match="the same command resumes it"):
            run_job(job, store, PlainReporter("test", None, None), stop=lambda: True)
    run_job(job, store, PlainReporter("test", None, None))
    assert work.files(step, "batches") == work.files(step, "reference")


def _wait_for_epoch(state: Path, epoch: int, process: subprocess.Popen[str]) -> None:
    """Wait until the saved state has come at least to ``epoch``."""
    import safetensors

    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if state.exists():
            with safetensors.safe_open(state, "pt") as file:
                if json.loads(file.metadata()["state"])["progress"]["epoch"] >= epoch:
                    return
        time.sleep(0.005)
    raise AssertionError(f"no state of epoch {epoch} within ten minutes")


def test_the_network_sees_views_that_grow(
    work: StepStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaizen.jobs.make import run_job
    from kaizen.plan.job import read_job
    from kaizen.training.objective import Objective
    from kaizen.training.reporter import PlainReporter

    step, sizes = work.steps[1], []
    computed = Objective.__call__

    def recorded(self: Objective, student: Any, teacher: Any, views: Any, *more: Any, **named: Any):  # type: ignore[no-untyped-def]
        sizes.append({view.shape[2:] for view in views})
        return computed(self, student, teacher, views, *more, **named)

    monkeypatch.setattr(Objective, "__call__", recorded)
    store = work.without(step, "views")
    run_job(read_job(step, "the plan"), store, PlainReporter("test", None, None))
    length = len(sizes) // 40
    assert sizes == [{(4, 4)}] * 2 * length + [{(8, 8)}] * 38 * length
