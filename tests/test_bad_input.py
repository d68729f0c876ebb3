"""Bad input of every kind, through the real command: one message that names it and the fix,
nothing lost.

A row of `CASES` breaks a copy of a project in one way and says how the command must end and what it
must say.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from project import Outcome, Project, write_image

from kaizen.files import read_json, sha256_file
from kaizen.store.node_id import NodeId
from kaizen.training.reporter import reporter
from kaizen.training.resume import FILE, Progress, save_resume

Break = Callable[[Project], object]


@dataclass(frozen=True)
class Case:
    """How to break a project, what to run in it, and how that must end."""

    name: str
    breaks: Break
    says: tuple[str, ...]
    command: tuple[str, ...] = ("check",)
    code: int = 2
    # What a second run of the same command must end with; None: the user has to fix something
    # first.
    again: int | None = None


def check_message(outcome: Outcome, code: int, says: tuple[str, ...], where: str = "") -> None:
    """The exit code, no traceback, and all that the message must say, in one line or one list of
    problems.
    """
    output = outcome.output
    assert "Traceback" not in output, f"{where}\n{output}"
    assert outcome.code == code, f"{where} ended with {outcome.code}\n{output}"
    for words in says:
        assert words in output, f"{where}: {words!r} is not in\n{output}"
    if code == 2:
        assert output.count("kaizen: ") == 1, f"{where}: not one message\n{output}"


def check_intact(project: Project, before: dict[NodeId, str]) -> None:
    """Nodes that were finished before are as they were, unless set aside as damaged; nothing is
    half made.
    """
    aside = [path.name for path in (project.store.root / ".damaged").glob("*")]
    now = project.nodes()
    for node, digest in before.items():
        if not any(name.startswith(f"{node.file_name}-") for name in aside):
            assert now.get(node) == digest, f"{node} was lost or changed"
    assert project.leftovers() == []


# -- parameters, refused before anything is done -----------------------------------------------


def setting(**changes: object) -> Break:
    """Change parameters; two underscores stand for the dot."""
    return lambda project: project.set(
        {name.replace("__", "."): value for name, value in changes.items()}
    )


def for_each(folder: str, how: Callable[[Path], object], **changes: object) -> Break:
    """Do something to every image of a folder, and change parameters."""

    def breaks(project: Project) -> None:
        for path in (project.images / folder).iterdir():
            how(path)
        setting(**changes)(project)

    return breaks


def written(text: str | bytes, name: str = "params.yaml") -> Break:
    """Put a text in place of a file of the project."""
    data = text if isinstance(text, bytes) else text.encode()
    return lambda project: (project.root / name).write_bytes(data)


def add_line(line: str) -> Break:
    """Append a line to params.yaml."""

    def breaks(project: Project) -> None:
        with project.params.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    return breaks


# What values may be is in test_validation.py, which has a row for each; here is what needs the
# project's files, and some of the others.
PARAMETER_CASES = (
    Case(
        "unknown key",
        setting(train__epoch=3),
        ("params.yaml", "train.epoch", "did you mean epochs?"),
    ),
    Case(
        "broken YAML", add_line("grid: [simclr"), ("params.yaml", "not valid YAML", "line", "fix")
    ),
    Case("not UTF-8", written(b"\xff\xfe\x00"), ("params.yaml", "cannot be read")),
    Case("missing file", lambda p: p.params.unlink(), ("params.yaml does not exist", "--params")),
    Case(
        "a folder as file",
        lambda p: None,
        ("images cannot be read",),
        ("check", "--params", "images"),
    ),
    Case(
        "an overlay",
        written("train: {batch_size: 1}\n", "small.yaml"),
        ("small.yaml", "train.batch_size", "greater than or equal to 2"),
        ("check", "--overlay", "small.yaml"),
    ),
    Case(
        "tasks that do not divide the classes",
        setting(split__tasks=3),
        ("split.tasks: 3", "4 classes", "choose 1, 2 or 4"),
    ),
    Case(
        "several problems at once",
        setting(train__epochs=0, split__tasks=0),
        ("2 problems", "train.epochs", "split.tasks"),
    ),
    # -- the dataset's layout --
    Case("no path", setting(dataset__path=None), ("dataset.path", "image_folder needs", "name it")),
    Case(
        "path missing",
        setting(dataset__path="imgs"),
        ("dataset.path", "imgs does not exist", "give the folder"),
    ),
    Case(
        "path is a file",
        setting(dataset__path="params.yaml"),
        ("dataset.path", "is not a folder", "give the folder"),
    ),
    Case(
        "no train folder",
        lambda p: shutil.rmtree(p.images / "train"),
        ("images has no folder `train`", "expected"),
    ),
    Case(
        "no test folder",
        lambda p: shutil.rmtree(p.images / "test"),
        ("neither a folder `test` nor `val`", "expected"),
    ),
    Case(
        "both test and val",
        lambda p: (p.images / "val").mkdir(),
        ("both `test` and `val`", "rename the other"),
    ),
    Case(
        "class missing in test",
        lambda p: shutil.rmtree(p.images / "test/cat"),
        ("images/test", "cat", "need the same"),
    ),
    Case(
        "empty class",
        for_each("train/bee", Path.unlink),
        ("train/bee", "without images", "fill or remove"),
    ),
    Case(
        "a folder that holds itself",
        lambda p: (p.images / "train/ant/loop").symlink_to(".."),
        ("loop", "is a link to a folder that holds it", "remove the link"),
    ),
    Case(
        "a broken link as an image",
        lambda p: (p.images / "train/ant/gone.png").symlink_to("nowhere"),
        ("gone.png cannot be read", "fix or remove"),
    ),
)


# Those that go through `run` as well: it reads parameters, data and layout as `check` does.
THROUGH_RUN = {
    "unknown key",
    "broken YAML",
    "missing file",
    "an overlay",
    "tasks that do not divide the classes",
    "class missing in test",
}


@pytest.mark.parametrize(
    ("command", "case"),
    [
        pytest.param(command, case, id=f"{command} {case.name}")
        for command in ("check", "run")
        for case in PARAMETER_CASES
        if command == "check" or case.name in THROUGH_RUN
    ],
)
def test_refused_before_any_work(command: str, case: Case, fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    case.breaks(project)
    outcome = project.kaizen(command, *case.command[1:])
    check_message(outcome, case.code, case.says, case.name)
    assert not project.store.root.exists() and not (project.root / "results").exists()


# -- images ------------------------------------------------------------------------------------


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def truncate(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


IMAGE = "images/train/cat/07.png"
IMAGE_SAYS = (
    IMAGE,
    "cannot be read as an image",
    "replace or remove it, or set dataset.on_corrupt: skip",
)
IMAGE_CASES = (
    Case(
        "corrupt image",
        written(b"\x89PNG\r\n\x1a\n" + bytes(range(200)), IMAGE),
        IMAGE_SAYS,
        ("run",),
    ),
    Case("truncated image", lambda p: truncate(p.root / IMAGE), IMAGE_SAYS, ("run",)),
    Case("empty image", written(b"", IMAGE), IMAGE_SAYS, ("run",)),
    Case(
        "text named .jpg",
        written("not an image\n", "images/train/cat/99.jpg"),
        ("images/train/cat/99.jpg", *IMAGE_SAYS[1:]),
        ("run",),
    ),
    Case(
        "decompression bomb",
        written(png_claiming(60000, 60000), IMAGE),
        (*IMAGE_SAYS, "60000"),
        ("run",),
    ),
    Case(
        "no readable image left in a class",
        for_each("test/dog", truncate, dataset__on_corrupt="skip"),
        ("class 'dog'", "test part", "test/dog/00.png", "fix its images or remove the class"),
        ("run",),
    ),
    Case(
        "images of different sizes",
        lambda p: write_image(p.root / IMAGE, 1, (12, 8)),
        ("image.load_size: null", "8 x 8 and 12 x 8", "set image.load_size"),
        ("run",),
    ),
    Case(
        "too few images",
        # One row of each class stays, so a task of one class.
        setting(train__data_fraction=0.01, split__tasks=4),
        ("train.data_fraction: 0.01", "1 images of task 0", "at least 2 are needed", "raise it"),
        ("run",),
    ),
)


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: case.name)
def test_images(case: Case, fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    case.breaks(project)
    outcome = project.kaizen(*case.command)
    check_message(outcome, case.code, case.says, case.name)
    check_intact(project, {})


# -- files of finished nodes -------------------------------------------------------------------


def node_file(project: Project, kind: str, name: str, number: int = 0) -> Path:
    """A file of the node of a kind that was made as the ``number``-th."""
    return project.store.folder(NodeId.of(kind, project.keys(kind)[number])) / name


def flip_byte(path: Path, share: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 0x40
    path.write_bytes(data)


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


# -- specifications of nodes, and other arguments ----------------------------------------------


def spec_of(project: Project, kind: str, number: int = -1) -> dict[str, Any]:
    """The specification of a node of the current plan; by default the last of its kind."""
    plan = json.loads(project.kaizen("plan", "--json").output)
    specs: list[dict[str, Any]] = [node for node in plan["nodes"] if node["kind"] == kind]
    return specs[number]


def node_command(
    project: Project, spec: dict[str, object], text: str | None = None
) -> tuple[str, ...]:
    """The command line of a node's job, of ``spec`` or with ``text`` in its place."""
    return (
        "node",
        "--store",
        str(project.store.root),
        "--spec",
        json.dumps(spec) if text is None else text,
    )


PLAN_JSON = "kaizen plan --json"
SPEC_CASES: dict[str, tuple[Callable[[dict[str, Any]], object], tuple[str, ...]]] = {
    "not JSON": (lambda spec: "{'kind': 'shards'}", ("--spec is not JSON", PLAN_JSON)),
    "a list": (lambda spec: [spec], ("--spec", "but a list", PLAN_JSON)),
    "without inputs": (
        lambda spec: {k: v for k, v in spec.items() if k != "inputs"},
        ("lacks 'inputs'", PLAN_JSON),
    ),
    "params as text": (
        lambda spec: spec | {"params": "all"},
        ("'params' must be a mapping, not a text", PLAN_JSON),
    ),
    "unknown kind": (
        lambda spec: spec | {"kind": "stepp"},
        ("kind 'stepp' is unknown", "shards, replay, step", PLAN_JSON),
    ),
    "an input without a key": (
        lambda spec: spec | {"inputs": {"prior": {"kind": "step"}}},
        ("'prior'", PLAN_JSON),
    ),
    "altered": (
        lambda spec: spec | {"params": spec["params"] | {"seed": 9}},
        ("--spec: key", "altered", PLAN_JSON),
    ),
}


@pytest.mark.parametrize("name", SPEC_CASES)
def test_specification(name: str, fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    alter, says = SPEC_CASES[name]
    spec = spec_of(project, "step")
    bad = alter(spec)
    outcome = project.kaizen(
        *node_command(project, spec, bad if isinstance(bad, str) else json.dumps(bad))
    )
    check_message(outcome, 2, says, name)
    assert not project.store.root.exists()


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


@pytest.mark.parametrize(
    ("command", "text", "says"),
    [
        (("run", "--plan", "plan.json"), None, ("plan.json does not exist", f"{PLAN_JSON} > FILE")),
        (("run", "--plan", "plan.json"), "{", ("plan.json is not readable JSON", PLAN_JSON)),
        (("run", "--plan", "plan.json"), "[]", ("plan.json is not a plan", PLAN_JSON)),
        (
            ("run", "--plan", "plan.json"),
            '{"nodes": [{"kind": "shards"}]}',
            ("plan.json: node 0", "lacks 'key'", PLAN_JSON),
        ),
        (("publish", "--values", "{"), None, ("--values is not JSON",)),
        (
            ("publish", "--values", '{"train": {"epochs": 0}}'),
            None,
            ("--values: train.epochs", "greater than or equal"),
        ),
        (("publish",), None, ("nodes are not finished", "snakemake --cores all")),
        (
            ("show",),
            None,
            ("results/summary/metrics_full.json does not exist", "in the project's folder"),
        ),
    ],
    ids=lambda value: (
        " ".join(value)
        if isinstance(value, tuple) and value[0] in ("run", "publish", "show")
        else None
    ),
)
def test_other_arguments(
    command: tuple[str, ...],
    text: str | None,
    says: tuple[str, ...],
    fresh: Project,
    tmp_path: Path,
) -> None:
    project = fresh.copy(tmp_path / "project")
    if text is not None:
        (project.root / "plan.json").write_text(text)
    check_message(project.kaizen(*command), 2, says)
    assert not project.store.root.exists() and not (project.root / "results").exists()


def test_images_that_change_between_plan_and_job(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    command = node_command(project, spec_of(project, "shards"))
    write_image(project.root / IMAGE, 77)
    outcome = project.kaizen(*command)
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert (
        "dataset.path: the images of images changed after the plan was made; run" in outcome.output
    )
    check_intact(project, {})
    assert project.nodes() == {}


# -- state that is only ever a help: refused with a note, and made again ------------------------


def resume_states(project: Project) -> dict[str, Callable[[Path], object]]:
    """Ways to put a useless resume state into a step's working folder."""

    def of_another_machine(folder: Path) -> None:
        save_resume(folder, {"model.x": torch.zeros(1)}, Progress(epoch=1), {"device": "abacus"})

    def altered(folder: Path) -> None:
        of_another_machine(folder)
        flip_byte(folder / FILE, 0.99)

    def without_metadata(folder: Path) -> None:
        safetensors.torch.save_file({"model.x": torch.zeros(1)}, folder / FILE)

    return {
        "is no safetensors file": lambda folder: (folder / FILE).write_bytes(b"\x00" * 100),
        "is empty": lambda folder: (folder / FILE).touch(),
        "lacks its metadata": without_metadata,
        "was altered": altered,
        "is of another machine": of_another_machine,
    }


@pytest.mark.parametrize("name", list(resume_states(Project(Path()))))
def test_resume_state_that_cannot_be_used_is_no_error(
    name: str, finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    before = project.nodes()
    key = project.keys("step")[0]
    shutil.rmtree(project.store.folder(NodeId.of("step", key)))
    shutil.rmtree(project.root / "results")
    work = project.store.work_folder(NodeId.of("step", key))
    work.mkdir(parents=True)
    resume_states(project)[name](work)
    outcome = project.kaizen("run")
    assert outcome.code == 0 and "Traceback" not in outcome.output, outcome.output
    assert f"{work / FILE} cannot be used" in outcome.output
    assert "the step starts from its beginning" in outcome.output
    assert project.nodes() == before, "made again, it is the same"


def test_resume_state_of_another_model(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    key = project.keys("step")[0]
    compute = read_json(project.store.record_path(NodeId.of("step", key)))["environment"]
    described = {name: compute[name] for name in ("device", "device_name", "precision", "threads")}
    shutil.rmtree(project.store.folder(NodeId.of("step", key)))
    shutil.rmtree(project.root / "results")
    before = project.nodes()
    work = project.store.work_folder(NodeId.of("step", key))
    save_resume(
        work,
        {"model.x": torch.zeros(1)},
        Progress(epoch=1),
        described | {"torch": torch.__version__},
    )
    outcome = project.kaizen("run")
    check_message(
        outcome,
        2,
        (str(work), "holds the state of another model", "delete that folder and run again"),
    )
    check_intact(project, before)
    shutil.rmtree(work)
    assert project.kaizen("run").code == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"plan": 1, "files": {"a": 2}}',
        b"\xff\xfe",
        b'{"files": {"a": {"key": "KEY", "file": "../x"}}}',
    ],
    ids=["empty", "torn", "a list", "of numbers", "not UTF-8", "leaving its folder"],
)
def test_damaged_manifest_is_no_error(text: bytes, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    manifest = project.root / "results" / "manifest.json"
    before, nodes = manifest.read_bytes(), project.nodes()
    summary = project.keys("summary")[0]
    manifest.write_bytes(text.replace(b"KEY", summary.encode()))
    shutil.rmtree(project.store.folder(NodeId.of("summary", summary)))
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    assert manifest.read_bytes() == before and project.nodes() == nodes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dvc.lock", "stages: ["),
        ("dvc.lock", "stages: {experiment: {outs: [1, 2]}}"),
        ("dvc.lock", "- 1"),
        (".dvc/config", "no section"),
        (".kaizen/checksums/all.json", "{"),
    ],
)
def test_damaged_files_of_others_are_no_error(
    name: str, text: str, fresh: Project, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    first = project.kaizen("check")
    (project.root / name).parent.mkdir(exist_ok=True)
    for path in {project.root / name, *(project.root / ".kaizen/checksums").glob("*.json")}:
        if path.parent == (project.root / name).parent:
            path.write_text(text)
    outcome = project.kaizen("check")
    assert outcome == first and first.code == 0 and len(first.output.splitlines()) == 1


# -- disks -------------------------------------------------------------------------------------


def test_store_below_a_file(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    project = Project(project.root, project.params / "store")
    outcome = project.kaizen("run")
    check_message(
        outcome,
        2,
        (
            f"the store cannot be {project.store.root}: {project.params} is a file",
            "name another folder (KAIZEN_STORE, or --store), or move it away",
        ),
    )


def test_store_with_a_link_that_leads_nowhere(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.root / "results")
    shutil.rmtree(project.store.root / "evaluation")
    (project.store.root / "evaluation").symlink_to(project.store.root / "evaluation")
    outcome = project.kaizen("run")
    check_message(outcome, 2, (f"{project.store.root}/evaluation", "symbolic links"))


def test_an_error_of_a_job_passes_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="from the job"),
        reporter("test", tmp_path / "log", io.StringIO(), live=False) as job,
    ):
        job.note("began")
        raise OSError("from the job")
    assert (tmp_path / "log").read_text() == "test: began\n"


@pytest.mark.parametrize("name", ["results", "results/models", "data", "logs"])
def test_a_file_in_the_place_of_a_folder(name: str, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    nodes = project.nodes()
    place = project.root / name
    if place.is_dir():
        shutil.rmtree(place)
    place.write_text("mine\n")
    project.set({"report.title": "new"})
    outcome = project.kaizen("run")
    check_message(
        outcome, 2, ("cannot write", name, "a file stands where a folder is needed: move it away")
    )
    check_intact(project, nodes)
    assert place.read_text() == "mine\n"


def test_a_folder_in_the_place_of_a_result(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    nodes = project.nodes()
    place = project.root / "results" / "metrics.json"
    place.unlink()
    place.mkdir()
    (place / "mine").touch()
    outcome = project.kaizen("run")
    check_message(
        outcome,
        2,
        (f"cannot write {place}", "a folder stands where a file is needed: move it away"),
    )
    check_intact(project, nodes)
    assert (place / "mine").exists()


# -- processes of their own --------------------------------------------------------------------


def test_processes(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    check_message(project.python("node", "--spec", "{"), 2, ("--spec is not JSON",))
    project.set({"train.epoch": 3})
    check_message(project.python("run"), 2, ("train.epoch", "did you mean epochs?"))
    assert not project.store.root.exists()


def test_snakemake_with_bad_parameters(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    project.set({"train.epoch": 3})
    outcome = project.snakemake()
    check_message(outcome, 2, ("train.epoch: unknown key; did you mean epochs?",), "snakemake")
    assert not project.store.root.exists()


def test_snakemake_with_a_corrupt_image(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    truncate(project.root / IMAGE)
    outcome = project.snakemake()
    assert outcome.code != 0 and "Traceback" not in outcome.output
    for words in IMAGE_SAYS:
        assert words in outcome.output
    check_intact(project, {})
    assert project.nodes() == {}


def test_names_of_the_table_are_unique() -> None:
    names = [case.name for table in (PARAMETER_CASES, IMAGE_CASES, NODE_CASES) for case in table]
    assert len(set(names)) == len(names)
