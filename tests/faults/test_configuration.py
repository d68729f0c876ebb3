"""What Snakemake hands over is not believed either: values of `--config` that nobody can mean, and
receipts that hold anything.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from project import Project

from kaizen.files import read_json
from kaizen.jobs.rules import PlannedRules, receipt
from kaizen.jobs.snakefile import rules_of_config

from .test_fuzz import MORE, NASTY, mutated_bytes


def bomb(levels: int) -> str:
    """A YAML value of a few hundred letters that comes to 9 ** ``levels`` values."""
    lists = ["&l0 [x, x, x, x, x, x, x, x, x]"]
    lists += [f"&l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    return f"[{', '.join(lists)}]"


def configured(
    project: Project, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> PlannedRules:
    """What the Snakefile makes of a configuration; raises SystemExit where it is wrong."""
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("KAIZEN_STORE", str(project.store.root))
    monkeypatch.delenv("KAIZEN_ORIGIN", raising=False)
    settings = SimpleNamespace(config=config, configfiles=[], replace_workflow_config=False)
    return rules_of_config(settings, project.root)


@pytest.mark.parametrize("name", ["report", "node", "edges", "zzz"])
@pytest.mark.parametrize(
    "text",
    [bomb(6), f"{{a: {bomb(6)}}}", "[" * 300 + "]" * 300, "{a: " * 100 + "1" + "}" * 100],
    ids=["bomb", "inside a mapping", "lists", "mappings"],
)
def test_configurations_that_nobody_can_mean(
    name: str,
    text: str,
    fresh: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # As Snakemake reads it.
    config = {name: yaml.load(text, Loader=yaml.BaseLoader)}
    with pytest.raises(SystemExit) as ended:
        configured(fresh, config, monkeypatch)
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.count("kaizen: ") == 1
    assert message.startswith("kaizen: --config is nested too deep, or comes to more than 200000")
    assert len(message) < 1000 and not fresh.store.root.exists()


def test_snakemake_with_a_bomb_in_its_configuration(fresh: Project, tmp_path: Path) -> None:
    """387 million values, which a shell would end for the memory that they take."""
    project = fresh.copy(tmp_path / "project")
    command = project.snakemake_command("-n", "--config", f"report={bomb(9)}")
    done = project.process("bash", "-c", 'ulimit -v 8000000; exec "$@"', "bash", *command)
    assert done.code == 2 and "kaizen: --config is nested too deep" in done.output, done.output
    assert "Traceback" not in done.output


def test_configurations_of_every_kind_end_well(
    fresh: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = fresh.copy(tmp_path / "project")
    (tmp_path / "mine.txt").write_text("keep")
    names = ("node", "edges", "train", "grid", "dataset", "per_method", "report", "\x1b[31m", "")
    rng = random.Random(f"configurations {MORE}")
    for _ in range(120 * MORE):
        name = rng.choice(names)
        value = rng.choice(NASTY)
        if rng.random() < 0.5:
            value = {rng.choice(("title", "seeds", "path", "simclr", "zzz")): value}
        try:
            configured(project, {name: value}, monkeypatch)
        except SystemExit as ended:
            message = capsys.readouterr().err
            told = f"{name!r}: {value!r:.200}\n{message[:2000]}"
            assert ended.code == 2 and message.startswith("kaizen: "), told
            assert "\x1b" not in message and len(message) < 5000, told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "project"]


# -- receipts ----------------------------------------------------------------------------------


def receipts_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A receipt of every finished node, as `--config edges=true` writes them."""
    planned = configured(project, {"edges": "true"}, monkeypatch)
    return [project.root / receipt(node.id) for node in planned.plan.nodes.values()]


def test_a_receipt_may_hold_anything(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands for a finished node by being there, and only while the store has that."""
    project = finished.copy(tmp_path / "project")
    paths = receipts_of(project, monkeypatch)
    contents = {path: path.read_bytes() for path in paths}
    rng = random.Random(f"receipts {MORE}")
    for number in range(40 * MORE):
        for path in paths:
            path.write_bytes(mutated_bytes(contents[path], rng))
        edges = "true" if number % 2 else "false"
        planned = configured(project, {"edges": edges}, monkeypatch)
        assert planned.missing() == []
        assert [path.read_bytes() == contents[path] for path in paths].count(True) >= (
            len(paths) if number % 2 else 0
        )
    for path in paths:
        path.write_bytes(mutated_bytes(contents[path], rng))
    done = project.snakemake()
    assert done.code == 0 and "Traceback" not in done.output, done.output
    # Of a node that the store has lost it says nothing any more.
    (summary,) = (path for path in paths if path.parent.name == "summary")
    shutil.rmtree(project.store.root / "summary")
    shutil.rmtree(project.root / "results")
    assert project.snakemake().code == 0
    assert read_json(summary) == json.loads(contents[summary])
    assert project.nodes() == finished.nodes()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nowhere", "link to mine", "device"])
@pytest.mark.parametrize("edges", ["true", "false"])
def test_a_receipt_that_is_no_regular_file(
    kind: str,
    edges: str,
    finished: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a finished node and of one that is missing: replaced, removed or named."""
    project = finished.copy(tmp_path / "project")
    (tmp_path / "mine.txt").write_text("keep")
    paths = receipts_of(project, monkeypatch)
    shutil.rmtree(project.store.root / "summary")
    shutil.rmtree(project.root / "results")
    targets: dict[str, str | Path] = {
        "link to nowhere": "nowhere",
        "link to mine": tmp_path / "mine.txt",
        "device": "/dev/zero",
    }
    for path in paths:
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(targets[kind])
    if kind == "folder":
        with pytest.raises(SystemExit) as ended:
            configured(project, {"edges": edges}, monkeypatch)
        message = capsys.readouterr().err
        assert ended.value.code == 2 and "/.kaizen/receipts/" in message
        assert "there is a folder where a file is needed: move it away" in message
    else:
        planned = configured(project, {"edges": edges}, monkeypatch)
        assert [node.kind for node in planned.missing()] == ["summary"]
        if edges == "false":
            project.snakemake().good()
            assert project.nodes() == finished.nodes()
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert not (project.root / ".kaizen/receipts/summary/nowhere").exists()
