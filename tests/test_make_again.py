"""The commands that `kaizen explain` prints make the same bytes in a fresh clone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import Project, make_checkout

from kaizen.files import read_json

KAIZEN = "results/models/simclr-kaizen-replay25pct-seed0"


def explained(project: Project, asked: str) -> dict[str, Any]:
    outcome = project.kaizen("explain", asked, "--json")
    assert outcome.code == 0, outcome.output
    read: dict[str, Any] = json.loads(outcome.output)
    return read


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout with code and parameters committed, run once; an overlay of its own, not
    committed, run too.
    """
    project = make_checkout(tmp_path_factory.mktemp("committed") / "project")
    project.commit("all")
    project.run(sys.executable, "-m", "kaizen", "run")
    (project.root / "more.yaml").write_text("train: {classifier_lr: 0.2}\n")
    return project


def clone_of(project: Project, place: Path) -> Project:
    project.run("git", "clone", "--quiet", str(project.root), str(place))
    return Project(place)


def printed_commands(output: str) -> list[str]:
    return re.findall(r"^(?:make again|then) +(.*)$", output, re.MULTILINE)


def in_one_line(printed: str) -> str:
    """What was printed, without the places where long lines were broken."""
    return " ".join(printed.split())


def bash(project: Project, command: str) -> None:
    """As somebody would paste it who has the environment active."""
    kaizen = f'kaizen() {{ {sys.executable} -m kaizen "$@"; }}; '
    project.run("bash", "-c", f"set -e; {kaizen}{command}")


def same_bytes(one: Project, two: Project, kind: str, key: str) -> None:
    folder = one.store.root / kind / key
    names = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    )
    assert len(names) > 1
    for name in names:
        assert (two.store.root / kind / key / name).read_bytes() == (folder / name).read_bytes(), (
            name
        )


def test_the_printed_command_makes_the_same_bytes_in_a_fresh_clone(
    committed: Project, tmp_path: Path
) -> None:
    folder = "results/models/simclr-kaizen-replay10pct-seed0/step-01"
    found = json.loads(committed.run(sys.executable, "-m", "kaizen", "explain", folder, "--json"))
    commit = committed.run("git", "rev-parse", "HEAD").strip()
    assert (
        found["origin"].items()
        >= {"commit": commit, "changed": [], "params_committed": True}.items()
    )
    (command,) = printed_commands(committed.run(sys.executable, "-m", "kaizen", "explain", folder))
    assert (
        command
        == f"git checkout {commit} && snakemake --cores all --config node=step/{found['key']}"
    )
    clone = clone_of(committed, tmp_path / "clone")
    bash(clone, command)
    same_bytes(committed, clone, "step", found["key"])
    made = {path.parent.parent.name for path in clone.store.root.glob("*/*/node.json")}
    assert made == {"shards", "replay", "step"}, "nothing that it does not need"
    assert not (clone.root / "results").exists()
    run = read_json(clone.store.root / "step" / found["key"] / "run.json")
    assert (
        run["local"]["origin"]["commit"] == commit
        and "node=step/" in run["local"]["origin"]["command"]
    )
    outcome = subprocess.run(
        ["snakemake", "--cores", "1", "--config", f"node=step/{commit[:32]}"],
        cwd=clone.root, env=clone.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert outcome.returncode == 2 and "has no such node" in outcome.stderr


def test_other_parameters_than_the_commits_come_as_a_plan(
    committed: Project, tmp_path: Path
) -> None:
    project = committed.copy_with_links(tmp_path / "project")
    with (project.root / "kaizen/cli/__init__.py").open("a") as file:
        file.write("# a change that no result depends on\n")
    project.run(sys.executable, "-m", "kaizen", "run", "--overlay", "more.yaml")
    folder = "results/evaluations/simclr-no_distill-seed0"
    printed = project.run(sys.executable, "-m", "kaizen", "explain", folder)
    commit = project.run("git", "rev-parse", "HEAD").strip()
    assert (
        "clean in all that this depends on (uncommitted were: kaizen/cli/__init__.py)"
        in in_one_line(printed)
    )
    assert "current plan no" in printed and "--overlay more.yaml" in printed
    write, make = printed_commands(printed)
    assert make == f"git checkout {commit} && kaizen run --plan again.json"
    bash(project, write)
    clone = clone_of(committed, tmp_path / "clone")
    shutil.copy(project.root / "again.json", clone.root)
    bash(clone, make)
    key = read_json(project.root / folder / "node.json")["key"]
    same_bytes(project, clone, "evaluation", key)
    run = read_json(clone.store.root / "evaluation" / key / "run.json")
    assert run["local"]["origin"]["commit"] == commit and run["local"]["origin"]["changed"] == []


def test_code_that_was_not_committed_cannot_be_had_again_once_it_changed(
    committed: Project, tmp_path: Path
) -> None:
    project = committed.copy_with_links(tmp_path / "project")
    source = project.root / "kaizen/report/model_card.py"
    text = source.read_text()
    source.write_text(text.replace("# Model card", "# Card"))
    project.run(sys.executable, "-m", "kaizen", "run")
    explain = (sys.executable, "-m", "kaizen", "explain", "results/metrics.json")
    printed = project.run(*explain)
    assert "dirty: kaizen/report/model_card.py had uncommitted changes" in in_one_line(printed)
    assert "with the present code" in printed and "git checkout" not in printed
    # Committed later, it is found there.
    project.run("git", "add", "kaizen")
    project.run("git", "commit", "--quiet", "--message", "cards")
    commit = project.run("git", "rev-parse", "HEAD").strip()
    assert printed_commands(project.run(*explain)) == [
        f"git checkout {commit} && snakemake --cores all"
    ]
    source.write_text(text.replace("# Model card", "# Another"))
    printed = project.run(*explain)
    assert (
        "the present code is another" in in_one_line(printed)
        and "changed since that commit: kaizen/report/model_card.py" in printed
    )
    (last,) = printed_commands(printed)
    assert last.startswith(
        "the code at the time was not committed (kaizen/report/model_card.py differed"
    )


def test_a_clone_takes_over_how_nodes_were_made(committed: Project, tmp_path: Path) -> None:
    """`dvc pull` brings results/provenance.json, and taking nodes back into a store keeps it."""
    clone = clone_of(committed, tmp_path / "clone")
    for folder in ("data/shards", "data/replay", "results"):
        shutil.copytree(committed.root / folder, clone.root / folder)
    clone.run(sys.executable, "-m", "kaizen", "publish")
    runs = [
        {path.parent.name: read_json(path) for path in p.store.root.glob("*/*/run.json")}
        for p in (committed, clone)
    ]
    assert runs[0] == runs[1] and len(runs[0]) == 9
    provenance = "results/provenance.json"
    assert (clone.root / provenance).read_bytes() == (committed.root / provenance).read_bytes()
