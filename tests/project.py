"""Tiny projects for tests: 2 tasks of 8 x 8 images, a few seconds from raw images to results.

`make_project` writes images and params.yaml into a folder, and the repository's code runs there;
`make_checkout` copies the code and its rules as well, for tests with the real `git` and `dvc`. A
`Project` is either: it runs commands in this process (`kaizen`, importing torch once for all of
them) or in one of their own (`run`, `python`, `snakemake`).
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kaizen import cli
from kaizen.files import read_json, sha256_file
from kaizen.store.layout import CRATE, PROVENANCE, REPORT_PAGE
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.records import RECORD, RUN_RECORD, record_key
from kaizen.store.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]

CLASSES = ("ant", "bee", "cat", "dog")

# Parameters of `make_project`: kaizen and no_distill on 2 tasks of image files.
PARAMS: dict[str, Any] = {
    "dataset": {"source": "image_folder", "path": "images"},
    "split": {"tasks": 2, "seed": 5},
    "replay": {"proportion": [0.25]},
    "grid": {
        "methods": ["simclr"],
        "variants": ["kaizen", "no_distill"],
        "seeds": [0],
        "specialists": False,
    },
    "image": {"size": 8, "channels": 3, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "model": {"backbone": "small_resnet", "width": 4, "classifier_hidden": [8]},
    "ssl": {"simclr": {"projector_hidden": 16, "projector_out": 8}},
    "distill": {"feature": {"predictor_hidden": 16}},
    "train": {
        "epochs": 2,
        "batch_size": 8,
        "replay_batch_size": 4,
        "warmup_epochs": 0,
        "device": "cpu",
        "precision": "float32",
    },
    "evaluation": {"probe_iterations": 5, "knn_k": 3},
    "report": {"title": "tiny", "formats": ["png"]},
    "runtime": {"ingest_workers": 1},
}
# Parameters of `make_checkout`: the demo's stream, smaller; no section is left out.
CHECKOUT_PARAMS: dict[str, Any] = {
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
# What either makes of its parameters: the kinds of nodes, and how many of each.
ALL_NODES = {"shards": 1, "replay": 1, "step": 3, "evaluation": 2, "reference": 1, "summary": 1}

# What a checkout has of the repository.
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


def write_image(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> None:
    """Write a PNG of seeded uniform noise; ``size`` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_dataset(
    root: Path, classes: Sequence[str] = CLASSES, train: int = 12, test: int = 6
) -> None:
    """Write train/<class>/00.png … and test/<class>/00.png …; the same bytes wherever ``root``
    is.
    """
    for part, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            for number in range(count):
                write_image(
                    root / part / name / f"{number:02d}.png",
                    1000 * label + number + 500 * (part == "test"),
                )


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, and all that it wrote to stdout and stderr."""

    code: int
    output: str

    def good(self) -> str:
        """The output of a command that must have succeeded."""
        assert self.code == 0, f"ended with {self.code}:\n{self.output[-6000:]}"
        return self.output

    def bad(self) -> str:
        """The output of a command that must have failed."""
        assert self.code != 0, f"did not fail:\n{self.output[-6000:]}"
        return self.output


# The published files that say when something was made: two runs have the same bytes of all others.
TELL_OF_TIMES = frozenset(Path(name).name for name in (CRATE, PROVENANCE, REPORT_PAGE))


def node_command(store: Path, spec: Mapping[str, Any]) -> list[str]:
    """The command that makes a node in a process of its own, as the workflow does."""
    job = ("node", "--store", str(store), "--spec", json.dumps(spec))
    return [sys.executable, "-m", "kaizen", *job]


def made_since(run: Path, moment: float) -> bool:
    """Whether the node of a run.json was made after a moment."""
    return bool(read_json(run)["began"] >= moment)


class Project:
    """A folder with params.yaml and a store of its own, `.kaizen/store` unless another is given.

    Its commands run the repository's code, or its own where it is a checkout.
    """

    def __init__(self, root: Path, store: Path | None = None) -> None:
        self.root = root
        self.store = Store(store or root / ".kaizen" / "store")
        # Environment variables of its commands, besides this process's.
        self.variables: dict[str, str] = {}
        self.since = 0.0

    @property
    def params(self) -> Path:
        """The parameters' file."""
        return self.root / "params.yaml"

    @property
    def images(self) -> Path:
        """The folder that holds train/ and test/."""
        return self.root / "images"

    @property
    def is_checkout(self) -> bool:
        """Whether it has code and rules of its own."""
        return (self.root / "kaizen").is_dir()

    def set(self, changes: Mapping[str, Any]) -> None:
        """Change values of params.yaml, named as in "train.lr"."""
        values = yaml.safe_load(self.params.read_text(encoding="utf-8"))
        for name, value in changes.items():
            *parents, last = name.split(".")
            section = values
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        self.params.write_text(yaml.safe_dump(values), encoding="utf-8")

    # -- commands ------------------------------------------------------------------------------

    def kaizen(self, *arguments: str) -> Outcome:
        """Run `kaizen.cli.main` here and now; an exception that it lets through becomes a traceback
        in the output.
        """
        out = io.StringIO()
        with self._inside(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                code = cli.main(arguments)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except Exception:
                traceback.print_exc(file=out)
                code = 1
        return Outcome(code, out.getvalue())

    def process(self, *command: str) -> Outcome:
        """Run a command in the project's folder."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Outcome(done.returncode, done.stdout)

    def run(self, *command: str) -> str:
        """Run a command that must succeed; returns its output."""
        return self.process(*command).good()

    def python(self, *arguments: str) -> Outcome:
        """Run `python -m kaizen` in a process of its own."""
        return self.process(sys.executable, "-m", "kaizen", *arguments)

    def snakemake(self, *arguments: str) -> Outcome:
        """Run the workflow."""
        return self.process(*self.snakemake_command(*arguments))

    def snakemake_command(self, *arguments: str) -> list[str]:
        """The command that runs the workflow in the project's folder."""
        # As it is typed in a checkout: run.json records it.
        if self.is_checkout:
            return ["snakemake", "--cores", "2", *arguments]
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        return [*command, "--cores", "1", *arguments]

    def environment(self) -> dict[str, str]:
        """The environment of the project's commands."""
        found = {
            name: value
            for name, value in os.environ.items()
            if name not in ("KAIZEN_STORE", "PYTHONPATH")
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), found["PATH"]])
        found |= {"PATH": path, "OMP_NUM_THREADS": "1"}
        if self.is_checkout:
            for who in ("AUTHOR", "COMMITTER"):
                for what in ("NAME", "EMAIL"):
                    found[f"GIT_{who}_{what}"] = "t@example.org"
            # DVC remembers what a remote holds under its site cache: a fresh clone must not know
            # what another pushed.
            found |= {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{self.root}.dvc-site"}
        else:
            found |= {"KAIZEN_STORE": str(self.store.root), "PYTHONPATH": str(REPOSITORY)}
        return found | self.variables

    def commit(self, message: str) -> None:
        """Commit all files of a checkout."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "--quiet", "--message", message)

    # -- what is there -------------------------------------------------------------------------

    def nodes(self) -> dict[NodeId, str]:
        """The finished nodes with the SHA-256 of their record, each checked against its files."""
        found = {}
        for node in self.store.entries():
            self.store.check(node)
            found[node] = sha256_file(self.store.record_path(node))
        return found

    def keys(self, kind: str) -> list[str]:
        """The keys of the finished nodes of a kind, in the order in which they were made."""
        records = [self.store.record_path(n) for n in self.store.entries() if n.kind == kind]
        return [
            record.parent.name
            for record in sorted(records, key=lambda record: record.stat().st_mtime_ns)
        ]

    def leftovers(self) -> list[str]:
        """Half-made files and folders: temporary names in the store and the project, nodes without
        a record.
        """
        found = [path for folder in (self.store.root, self.root) for path in folder.rglob("*.tmp")]
        for kind in Kind:
            found += [
                path for path in (self.store.root / kind).glob("*") if not (path / RECORD).is_file()
            ]
        return sorted({str(path) for path in found})

    def plan(self) -> list[dict[str, Any]]:
        """The nodes of the current plan; of a checkout, as long as its code is the repository's."""
        outcome = self.kaizen("plan", "--json")
        assert outcome.code == 0, outcome.output
        nodes: list[dict[str, Any]] = json.loads(outcome.output)["nodes"]
        return nodes

    def manifest(self) -> dict[str, dict[str, Any]]:
        """The published files: path -> key of its node, SHA-256."""
        files: dict[str, dict[str, Any]] = read_json(self.root / "results/manifest.json")["files"]
        return files

    def start_counting(self) -> None:
        """Forget the nodes made until now; see `jobs`."""
        time.sleep(0.01)
        self.since = time.time()

    def jobs(self) -> dict[str, int]:
        """How many nodes of each kind were really made since `start_counting`, by their run.json,
        wherever they are now.
        """
        counts: Counter[str] = Counter()
        for kind in Kind:
            for path in (self.store.root / kind).glob(f"*/{RUN_RECORD}"):
                counts[kind] += made_since(path, self.since)
        return {kind: count for kind, count in counts.items() if count}

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
                record = read_json(self.root / path)
                assert record_key(record) == entry["key"]
                for name, file in record["files"].items():
                    assert sha256_file((self.root / path).parent / name) == file["sha256"]
        published = {
            path.relative_to(self.root).as_posix()
            for folder in ("data/shards", "data/replay", "results")
            for path in (self.root / folder).rglob("*")
            if path.is_file() and path.name not in {".gitignore", "manifest.json", *TELL_OF_TIMES}
        }
        assert published == set(manifest)

    # -- copies --------------------------------------------------------------------------------

    def copy(self, root: Path) -> Project:
        """An independent, writable copy of project and store (which must lie inside the
        project).
        """
        shutil.copytree(self.root, root, symlinks=True)
        for path in root.rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o200)
        return Project(root, root / self.store.root.relative_to(self.root))

    def copy_with_links(self, root: Path) -> Project:
        """An independent copy, in which files are hard links to each other, and read-only, where
        they are here.
        """
        subprocess.run(["cp", "--archive", str(self.root), str(root)], check=True)
        copied = Project(root)
        copied.start_counting()
        return copied

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """This folder as the current one, KAIZEN_STORE set, and signal handlers put back
        afterwards.
        """
        before, folder = os.environ.get("KAIZEN_STORE"), Path.cwd()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        os.environ["KAIZEN_STORE"] = str(self.store.root)
        os.chdir(self.root)
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.pop("KAIZEN_STORE")
            if before is not None:
                os.environ["KAIZEN_STORE"] = before
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at ``folder``; the test is skipped where one may not be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        subprocess.run(mount, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_project(
    root: Path, changes: Mapping[str, Any] | None = None, store: Path | None = None
) -> Project:
    """Write the images and params.yaml (with ``changes``, named as in "train.lr") into the folder
    ``root``.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_dataset(root / "images")
    project = Project(root, store)
    project.params.write_text(yaml.safe_dump(copy.deepcopy(PARAMS)), encoding="utf-8")
    project.set(changes or {})
    return project


def make_checkout(root: Path, params: Mapping[str, Any] = CHECKOUT_PARAMS) -> Project:
    """A checkout that has not run yet, with ``params`` and a git repository without a commit."""
    for folder in COPIED_FOLDERS:
        shutil.copytree(
            REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, root / name)
    project = Project(root)
    project.params.write_text(yaml.safe_dump(dict(params)), encoding="utf-8")
    project.run("git", "init", "--quiet")
    return project
