"""Locks of nodes: who holds one, who waits for whom, and who may no longer write."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaizen.errors import Interrupted, KaizenError, Superseded
from kaizen.jobs.running import cancel, nodes_being_made
from kaizen.store import locks
from kaizen.store.locks import Watch, hold, is_held, read_holder
from kaizen.store.node_id import NodeId
from kaizen.store.processes import living_workflows, record_workflow
from kaizen.store.scheduler import ClusterJob, is_over, slurm_jobs, this_job
from kaizen.store.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]

# Holds the lock and looks at it for every "batch", until it is superseded: then it says so and
# ends.
WORKER = """
    import sys, time
    from pathlib import Path
    from kaizen.errors import Superseded
    from kaizen.store.locks import hold
    with hold(Path(sys.argv[1])) as lock:
        print("held", flush=True)
        try:
            while True:
                time.sleep(0.05)
                lock.glance()
        except Superseded as error:
            print(error, flush=True)
            time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside a cluster, whatever the machine."""
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def worker(
    path: Path,
    environment: Mapping[str, str] | None = None,
    linger: float = 0.0,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock at ``path``; after it was superseded it lingers so many
    seconds.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(path), str(linger)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | dict(environment or {}),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def put_on_path(name: str, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a command of this name, a shell script, the first on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    if not os.environ["PATH"].startswith(f"{folder}:"):
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_lock_names_its_holder_and_is_empty_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "locks" / "step-k"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with hold(path, title="step 1") as lock:
        holder = read_holder(path)
        assert holder is not None and holder.title == "step 1"
        assert (holder.pid, holder.host, holder.folder) == (
            os.getpid(),
            socket.gethostname(),
            os.getcwd(),
        )
        assert holder.job == ClusterJob("slurm", "17")
        assert str(holder).startswith(
            f"process {os.getpid()} of "
        ) and "slurm job 17, since 2" in str(holder)
        assert is_held(path)
        lock.confirm()
    assert not is_held(path)
    assert path.read_text() == ""
    assert not is_held(tmp_path / "none")


def test_who_waits_learns_for_whom_once_and_may_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "step-k"
    with worker(path) as process:
        told: list[str] = []
        stops = iter([False, False, False, True])
        with (
            pytest.raises(Interrupted, match="the same command goes on"),
            hold(path, told.append, lambda: next(stops)),
        ):
            raise AssertionError("the lock was held")
        assert len(told) == 1
        assert f"waits for process {process.pid} of" in told[0]
        assert f"remove {path}" in told[0] and "`kaizen jobs`" in told[0]
        assert process.poll() is None


def test_a_requeued_job_supersedes_its_surviving_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step-k"
    with worker(path, {"SLURM_JOB_ID": "17"}) as twin:
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        told: list[str] = []
        with hold(path, told.append) as lock:
            lock.confirm()
            assert "takes over from process" in told[0] and len(told) == 1
            output, _ = twin.communicate(timeout=60)
            assert f"taken over by process {os.getpid()}" in output
            lock.confirm()


def test_a_job_that_slurm_calls_over_is_superseded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_ASK_SECONDS", 0.5)
    path, states = tmp_path / "step-k", tmp_path / "states"
    states.write_text("RUNNING\n")
    put_on_path("squeue", f"cat {states}", tmp_path / "bin", monkeypatch)
    with worker(path, {"SLURM_JOB_ID": "17"}) as survivor:
        monkeypatch.setenv("SLURM_JOB_ID", "18")
        told: list[str] = []

        def stop() -> bool:
            # Once it is known that the other one is waited for, the node it runs on fails.
            states.write_text("NODE_FAIL\n")
            return False

        with hold(path, told.append, stop):
            assert [text.split()[0] for text in told] == ["waits", "takes"]
            assert "taken over" in survivor.communicate(timeout=60)[0]


def test_without_locks_between_hosts_the_later_holder_fences_the_earlier(tmp_path: Path) -> None:
    """The later one gets a lock that the file system should have refused: the earlier one must not
    write any more.
    """
    path = tmp_path / "step-k"
    with hold(path) as lock:
        Watch(lock=lock).confirm()
        # As another host would, whose flock knows nothing of ours.
        text = path.read_text()
        path.unlink()
        path.write_text(text.replace(json.loads(text)["token"], "another"))
        with pytest.raises(Superseded, match="writes nothing more") as raised:
            Watch(lock=lock).confirm()
        assert raised.value.exit_code == 143
        lock._looked = time.monotonic() - 2
        with pytest.raises(Superseded):
            Watch(lock=lock)()
    assert "another" in path.read_text(), "the other's lock is left alone"


def test_a_lock_whose_file_was_removed_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "step-k"
    with worker(path, linger=600) as first:
        path.unlink()
        with hold(path) as lock:
            lock.confirm()
            assert first.stdout is not None
            assert "taken over by process" in first.stdout.readline()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": 1}', "\x00\x01"])
def test_a_torn_lock_file_is_no_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "step-k"
    path.write_text(text)
    assert read_holder(path) is None
    with hold(path) as lock:
        lock.confirm()


def test_which_job_this_is() -> None:
    assert this_job({}) is None
    assert this_job({"PBS_JOBID": "12.host"}) == ClusterJob("pbs", "12.host")
    assert not is_over(ClusterJob("pbs", "12.host"))


@pytest.mark.parametrize(
    ("script", "over"),
    [
        ("echo RUNNING", False),
        ("echo COMPLETING", False),
        ("echo PENDING", True),
        ("echo NODE_FAIL", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", False),
    ],
)
def test_whether_a_slurm_job_is_over(
    script: str, over: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path("squeue", script, tmp_path / "bin", monkeypatch)
    assert is_over(ClusterJob("slurm", "17")) is over


def test_slurm_jobs_of_this_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = "a" * 32, "b" * 32
    lines = f"7|RUNNING|{tmp_path}\\n8|PENDING|{tmp_path}\\n9|RUNNING|/else|where\\n"
    put_on_path("squeue", f"printf '{lines}'", tmp_path / "bin", monkeypatch)
    (tmp_path / "7").write_text(f"python -m snakemake --target-jobs 'step:key={key}'\n")
    targets = f"'evaluation:key={key}' 'replay:key={other}' 'replay:key={other}'"
    (tmp_path / "8").write_text(f"python -m snakemake --target-jobs {targets}\n")
    put_on_path("scontrol", f'cat "{tmp_path}/$3"', tmp_path / "bin", monkeypatch)
    found = {job.number: (job.state, job.targets) for job in slurm_jobs(tmp_path)}
    assert found == {
        "7": ("RUNNING", (f"step/{key}",)),
        "8": ("PENDING", (f"evaluation/{key}", f"replay/{other}")),
    }


def test_a_killed_snakemake_is_gone_though_nobody_reaps_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from kaizen.store.processes import record_workflow "
        "as n; n(Path(sys.argv[1]))"
    )
    wait = "; print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script + wait, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        assert living_workflows(tmp_path) == [f"process {process.pid} on {socket.gethostname()}"]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert living_workflows(tmp_path) == []


def test_cancelling_ends_what_a_killed_snakemake_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, here, elsewhere = Store(tmp_path / "store"), tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    put_on_path("squeue", "exit 0", tmp_path / "bin", monkeypatch)
    with (
        worker(store.lock_file(NodeId.of("step", "1" * 32)), folder=here) as ours,
        worker(store.lock_file(NodeId.of("step", "2" * 32)), folder=elsewhere) as other,
    ):
        assert [(str(making.node), making.holder.pid) for making in nodes_being_made(store)] == [
            (f"step/{'1' * 32}", ours.pid),
            (f"step/{'2' * 32}", other.pid),
        ]
        record_workflow(here)
        with pytest.raises(
            KaizenError, match=f"a snakemake works in {here}.*process {os.getpid()} on"
        ):
            cancel(store, here)
        assert ours.poll() is None
        # The same number, but another process: the snakemake that left its record is gone.
        (left,) = (here / ".kaizen/workflows").glob("*.json")
        left.write_text(json.dumps(json.loads(left.read_text()) | {"started": "1"}))
        jobs, local = cancel(store, here)
        assert jobs == [] and [making.node.key for making in local] == ["1" * 32]
        assert ours.wait(timeout=60) != 0
        assert other.poll() is None
        assert living_workflows(here) == [] and list((here / ".kaizen/workflows").iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": "ours", "started": "1"},
        {"pid": "ours", "started": ""},
        {"pid": "ours", "machine": "0" * 32},
        {"pid": "ours", "machine": ""},
        {"pid": "-ours"},
        {"pid": -1},
        {"pid": 0},
        {"pid": 1},
        {"pid": 1 << 70},
        {"pid": "another user's"},
    ],
    ids=str,
)
def test_a_number_in_a_lock_file_is_signalled_only_if_it_is_that_process(
    changes: Mapping[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, here = Store(tmp_path / "store"), tmp_path / "here"
    here.mkdir()
    path = store.lock_file(NodeId.of("step", "1" * 32))
    with worker(path, folder=here) as ours:
        holder = json.loads(path.read_text())
        numbers = {"ours": ours.pid, "-ours": -ours.pid, "another user's": ours.pid}
        pid = changes["pid"]
        changed = holder | changes | {"pid": numbers.get(str(pid), pid)}
        path.write_text(json.dumps(changed))
        if pid == "another user's":
            monkeypatch.setattr(os, "geteuid", lambda: os.stat(path).st_uid + 1)
        assert cancel(store, here) == ([], [])
        time.sleep(0.3)
        # It may end by itself, where the file names it no more.
        assert ours.poll() != -signal.SIGTERM
