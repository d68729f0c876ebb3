"""Damaged files of finished nodes: refused by name, set aside, and made again as they were."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from bad_input import (
    Break,
    Case,
    check_intact,
    check_message,
    flip_byte,
    node_command,
    setting,
    spec_of,
    truncate,
)
from project import Project

from kaizen.files import read_json, sha256_file
from kaizen.store.node_id import NodeId


def node_file(project: Project, kind: str, name: str, number: int = 0) -> Path:
    """A file of the node of a kind that was made as the ``number``-th."""
    return project.store.folder(NodeId.of(kind, project.keys(kind)[number])) / name


def record_again(path: Path) -> None:
    """Make the node's record agree with a file that was replaced: the hash no longer tells."""
    record = read_json(path.parent / "node.json")
    record["files"][path.name] = {"sha256": sha256_file(path), "size": path.stat().st_size}
    (path.parent / "node.json").write_text(json.dumps(record), encoding="utf-8")


def broken(kind: str, name: str, how: Callable[[Path], object], **changes: object) -> Break:
    """Break a file of the first node of a kind, and change parameters so that it is needed
    again.
    """

    def breaks(project: Project) -> None:
        how(node_file(project, kind, name))
        setting(**changes)(project)

    return breaks


def swap_shards(path: Path) -> None:
    other = path.with_name("task-01.train.parquet")
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


class Malicious:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


def pickle_and_record(path: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious(path.parents[2] / "unpickled")))
    record_again(path)


def wider_and_record(path: Path) -> None:
    """A checkpoint of twice the width, as other model parameters would give."""
    tensors = safetensors.torch.load_file(path)
    wider = {
        name: torch.cat([tensor, tensor]) if tensor.ndim else tensor
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(wider, path)
    record_again(path)


def without_a_tensor(path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    tensors.pop(min(name for name in tensors if name.startswith("encoder.")))
    safetensors.torch.save_file(tensors, path)
    record_again(path)


def not_parquet_and_record(path: Path) -> None:
    path.write_bytes(b"PAR1 is not enough")
    record_again(path)


def other_record(path: Path) -> None:
    """The record of another node of the same kind."""
    folder = next(f for f in path.parents[1].iterdir() if f != path.parent)
    shutil.copyfile(folder / "node.json", path)


SHARD, CHECKPOINT, REPLAY = "task-00.train.parquet", "model.safetensors", "replay.parquet"
ASIDE = ("set aside as", "run", "to make it again")
# Steps 0 again, which read the shards; steps 1 again, which read step 0's checkpoint and the replay
# shard.
STEP_0, STEP_1 = {"train__lr": 0.5}, {"distill__classifier__weight": 1.0}
NODE_CASES = (
    Case(
        "shard truncated",
        broken("shards", SHARD, truncate, **STEP_0),
        (SHARD, "bytes, not the recorded", *ASIDE),
        again=0,
    ),
    Case(
        "shard with a byte flipped",
        broken("shards", SHARD, flip_byte, **STEP_0),
        (SHARD, "does not match its recorded hash", *ASIDE),
        again=0,
    ),
    Case(
        "shard missing",
        broken("shards", SHARD, Path.unlink, **STEP_0),
        (SHARD, "is missing", *ASIDE),
        again=0,
    ),
    Case(
        "shards swapped between tasks",
        broken("shards", SHARD, swap_shards, **STEP_0),
        (SHARD, *ASIDE),
        again=0,
    ),
    Case(
        "shard that is not Parquet though recorded",
        broken("shards", SHARD, not_parquet_and_record, **STEP_0),
        (SHARD, "not a readable shard", "delete"),
    ),
    Case(
        "replay shard truncated",
        broken("replay", REPLAY, truncate, **STEP_1),
        (REPLAY, *ASIDE),
        again=0,
    ),
    Case(
        "replay shard with a byte flipped",
        broken("replay", REPLAY, flip_byte, **STEP_1),
        (REPLAY, *ASIDE),
        again=0,
    ),
    Case(
        "checkpoint truncated",
        broken("step", CHECKPOINT, truncate, **STEP_1),
        (CHECKPOINT, *ASIDE),
        again=0,
    ),
    Case(
        "checkpoint with a byte flipped",
        broken("step", CHECKPOINT, flip_byte, **STEP_1),
        (CHECKPOINT, "does not match its recorded hash", *ASIDE),
        again=0,
    ),
    Case(
        "checkpoint of other parameters though recorded",
        broken("step", CHECKPOINT, wider_and_record, **STEP_1),
        (
            CHECKPOINT,
            "has shape",
            "made with other model parameters",
            "delete its folder and run again",
        ),
    ),
    Case(
        "checkpoint that lacks a tensor though recorded",
        broken("step", CHECKPOINT, without_a_tensor, **STEP_1),
        (CHECKPOINT, "lacks the tensor encoder.", "delete its folder and run again"),
    ),
    Case(
        "checkpoint that is a pickle though recorded",
        broken("step", CHECKPOINT, pickle_and_record, **STEP_1),
        (CHECKPOINT, "not a readable checkpoint", "delete its folder and run again"),
    ),
    Case(
        "evaluation tampered with",
        broken(
            "evaluation",
            "accuracy.json",
            lambda path: path.write_text(path.read_text() + " "),
            report__title="new",
        ),
        ("accuracy.json", *ASIDE),
        again=0,
    ),
    Case(
        "record torn",
        broken("shards", "node.json", truncate, **STEP_0),
        ("node.json", "is not the record of node shards", *ASIDE),
        again=0,
    ),
    Case(
        "record of another node",
        broken("step", "node.json", other_record, **STEP_1),
        ("node.json", "is not the record of node step", *ASIDE),
        again=0,
    ),
    Case(
        "record without files",
        broken(
            "step",
            "node.json",
            lambda path: path.write_text(json.dumps({"key": path.parent.name, "files": 1})),
            **STEP_1,
        ),
        ("node.json", "is not the record of node step", *ASIDE),
        again=0,
    ),
    Case(
        "published table damaged",
        lambda p: flip_byte(node_file(p, "summary", "metrics.json")),
        ("metrics.json", *ASIDE),
        again=0,
    ),
)


@pytest.mark.parametrize("case", NODE_CASES, ids=lambda case: case.name)
def test_files_of_finished_nodes(case: Case, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    before = project.nodes()
    case.breaks(project)
    recorded = {node: sha256_file(project.store.record_path(node)) for node in before}
    outcome = project.kaizen("run")
    check_message(outcome, 2, case.says, case.name)
    check_intact(project, recorded)
    assert not (project.store.root / "unpickled").exists()
    if case.again is None:
        # As the message says: delete the folder; it is then taken back from results/ or made again.
        for folder in {
            Path(word).parent
            for word in outcome.output.split()
            if word.startswith(str(project.store.root))
        }:
            shutil.rmtree(folder)
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    after = project.nodes()
    assert {node: after[node] for node in before if node.kind != "summary"} == {
        node: digest for node, digest in before.items() if node.kind != "summary"
    }
    assert project.leftovers() == []


def test_parent_missing_from_the_store(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    setting(**STEP_1)(project)
    shutil.rmtree(project.root / "results")
    spec = spec_of(project, "step", 1)
    prior = project.keys("step")[0]
    shutil.rmtree(project.store.folder(NodeId.of("step", prior)))
    before = project.nodes()
    outcome = project.kaizen(*node_command(project, spec))
    assert outcome.code == 2 and "Traceback" not in outcome.output
    for words in (
        f"prior (step/{prior}) is not in {project.store.root}",
        "run `snakemake` to make it",
    ):
        assert words in outcome.output
    check_intact(project, before)


def test_names_of_the_table_are_unique() -> None:
    names = [case.name for case in NODE_CASES]
    assert len(set(names)) == len(names)
