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

HEAVY = ("torch", "numpy", "pyarrow", "pydantic", "vl_convert", "snakemake", "dvc", "rich")


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
    assert not {"torch", "vl_convert", "snakemake", "dvc"} & loaded_after(["plan"], project.root)


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
    from kaizen.jobs.rules import PlannedRules, receipt
    from kaizen.params.validation import load_params

    monkeypatch.setenv("KAIZEN_STORE", str(project.store.root))
    monkeypatch.chdir(project.root)
    planned = PlannedRules.from_params(load_params(project.params), project.root)
    (node,) = planned.plan.shards
    spec = planned.spec(SimpleNamespace(key=node.key))
    # Written when a command is put together.
    assert not (project.store.root / ".specs").exists()
    spec = f"{spec}"
    assert spec == f"@{project.store.root}/.specs/shards-{node.key}.json"
    assert project.kaizen("node", "--receipt", receipt(node.id), "--spec", spec).code == 0
    assert planned.done(node)
    # What is finished needs none; a second workflow's job finds the node.
    assert not list((project.store.root / ".specs").iterdir())
    assert project.kaizen("node", "--receipt", receipt(node.id), "--spec", spec).code == 0
    assert json.loads((project.root / receipt(node.id)).read_text()) == {
        "kind": "shards",
        "key": node.key,
    }


def test_parameters_too_long_for_a_command_line_are_published_through_a_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux takes 128 KiB per argument; these are 200 KiB of variants that the grid does not ask
    for.
    """
    from kaizen.jobs.rules import PlannedRules, values
    from kaizen.params.validation import load_params

    switches = {"feature_distill": True, "classifier_distill": False, "replay": True}
    project.set({f"variants.mine_{number:04d}": switches for number in range(2000)})
    monkeypatch.setenv("KAIZEN_STORE", str(project.store.root))
    monkeypatch.chdir(project.root)
    planned = PlannedRules.from_params(load_params(project.params), project.root)
    named = f"{values(planned, project.root)(SimpleNamespace())}"
    assert named.startswith(f"@{project.root}/.kaizen/params/")
    assert Path(named[1:]).stat().st_size > 128 * 1024
    assert project.kaizen("run").code == 0
    (project.root / "results/manifest.json").unlink()
    outcome = project.python("publish", "--marker", "marker.json", "--values", named)
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
    assert b"30 nodes" in done.stdout and b"step 1 " in done.stdout
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


# -- arguments that cannot be meant ------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("run", "--store", ""), "argument --store: it is empty; name a file or folder"),
        (("run", "--plan", ""), "argument --plan: it is empty"),
        (("plan", "--params", " "), "argument --params: it is empty"),
        (("check", "--preset", ""), "argument --preset: it is empty"),
        (("check", "--overlay", ""), "argument --overlay: it is empty"),
        (("preset", ""), "argument NAME: it is empty"),
        (("gc", "--forget", ""), "argument --forget: it is empty"),
        (("gc", "--keep", ""), "--keep: '' is not a size; write a number and K, M, G or T"),
        (("gc", "--keep", "-5G"), "--keep: '-5G' is not a size"),
        (("gc", "--keep=-5"), "--keep: '-5' is not a size"),
        (("gc", "--keep", "--delete"), "argument --keep: expected one argument"),
        (("explain", ""), "'' names nothing; ask about a file"),
        (("explain", ":CA"), "':CA' names nothing; ask about a file"),
        (("explain", "results/metrics.json:"), "names no number after the colon; ask about"),
        (("explain", "x", "--plan", "plan.json"), "unrecognized arguments: --plan"),
        (("explain", "x", "--write-plan", "no/again.json"), "--write-plan: no is not a folder"),
        (("check", "--preset", "digits"), "presets/digits.yaml does not exist; run in the project"),
        (("check", "--overlay", "my.yaml"), "my.yaml does not exist; name a file of parameters"),
        (("check", "--params", "my.yaml"), "my.yaml does not exist; run in the project's folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_arguments_that_cannot_be_meant(
    command: tuple[str, ...], says: str, project: Project
) -> None:
    outcome = project.kaizen(*command)
    assert outcome.code == 2 and says in outcome.output, outcome.output
    assert "Traceback" not in outcome.output
    assert not project.store.root.exists()
    assert {path.name for path in project.root.iterdir()} <= {"params.yaml", "images", ".kaizen"}


@pytest.mark.parametrize("command", [("check", "--preset"), ("preset",)])
@pytest.mark.parametrize("form", ["{}", "{}.yaml", "presets/{}", "presets/{}.yaml"])
def test_a_missing_preset_lists_those_that_exist(
    form: str, command: tuple[str, ...], fresh: Project, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    (project.root / "presets").mkdir()
    for name in ("digits", "cifar100"):
        (project.root / f"presets/{name}.yaml").write_text("{}")
    near, far = (project.kaizen(*command, form.format(name)) for name in ("digit", "zzz"))
    assert near.code == far.code == 2
    wrong = "presets/digit.yaml does not exist; did you mean digits?"
    assert f"{wrong} Choose from cifar100, digits\n" in near.output
    assert "presets/zzz.yaml does not exist; choose from cifar100, digits\n" in far.output
    project.kaizen(*command, form.format("digits")).good()


def test_a_file_elsewhere_may_be_a_preset(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    for name in ("mine.yaml", "digits.yaml"):
        (project.root / name).write_text("train: {epochs: 0}")
        outcome = project.kaizen("check", "--preset", name)
        assert outcome.code == 2 and f"{name}: train.epochs: 0" in outcome.output


# -- what commands say and do ------------------------------------------------------------------


def test_planning_writes_nothing(project: Project) -> None:
    """Nodes that the store would take back from the published tree count as done."""
    project.kaizen("run").good()
    shutil.rmtree(project.store.root)
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*")}
    assert "6 done, 0 to run" in project.kaizen("plan").good()
    assert all(node["done"] for node in project.plan())
    assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*")} == before
    next(project.root.glob("results/models/*/step-01/model.safetensors")).unlink()
    assert "1 to run" in project.kaizen("plan").good()


@pytest.mark.parametrize("below", ["", "deeper/store"])
@pytest.mark.parametrize("command", ["plan", "run", "gc", "verify", "jobs", "explain"])
def test_a_store_that_is_no_folder(command: str, below: str, project: Project) -> None:
    project = Project(project.root, project.params / below)
    outcome = project.kaizen(*(command, "0" * 32) if command == "explain" else (command,))
    assert outcome.code == 2, outcome.output
    assert f"the store cannot be {project.store.root}: {project.params} is a file" in outcome.output
    assert outcome.output.count("kaizen: ") == 1 and "KAIZEN_STORE" in outcome.output


def test_no_command_ends_without_a_word(project: Project) -> None:
    (project.root / "mine.yaml").write_text("train: {lr: 0.5}\n")
    assert project.kaizen("preset", "mine.yaml").good() == (
        "wrote mine.yaml into params.yaml; `kaizen plan` shows what would run\n"
    )
    assert project.kaizen("schema").good() == "wrote workflow/schemas/params.schema.json\n"
    assert project.kaizen("jobs").good() == "nothing is being made now\n"
    assert "no node of the plan is finished" in project.kaizen("verify").good()
    assert "no node of the store is finished" in project.kaizen("verify", "--all").good()


def test_messages_hold_nothing_that_a_terminal_obeys(project: Project) -> None:
    project.params.write_text('"\\e[31mred": 1\n"\\u202egnp": 2\n')
    outcome = project.kaizen("check")
    assert outcome.code == 2 and outcome.output.count("unknown key") == 2
    assert (
        not {"\x1b", "\u202e"} & set(outcome.output)
        and "\N{REPLACEMENT CHARACTER}" in outcome.output
    )
    assert len(outcome.output.splitlines()) == 3, "a line for each"


def test_one_is_no_plural(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", {"split.tasks": 1, "grid.variants": ["cassle"]})
    plan = project.kaizen("plan", "--json").good()
    shards = [node for node in json.loads(plan)["nodes"] if node["kind"] == "shards"]
    (project.root / "shards.json").write_text(json.dumps({"nodes": shards}))
    project.kaizen("run", "--plan", "shards.json").good()
    assert "1 training step serves 2 uses" in project.kaizen("plan").good()
    assert "1 finished node of the plan" in project.kaizen("verify").good()
    (path,) = project.store.root.glob("shards/*/task-00.test.parquet")
    path.unlink()
    damaged = project.kaizen("verify")
    assert damaged.code == 1 and "1 damaged node was set aside" in damaged.output
    assert "1 entry, " in project.kaizen("gc").good()
    ran = project.kaizen("run").good()
    assert ", 1 thread\n" in ran and "1 threads" not in ran
