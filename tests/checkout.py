"""A checkout of the repository with a tiny stream, in which tests run the real `git`, `dvc` and
`snakemake`.

A job that ran is known by the time in its node's run.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from kaizen.files import read_json, sha256_file
from kaizen.store.store import KINDS, RUN_RECORD, record_key

REPOSITORY = Path(__file__).parents[1]
COPIED = (
    "Snakefile",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/.gitignore",
    "data/raw/README.md",
)
COPIED_FOLDERS = ("kaizen", "workflow", "profiles", ".dvc/plots")

TINY: dict[str, Any] = {
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


class Checkout:
    """A checkout with its own git, DVC and store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.since = 0.0
        self.variables: dict[str, str] = {}

    @property
    def store(self) -> Path:
        return self.root / ".kaizen" / "store"

    def environment(self) -> dict[str, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("KAIZEN_STORE", "PYTHONPATH")
        }
        identity = {
            f"GIT_{who}_{what}": "t@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        # DVC remembers what a remote holds under its site cache: a fresh clone must not know what
        # another pushed.
        dvc = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{self.root}.dvc-site"}
        return (
            environment | identity | dvc | {"PATH": path, "OMP_NUM_THREADS": "1"} | self.variables
        )

    def copy(self, root: Path) -> Checkout:
        """An independent copy, in which files are hard links to each other where they are here."""
        subprocess.run(["cp", "--archive", str(self.root), str(root)], check=True)
        copied = Checkout(root)
        copied.start_counting()
        return copied

    def run(self, *command: str) -> str:
        """Run a command in the project; fails the test with its output when it fails."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        )
        return done.stdout

    def fails(self, *command: str) -> str:
        """Run a command that must fail; returns its output."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode != 0, f"{' '.join(command)} did not fail:\n{done.stdout[-6000:]}"
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
        """How many nodes of each kind were really made since `start_counting`, wherever they are
        now.
        """
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
        """Every published file has its recorded hash and belongs to the current plan, whose nodes
        are all there.
        """
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
            if path.is_file()
            and path.name not in (".gitignore", "manifest.json", "provenance.json")
        }
        assert published == set(manifest)


def new_project(root: Path, params: dict[str, Any] = TINY) -> Checkout:
    """A checkout that has not run yet, with ``params``."""
    for folder in COPIED_FOLDERS:
        shutil.copytree(
            REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, root / name)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    project = Checkout(root)
    project.run("git", "init", "--quiet")
    return project
