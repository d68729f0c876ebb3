"""The real `snakemake` and `dvc` on a tiny stream: which jobs run after each change, and that nothing is ever stale.

Every scenario starts from a copy of a project that has run once. A job that ran is known by the time in its
node's run.json; every published file is hashed again after every scenario.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from kaizen.files import read_json, sha256_file
from kaizen.store import KINDS, RUN_RECORD, record_key

REPOSITORY = Path(__file__).parents[1]
COPIED = ("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore", "data/raw/README.md")
COPIED_FOLDERS = ("kaizen", "workflow", "profiles")

TINY = {
    "dataset": {"test_fraction": 0.5},
    "split": {"tasks": 2},
    "grid": {"variants": ["kaizen", "no_distill"], "seeds": [0], "specialists": False},
    "image": {"size": 8},
    "model": {"width": 4, "classifier_hidden": [8]},
    "ssl": {"simclr": {"projector_hidden": 16, "projector_out": 8}},
    "distill": {"feature": {"predictor_hidden": 16}, "classifier": {"weight": 2.0}},
    "variants": {},
    "replay": {"policy": "first_n", "proportion": [0.1], "memory": None, "seed": 0},
    "labels": {"fraction": 1.0, "seed": 0},
    "augment": {"flip": 0.0},
    "train": {
        "epochs": 1,
        "batch_size": 16,
        "replay_batch_size": 4,
        "data_fraction": 0.2,
        "lr": 1.0,
        "warmup_epochs": 0,
    },
    "evaluation": {"probe_iterations": 5, "probe_fraction": 0.2},
    "report": {"title": "tiny", "formats": ["png"]},
    "per_method": {},
    "reference_compat": {"epoch_length": False},
}
ALL_NODES = {"shards": 1, "replay": 1, "step": 3, "evaluation": 2, "reference": 1, "summary": 1}


def made_since(run: Path, moment: float) -> bool:
    """Whether the node of a run.json was made after a moment."""
    return read_json(run)["began"] >= moment


class Project:
    """A checkout with its own git, DVC and store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.since = 0.0

    @property
    def store(self) -> Path:
        return self.root / ".kaizen" / "store"

    def environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in ("KAIZEN_STORE", "PYTHONPATH")}
        identity = {
            f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        return environment | identity | {"PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}

    def run(self, *command: str) -> str:
        """Run a command in the project; fails the test with its output when it fails."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def snakemake(self, *arguments: str) -> str:
        return self.run("snakemake", "--cores", "2", *arguments)

    def set(self, path: str, value: object) -> None:
        """Change one value of params.yaml."""
        values = yaml.safe_load((self.root / "params.yaml").read_text())
        section = values
        *parents, last = path.split(".")
        for name in parents:
            section = section[name]
        section[last] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(values))

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "--quiet", "--message", message)

    def start_counting(self) -> None:
        time.sleep(0.01)
        self.since = time.time()

    def jobs(self, store: Path | None = None) -> dict[str, int]:
        """How many nodes of each kind were really made since `start_counting`, wherever they are now."""
        counts: Counter[str] = Counter()
        for kind in KINDS:
            for path in ((store or self.store) / kind).glob(f"*/{RUN_RECORD}"):
                counts[kind] += made_since(path, self.since)
        return {kind: count for kind, count in counts.items() if count}

    def manifest(self) -> dict[str, dict[str, object]]:
        return json.loads((self.root / "results/manifest.json").read_text())["files"]

    def plan(self) -> list[dict[str, object]]:
        return json.loads(self.run(sys.executable, "-m", "kaizen", "plan", "--json"))["nodes"]

    def check_nothing_stale(self) -> None:
        """Every published file has its recorded hash and belongs to the current plan, whose nodes are all there."""
        planned = {node["key"] for node in self.plan()}
        manifest = self.manifest()
        assert {entry["key"] for entry in manifest.values()} == planned
        for path, entry in manifest.items():
            assert sha256_file(self.root / path) == entry["sha256"], f"{path} is stale"
            if path.endswith("/node.json"):
                record = json.loads((self.root / path).read_text())
                assert record_key(record) == entry["key"]
                for name, file in record["files"].items():
                    assert sha256_file((self.root / path).parent / name) == file["sha256"]
        published = {
            path.relative_to(self.root).as_posix()
            for folder in ("data/shards", "data/replay", "results")
            for path in (self.root / folder).rglob("*")
            if path.is_file() and path.name not in (".gitignore", "manifest.json", "provenance.json")
        }
        assert published == set(manifest)


def new_project(root: Path) -> Project:
    for folder in COPIED_FOLDERS:
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, root / name)
    (root / "params.yaml").write_text(yaml.safe_dump(TINY))
    project = Project(root)
    project.run("git", "init", "--quiet")
    return project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its first `dvc repro`, committed and pushed to a local remote."""
    project = new_project(tmp_path_factory.mktemp("base") / "project")
    project.commit("before the first run")
    project.start_counting()
    output = project.run("dvc", "repro")
    assert project.jobs() == ALL_NODES
    assert "Kaizen" in output and "No distillation" in output, "the table of results is shown at the end"
    project.check_nothing_stale()
    project.run("dvc", "remote", "add", "--default", "local", str(project.root.parent / "remote"))
    project.commit("first run")
    project.run("dvc", "push", "--quiet")
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    copy = tmp_path / "project"
    subprocess.run(["cp", "--archive", str(finished.root), str(copy)], check=True)
    copied = Project(copy)
    copied.start_counting()
    return copied


def test_repeating_runs_nothing(project: Project) -> None:
    assert "Nothing to be done" in project.snakemake()
    project.run("dvc", "repro")
    shutil.rmtree(project.root / ".snakemake")
    for path in project.root.rglob("*.py"):
        path.touch()
    assert "Nothing to be done" in project.snakemake()
    assert project.jobs() == {}
    project.check_nothing_stale()


def test_a_change_runs_what_depends_on_it_and_changing_back_nothing(project: Project) -> None:
    before = project.manifest()
    project.set("replay.proportion", [0.2])
    project.run("dvc", "repro")
    assert project.jobs() == {"replay": 1, "step": 1, "evaluation": 1, "summary": 1}
    project.check_nothing_stale()
    assert project.manifest() != before
    project.start_counting()
    project.set("replay.proportion", [0.1])
    project.run("dvc", "repro")
    assert project.jobs() == {}
    assert project.manifest() == before
    project.check_nothing_stale()
    # The same way without DVC.
    project.set("replay.proportion", [0.2])
    project.snakemake()
    assert project.jobs() == {}
    project.check_nothing_stale()


def test_a_temporary_dvc_workspace_shares_the_store(project: Project) -> None:
    before = project.manifest()
    project.run("dvc", "exp", "run", "--temp", "--name", "softer", "--set-param", "distill.classifier.weight=1.0")
    assert project.jobs() == {"step": 1, "evaluation": 1, "summary": 1}
    assert project.manifest() == before, "the workspace itself is as it was"
    (run,) = (read_json(path) for path in project.store.glob(f"step/*/{RUN_RECORD}") if made_since(path, project.since))
    head = project.run("git", "rev-parse", "HEAD").strip()
    origin = {"commit": head, "changed": [], "params_committed": False, "command": "snakemake --cores all"}
    assert run["local"]["origin"].items() >= (origin | {"experiment": "softer"}).items()
    project.start_counting()
    project.run("dvc", "exp", "apply", "softer")
    project.snakemake()
    assert project.jobs() == {}
    assert project.manifest() != before
    project.check_nothing_stale()


def test_a_fresh_clone_with_pulled_outputs_trains_nothing_needlessly(project: Project, tmp_path: Path) -> None:
    project.run("git", "clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.start_counting()
    clone.run("dvc", "pull", "--quiet")
    assert not clone.store.exists()
    explain = (sys.executable, "-m", "kaizen", "explain", "results/metrics.json", "--json")
    found, before = (json.loads(one.run(*explain)) for one in (clone, project))
    assert found["made"]["seconds"] > 0 and found["wall_time"]["unknown"] == 0
    first = project.run("git", "rev-list", "--max-parents=0", "HEAD").strip()
    assert found["again"]["commands"] == [f"git checkout {first} && snakemake --cores all"]
    assert found == before
    assert "Nothing to be done" in clone.snakemake()
    assert clone.jobs() == {}
    clone.check_nothing_stale()
    # DVC removes the outputs before it runs the stage: what did not change comes back from its cache.
    shutil.rmtree(clone.store)
    clone.set("replay.proportion", [0.2])
    clone.run("dvc", "repro")
    assert clone.jobs() == {"replay": 1, "step": 1, "evaluation": 1, "summary": 1}
    clone.check_nothing_stale()


def test_git_and_dvc_checkout_of_another_version_run_nothing(project: Project) -> None:
    project.set("report.title", "another")
    project.run("dvc", "repro")
    assert project.jobs() == {"summary": 1}
    project.commit("another title")
    project.start_counting()
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("dvc", "checkout", "--quiet")
    assert "Nothing to be done" in project.snakemake("--dry-run")
    # git without dvc leaves the other version's files in place: they are replaced, not trusted.
    project.run("git", "checkout", "--quiet", "-")
    project.snakemake()
    assert project.jobs() == {}
    project.check_nothing_stale()


def test_a_garbage_collected_upstream_is_not_needed_again(project: Project) -> None:
    steps = {node["key"]: node for node in project.plan() if node["kind"] == "step"}
    first = next(key for key, node in steps.items() if "prior" not in node["inputs"])
    shutil.rmtree(project.store / "step" / first)
    shutil.rmtree(project.store / "shards")
    project.snakemake()
    assert project.jobs() == {}
    project.check_nothing_stale()
    # Gone from everywhere, only the node itself is made again, and comes out the same.
    before = project.manifest()
    shutil.rmtree(project.store / "step" / first)
    shutil.rmtree(project.root / "results")
    (project.root / "dvc.lock").unlink()
    project.snakemake()
    assert project.jobs() == {"step": 1}
    assert project.manifest() == before
    project.check_nothing_stale()


def test_garbage_collection_removes_only_what_the_plan_does_not_need(project: Project) -> None:
    entries = {path.parent for path in project.store.glob("*/*/node.json")}
    project.set("train.lr", 0.5)
    assert "7 entries" in project.run(sys.executable, "-m", "kaizen", "gc")
    assert {path.parent for path in project.store.glob("*/*/node.json")} == entries, "a dry run removes nothing"
    assert "7 entries" in project.run(sys.executable, "-m", "kaizen", "gc", "--delete")
    kept = {path.parent.parent.name for path in project.store.glob("*/*/node.json")}
    assert kept == {"shards", "replay"}
    # What was removed is still published, and comes back from there.
    project.set("train.lr", 1.0)
    assert "Nothing to be done" in project.snakemake()
    assert {path.parent for path in project.store.glob("*/*/node.json")} == entries
    assert "0 entries" in project.run(sys.executable, "-m", "kaizen", "gc", "--delete")


def test_killed_anywhere_the_workflow_goes_on_where_it_was(finished: Project, tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    process = subprocess.Popen(
        ["snakemake", "--cores", "2"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    # Not pathlib's glob, which may fail on a folder that is being renamed.
    while not glob.glob(str(project.store / "step/*/node.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    made = {path: path.read_bytes() for path in project.store.glob(f"*/*/{RUN_RECORD}")}
    assert len(made) < sum(ALL_NODES.values())
    shutil.rmtree(project.root / ".snakemake")
    project.snakemake()
    assert {path: path.read_bytes() for path in made} == made, "what was finished is not made again"
    project.check_nothing_stale()
    # Another store, another order of events, an interruption: the same bytes.
    assert project.manifest() == finished.manifest()


def test_a_finished_workflow_shows_its_edges_on_request(project: Project) -> None:
    graph = project.snakemake("--config", "edges=true", "--dag")
    assert graph.count("->") > sum(ALL_NODES.values())
    assert project.jobs() == {}
