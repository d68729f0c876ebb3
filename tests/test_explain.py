"""`kaizen explain`: files, nodes and numbers are led back to parameters, code and data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import Project, make_project

from kaizen.evaluation.metrics import continual_accuracy
from kaizen.files import read_json, sha256_file, write_json
from kaizen.provenance.tree import duration
from kaizen.store.node_id import NodeId

KAIZEN = "results/models/simclr-kaizen-replay25pct-seed0"


@pytest.fixture
def finished(two_seeds: Project) -> Project:
    """Two seeds of two variants, once run."""
    return two_seeds


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return finished.copy(tmp_path / "project")


def explained(project: Project, asked: str) -> dict[str, Any]:
    outcome = project.kaizen("explain", asked, "--json")
    assert outcome.code == 0, outcome.output
    read: dict[str, Any] = json.loads(outcome.output)
    return read


def test_a_published_file_is_explained_down_to_the_data(finished: Project) -> None:
    found = explained(finished, f"{KAIZEN}/step-01/model.safetensors")
    record = read_json(finished.root / KAIZEN / "step-01/node.json")
    assert (found["kind"], found["key"], found["what"]) == (
        "step",
        record["key"],
        "model of the training step",
    )
    assert found["in_current_plan"] is True and found["published"] == [f"{KAIZEN}/step-01"]
    (file,) = found["files"]
    assert file["problem"] is None and file["sha256"] == sha256_file(
        finished.root / KAIZEN / "step-01/model.safetensors"
    )
    assert found["parameters"] == record["params"] and found["environment"] == record["environment"]
    assert found["code"]["fingerprint"] == record["code"] and found["code"]["same_now"] is True
    parents = {entry["role"]: entry for entry in found["parents"]}
    # Which shards were read differs from run to run, where they have the same of these tasks.
    assert set(parents) == {"prior", "replay", "shards"} == set(record["inputs"]) | {"shards"}
    assert [entry["kind"] for entry in parents["prior"]["parents"]] == ["shards"]
    (data,) = found["data"]
    assert (data["source"], data["path"], len(data["checksums"])) == ("image_folder", "images", 8)
    keys = {record["key"], *(entry["key"] for entry in parents.values())}
    runs = [
        finished.store.read_run_record(node) or {} for node in finished.nodes() if node.key in keys
    ]
    times = [max(run["seconds"], run.get("training_seconds", 0.0)) for run in runs]
    assert found["wall_time"] == {"seconds": pytest.approx(sum(times)), "nodes": 4, "unknown": 0}


@pytest.mark.parametrize(
    ("asked", "kind", "what"),
    [
        (
            "results/summary/figures/accuracy_bars.png",
            "summary",
            "figure of the summary of all runs",
        ),
        (
            "results/summary/figures/accuracy_bars.csv",
            "summary",
            "data of a figure of the summary of all runs",
        ),
        ("results/metrics.json", "summary", "metrics of the summary of all runs"),
        (f"{KAIZEN}/README.md", "summary", "card of the summary of all runs"),
        (f"{KAIZEN}/step-00", "step", "training step"),
        (f"./{KAIZEN}/../simclr-kaizen-replay25pct-seed0/step-00/", "step", "training step"),
        ("data/shards/task-00.train.parquet", "shards", "shard of the task shards"),
        ("data/replay/first_n-25pct/step-01", "replay", "replay shard"),
        ("results/evaluations/simclr-no_distill-seed1", "evaluation", "evaluation of a run"),
    ],
)
def test_every_published_place_leads_to_its_node(
    finished: Project, asked: str, kind: str, what: str
) -> None:
    found = explained(finished, asked)
    assert (found["kind"], found["what"]) == (kind, what)
    assert found["files"] and not any(file["problem"] for file in found["files"])


def test_a_node_is_found_by_its_key_the_beginning_of_it_and_its_path_in_the_store(
    finished: Project,
) -> None:
    key = finished.keys("step")[0]
    place = finished.store.folder(NodeId.of("step", key))
    for asked in (
        key,
        f"step/{key[:10]}",
        str(place),
        str(place / "history.parquet"),
        f".kaizen/store/step/{key}",
    ):
        assert explained(finished, asked)["key"] == key, asked


def test_a_number_leads_to_the_evaluations_that_it_is_the_mean_of(finished: Project) -> None:
    found = explained(finished, "results/metrics.json:Kaizen.CA")["number"]
    means = []
    for seed, run in enumerate(found["runs"]):
        assert run["run"] == f"simclr-kaizen-replay25pct-seed{seed}"
        matrix = read_json(finished.root / run["published"][0] / "accuracy.json")["matrices"][
            "classifier"
        ]
        means.append(continual_accuracy(matrix) or 0.0)
        assert run["value"] == pytest.approx(means[-1])
    assert (
        len(means) == 2
        and found["value"] == pytest.approx(sum(means) / 2)
        and found["agrees"] is True
    )
    full = explained(
        finished, "results/summary/metrics_full.json:simclr.kaizen.knn.final_accuracy.n"
    )["number"]
    assert (full["value"], full["agrees"], len(full["runs"])) == (2, True, 2)
    other = explained(finished, "data/shards/tasks.json:tasks.0.train.rows")["number"]
    assert other == {"path": "tasks.0.train.rows", "value": 24}
    printed = finished.kaizen("explain", "results/metrics.json:simclr.kaizen.CA").output
    assert "they lead to this number" in printed


def test_a_step_whose_shards_were_collected_keeps_its_datas_lineage(tmp_path: Path) -> None:
    """A task appended to the stream leaves step 0 as it was made, from shards that gc removes."""
    first, second = ["bee", "dog"], ["ant"]
    project = make_project(tmp_path / "project", {"split": {"classes": [["cat"], first]}})
    assert project.kaizen("run").code == 0
    old = explained(project, f"{KAIZEN}/step-00")
    (lost,) = project.keys("shards")
    project.set({"split": {"classes": [["cat"], first, second]}})
    assert project.kaizen("run").code == 0
    assert project.kaizen("gc", "--delete").code == 0
    (kept,) = project.keys("shards")
    assert kept != lost

    found = explained(project, f"{KAIZEN}/step-00")
    assert found["key"] == old["key"]
    (then,), (data,) = old["data"], found["data"]
    assert then["instead_of"] == [] and then["shards"] == f"shards/{lost}"
    assert (data["source"], data["path"]) == ("image_folder", "images")
    assert data["shards"] == f"shards/{kept}" and data["instead_of"] == [f"shards/{lost}"]
    assert then["checksums"].items() <= data["checksums"].items()
    assert found["wall_time"]["unknown"] == 0
    printed = project.kaizen("explain", f"{KAIZEN}/step-00").output
    assert f"shards/{lost}, now gone" in printed
    # What makes it again is made from those.
    assert project.kaizen("explain", f"{KAIZEN}/step-01", "--write-plan", "again.json").code == 0
    project.store.folder(NodeId.of("step", found["key"])).rename(tmp_path / "old step")
    assert project.kaizen("run", "--plan", "again.json").code == 0
    again = project.store.folder(NodeId.of("step", found["key"])) / "model.safetensors"
    assert again.read_bytes() == (tmp_path / "old step/model.safetensors").read_bytes()

    # Where nothing else tells, its own identities do, and it is said.
    for kind in ("evaluation", "summary", "reference", "shards", "replay"):
        shutil.rmtree(project.store.root / kind)
    for key in project.keys("step"):
        if key != found["key"]:
            shutil.rmtree(project.store.folder(NodeId.of("step", key)))
    shutil.rmtree(project.root / "results")
    alone = explained(project, f"step/{found['key']}")
    (data,) = alone["data"]
    record = project.store.read_record(NodeId.of("step", found["key"]))
    assert data["source"] is None and data["instead_of"] == []
    assert data["checksums"] == {"train-00": record.identities["task-00"]}
    printed = project.kaizen("explain", f"step/{found['key']}").output
    assert "which is gone" in printed and "KeyError" not in printed


def test_no_label_stands_without_what_it_is_for(tmp_path: Path) -> None:
    """Of images that are made up nothing is left out, and nothing is said of that."""
    project = make_project(tmp_path / "project", {"dataset": {"source": "synthetic"}})
    shards = next(node for node in project.plan() if node["kind"] == "shards")
    assert shards["params"]["found"] == {}
    write_json(project.root / "plan.json", {"nodes": [shards]})
    project.kaizen("run", "--plan", "plan.json").good()
    printed = project.kaizen("explain", shards["key"]).good()
    assert "split: by class" in printed and "found:" not in printed


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        (f"{KAIZEN}/step-01/model.safetensors", None),
        ("results/metrics.json:simclr.kaizen.CA", "number       simclr.kaizen.CA = "),
    ],
)
def test_the_answer_comes_first_and_the_tree_on_request(
    finished: Project, asked: str, value: str | None
) -> None:
    found = explained(finished, asked)
    printed = finished.kaizen("explain", asked).good()
    answer, _ = printed.split("\n\n")
    lines = answer.splitlines()
    assert lines[0] == f"{asked}: {found['what']}"
    if value is not None:
        assert lines[1] == f"{value}{found['number']['value']}"
        assert "they lead to this number" in answer
    assert f"node         {found['title']} ({found['kind']}/{found['key']})" in lines
    assert "file         matches its recorded hash" in answer
    commands, note = found["again"]["commands"], found["again"]["note"]
    labels = ["make again", "then"][: len(commands)] if commands else ["make again"]
    for label, text in zip(labels, commands or [note], strict=True):
        assert f"{label.ljust(13)}{text}" in lines
    assert not {line[:13].strip() for line in lines} & {"commit", "parameters", "total"}
    tree = finished.kaizen("explain", asked, "--tree").good()
    shown = printed.replace(" (--tree shows them)", "")
    assert tree.startswith(shown) and shown != printed
    assert "──" not in printed
    below = tree.removeprefix(shown)
    for entry in found["parents"]:
        if not entry.get("repeated"):
            assert f"{entry['title']}  {entry['kind']}/{entry['key'][:12]}" in below
    assert "made from" in below and "made from" not in printed


def test_an_explanation_has_one_form(finished: Project) -> None:
    outcome = finished.kaizen("explain", "results/metrics.json", "--tree", "--json")
    assert outcome.code == 2 and "not allowed with argument --tree" in outcome.output


def test_an_edited_file_does_not_match(project: Project) -> None:
    path = project.root / "results/metrics.json"
    metrics = read_json(path)
    metrics["simclr"]["kaizen"]["CA"] = 0.99
    path.unlink()
    path.write_text(json.dumps(metrics))
    outcome = project.kaizen("explain", "results/metrics.json:Kaizen.CA")
    assert (
        outcome.code == 0
        and "DOES NOT MATCH" in outcome.output
        and "DO NOT LEAD TO THIS NUMBER" in outcome.output
    )
    (project.root / KAIZEN / "step-01/model.safetensors").unlink()
    outcome = project.kaizen("explain", f"{KAIZEN}/step-01")
    assert outcome.code == 0 and "step-01/model.safetensors is missing" in outcome.output


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("params.yaml", "params.yaml is none of the files that Kaizen made; ask about"),
        ("results/metric.json", "did you mean results/metrics.json?"),
        ("results/models", "ask about one: results/models/simclr-kaizen"),
        ("results/manifest.json", "is none of the files that Kaizen made"),
        ("/etc/passwd", "is none of the files that Kaizen made"),
        ("0123456789abcdef", "is not known"),
        ("results/metrics.json:simclr.CA", "did you mean"),
        (
            "results/metrics.json:CA",
            "has 2 numbers of that name: simclr.kaizen.CA, simclr.no_distill.CA",
        ),
        ("results/summary/report.md:CA", "only a JSON file has numbers"),
    ],
)
def test_what_is_not_kaizens_is_reported_in_one_message(
    finished: Project, asked: str, says: str
) -> None:
    outcome = finished.kaizen("explain", asked)
    assert outcome.code == 2 and says in outcome.output, outcome.output
    assert outcome.output.count("kaizen: ") == 1 and "Traceback" not in outcome.output


def test_without_a_store_the_published_tree_tells_all(finished: Project, tmp_path: Path) -> None:
    """As in a fresh clone after `dvc pull`: also without the raw data, and with parameters that are
    wrong.
    """
    asked = f"{KAIZEN}/step-01"
    before = explained(finished, asked)
    clone = Project(tmp_path / "clone")
    clone.root.mkdir()
    for folder in ("data", "results"):
        shutil.copytree(finished.root / folder, clone.root / folder)
    after = explained(clone, asked)
    assert after.pop("in_current_plan") is None and before.pop("in_current_plan") is True
    assert after == before and after["made"]["seconds"] > 0
    assert not clone.store.root.exists(), "explaining changes nothing"
    shutil.rmtree(clone.root / "results")
    outcome = clone.kaizen("explain", asked)
    assert outcome.code == 2 and "dvc pull" in outcome.output


def test_what_was_set_aside_or_lost_is_reported(project: Project) -> None:
    asked = f"{KAIZEN}/step-01"
    key = explained(project, asked)["key"]
    shutil.rmtree(project.store.root)
    for folder in ("data/shards", "data/replay"):
        shutil.rmtree(project.root / folder)
    (project.root / "results/provenance.json").unlink()
    found = explained(project, asked)
    assert found["made"] is None and found["origin"] is None and found["wall_time"]["unknown"] == 4
    assert found["again"]["commands"] == [] and found["code"]["same_now"] is None
    (data,) = found["data"]
    assert data["source"] is None and data["shards"] is None and len(data["checksums"]) == 2
    printed = project.kaizen("explain", asked, "--tree").output
    assert "data         2 task shards which are gone; known by" in printed
    assert "not here (`dvc pull`?)" in printed and "without results/provenance.json" in printed
    assert project.kaizen("explain", asked, "--write-plan", "again.json").code == 2
    record = project.root / asked / "node.json"
    content = read_json(record)
    content["params"]["seed"] = 7
    record.unlink()
    record.write_text(json.dumps(content))
    outcome = project.kaizen("explain", asked)
    assert (
        outcome.code == 2
        and f"step/{key}, whose record (node.json) is missing or was altered" in outcome.output
    )


def test_other_code_or_packages_are_reported(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaizen.provenance import present

    monkeypatch.setattr(present, "installed_version", lambda package: "0.1")
    outcome = project.kaizen("explain", f"{KAIZEN}/step-01")
    assert "THE PRESENT CODE IS ANOTHER" in outcome.output and "(now 0.1)" in outcome.output
    path = project.root / "results/provenance.json"
    content = read_json(path)
    key = explained(project, f"{KAIZEN}/step-01")["key"]
    content["nodes"][key]["local"]["code"]["modules"] = ["kaizen.no_such_module"]
    path.write_text(json.dumps(content))
    shutil.rmtree(project.store.root)
    assert explained(project, f"{KAIZEN}/step-01")["code"]["same_now"] is False


def test_explaining_does_without_torch(finished: Project) -> None:
    code = (
        "import sys\nfrom kaizen.cli import main\n"
        f"code = main(['explain', '{KAIZEN}/step-01'])\n"
        "print('LOADED', code, *[name for name in ('torch', 'snakemake', 'dvc', 'vl_convert') if "
        "name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=finished.root,
        env=os.environ | {"KAIZEN_STORE": str(finished.store.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.rpartition("LOADED")[2].split() == ["0"]
    assert "\x1b" not in done.stdout, "plain where it is no terminal"
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7805, "2 h 10 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
