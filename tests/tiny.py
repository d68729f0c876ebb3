"""A tiny project for tests: 4 classes of 8 x 8 images, 2 tasks, a few seconds from raw images to
results.

`make_project` writes data and params.yaml into a folder; a `Project` runs commands there, in this
process (`kaizen`, importing torch once for all of them) or in one of its own (`python`,
`snakemake`).
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kaizen import cli
from kaizen.files import sha256_file
from kaizen.store.store import KINDS, RECORD, Store

REPOSITORY = Path(__file__).resolve().parents[1]

CLASSES = ("ant", "bee", "cat", "dog")

# kaizen + no_distill on 2 tasks: shards, 1 replay, 3 steps, 2 evaluations, 1 reference, 1 summary.
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


class Project:
    """A folder with params.yaml, the images, and a store of its own in ``store``."""

    def __init__(self, root: Path, store: Path | None = None) -> None:
        self.root = root
        self.store = Store(store or root / ".kaizen" / "store")

    @property
    def params(self) -> Path:
        """The parameters' file."""
        return self.root / "params.yaml"

    @property
    def images(self) -> Path:
        """The folder that holds train/ and test/."""
        return self.root / "images"

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

    def python(self, *arguments: str) -> Outcome:
        """Run `python -m kaizen` in a process of its own."""
        return self._process([sys.executable, "-m", "kaizen", *arguments])

    def snakemake(self, *arguments: str) -> Outcome:
        """Run the repository's workflow on this project."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        return self._process([*command, "--directory", str(self.root), "--cores", "1", *arguments])

    def nodes(self) -> dict[tuple[str, str], str]:
        """The finished nodes, (kind, key) -> SHA-256 of their record, each checked against its
        files.
        """
        found = {}
        for kind, key in self.store.entries():
            record = self.store.read_record(kind, key)
            for name in record["files"]:
                self.store.open_file(kind, key, name)
            found[kind, key] = sha256_file(self.store.record(kind, key))
        return found

    def keys(self, kind: str) -> list[str]:
        """The keys of the finished nodes of a kind, in the order in which they were made."""
        records = [
            self.store.record(kind, key) for found, key in self.store.entries() if found == kind
        ]
        return [
            record.parent.name
            for record in sorted(records, key=lambda record: record.stat().st_mtime_ns)
        ]

    def leftovers(self) -> list[str]:
        """Half-made files and folders: temporary names in the store and the project, nodes without
        a record.
        """
        found = [path for folder in (self.store.root, self.root) for path in folder.rglob("*.tmp")]
        for kind in KINDS:
            found += [
                path for path in (self.store.root / kind).glob("*") if not (path / RECORD).is_file()
            ]
        return sorted({str(path) for path in found})

    def copy(self, root: Path) -> Project:
        """An independent, writable copy of project and store (which must lie inside the
        project).
        """
        shutil.copytree(self.root, root, symlinks=True)
        for path in root.rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o200)
        return Project(root, root / self.store.root.relative_to(self.root))

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

    def _process(self, command: Sequence[str]) -> Outcome:
        environment = os.environ | {
            "KAIZEN_STORE": str(self.store.root),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
        }
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Outcome(done.returncode, done.stdout)


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
