"""The commands a person types: light to start, helpful, and true about what they do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from project import REPOSITORY, Project, make_project

from kaizen.files import read_json

HEAVY = ("torch", "numpy", "pyarrow", "pydantic", "matplotlib", "snakemake", "dvc", "rich")


def loaded_after(arguments: list[str], cwd: Path) -> set[str]:
    """Which heavy packages a command has imported at its end."""
    code = (
        "import sys\nfrom kaizen.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project", {"grid.variants": ["no_distill"]})


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_after(["--help"], tmp_path) == set()
    assert loaded_after(["plan", "--help"], tmp_path) == set()


def test_planning_does_without_torch(project: Project) -> None:
    assert not {"torch", "matplotlib", "snakemake", "dvc"} & loaded_after(["plan"], project.root)


def test_the_plan_shows_what_is_done_and_what_is_shared(project: Project) -> None:
    project.set({"grid.variants": ["no_distill", "cassle"]})
    before = project.kaizen("plan")
    assert before.code == 0 and "0 done" in before.output and "shared by 3 runs" in before.output
    assert before.output.count("○ step 0 ") == 3, "step 0 stands under both runs and the references"
    assert project.kaizen("run").code == 0
    after = project.kaizen("plan").output
    assert "○ " not in after.split("nodes:")[0] and "0 to run" in after
    nodes = json.loads(project.kaizen("plan", "--json").output)["nodes"]
    assert all(node["done"] for node in nodes)
    assert {node["kind"] for node in nodes} == {
        "shards",
        "step",
        "evaluation",
        "reference",
        "summary",
    }


def test_show_prints_the_published_results(project: Project) -> None:
    missing = project.kaizen("show")
    assert missing.code == 2 and "metrics_full.json" in missing.output
    project.kaizen("run")
    shown = project.kaizen("show")
    assert (
        shown.code == 0
        and "No distillation" in shown.output
        and "accuracy_bars.png" in shown.output
    )


def test_an_overlay_changes_the_plan(project: Project) -> None:
    (project.root / "more.yaml").write_text("grid: {seeds: [0, 1]}\n")
    plain = json.loads(project.kaizen("plan", "--json").output)["nodes"]
    more = json.loads(project.kaizen("plan", "--json", "--overlay", "more.yaml").output)["nodes"]
    assert {node["key"] for node in plain} - {node["key"] for node in more} == {plain[-1]["key"]}
    assert len(more) > len(plain)


def test_publishing_an_unfinished_plan_is_refused(project: Project) -> None:
    outcome = project.kaizen("publish")
    assert outcome.code == 2 and "not finished" in outcome.output and "snakemake" in outcome.output


def test_a_specification_goes_through_a_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaizen.jobs import workflow
    from kaizen.params.validation import load_params

    monkeypatch.setenv("KAIZEN_STORE", str(project.store.root))
    monkeypatch.chdir(project.root)
    planned = workflow.Workflow.from_params(load_params(project.params), project.root)
    (node,) = planned.plan.shards
    spec = planned.spec(SimpleNamespace(key=node.key))
    assert spec == f"@{project.store.root}/.specs/shards-{node.key}.json"
    assert project.kaizen("node", "--receipt", planned.receipt(node), "--spec", spec).code == 0
    assert planned.done(node)
    # What is finished needs none; a second workflow's job finds the node.
    assert not list((project.store.root / ".specs").iterdir())
    assert project.kaizen("node", "--receipt", planned.receipt(node), "--spec", spec).code == 0
    assert json.loads((project.root / planned.receipt(node)).read_text()) == {
        "kind": "shards",
        "key": node.key,
    }


def test_parameters_too_long_for_a_command_line_are_published_through_a_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux takes 128 KiB per argument; these are 200 KiB of variants that the grid does not ask
    for.
    """
    from kaizen.jobs.workflow import Workflow
    from kaizen.params.validation import load_params

    switches = {"feature_distill": True, "classifier_distill": False, "replay": True}
    project.set({f"variants.mine_{number:04d}": switches for number in range(2000)})
    monkeypatch.setenv("KAIZEN_STORE", str(project.store.root))
    monkeypatch.chdir(project.root)
    planned = Workflow.from_params(load_params(project.params), project.root)
    values = planned.values(SimpleNamespace())
    assert values.startswith(f"@{project.root}/.kaizen/params/")
    assert Path(values[1:]).stat().st_size > 128 * 1024
    assert project.kaizen("run").code == 0
    (project.root / "results/manifest.json").unlink()
    outcome = project.python("publish", "--marker", "marker.json", "--values", values)
    assert outcome.code == 0, outcome.output
    assert read_json(project.root / "marker.json") == {"plan": planned.plan.key}
    missing = project.kaizen("publish", "--values", "@gone.json")
    assert missing.code == 2 and "gone.json" in missing.output


def run_with(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """`python -m kaizen` in the repository, with some environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "kaizen", *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_of_another_encoding_gets_what_it_can_show(encoding: str) -> None:
    """✓ and · are in neither; replaced, not a traceback."""
    done = run_with({"PYTHONIOENCODING": encoding}, "plan")
    assert done.returncode == 0, done.stderr
    assert b"27 nodes" in done.stdout and b"step 1 " in done.stdout
    assert done.stderr == b""


def test_a_locale_in_which_names_would_be_other_names_is_refused() -> None:
    forced = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = run_with(forced, "check")
    assert done.returncode == 2
    assert b"the locale's encoding is ascii" in done.stderr and b"PYTHONUTF8=1" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(not shutil.which("localedef"), reason="no localedef here")
def test_a_locale_of_another_encoding_changes_no_key(tmp_path: Path) -> None:
    name = "en_US.ISO-8859-1"
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / name)]
    subprocess.run(command, capture_output=True, check=False)
    if not (tmp_path / name).is_dir():
        pytest.skip("no sources of locales here")
    project = make_project(tmp_path / "project", {"dataset.path": "images"})
    (project.images / "train/ant").rename(project.images / "train/ämeise")
    (project.images / "test/ant").rename(project.images / "test/ämeise")
    plan = project.python("plan", "--json").good()
    project.variables = {"LC_ALL": name, "LOCPATH": str(tmp_path)}
    assert project.python("plan", "--json").good() == plan
    assert "ämeise" in json.loads(plan)["nodes"][0]["params"]["classes"]


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise ModuleNotFoundError('No module', name='yaml')\n")
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = run_with({"PYTHONPATH": paths}, "check")
    assert done.returncode == 2
    assert b"the package yaml is not installed" in done.stderr and b"make setup" in done.stderr
