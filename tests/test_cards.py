"""Model and data cards: complete, true, and with code that really loads the model."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import make_plan
from PIL import Image
from project import Project, make_project

import kaizen
from kaizen.data.found import Found
from kaizen.evaluation.metrics import continual_accuracy, final_accuracy, forgetting
from kaizen.files import canonical_json, read_json, sha256_file
from kaizen.models.trained import untrained_model
from kaizen.params import DatasetParams
from kaizen.plan.data_specs import DataFacts, DatasetSpec, LabelsSpec
from kaizen.plan.job import read_job
from kaizen.plan.specs import step_spec
from kaizen.report.data_card import data_card
from kaizen.report.markdown import nested_lines, plain, table
from kaizen.report.node import run_summary
from kaizen.report.tables import percent
from kaizen.store.records import read_record

RUN = "simclr-kaizen-replay25pct-seed0"
JOINT = "simclr-joint-seed0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two variants, one of them joint training, of which some labels are known, and specialists."""
    changes = {
        "grid.variants": ["kaizen", "joint"],
        "labels.fraction": 0.5,
        "grid.specialists": True,
    }
    project = make_project(tmp_path_factory.mktemp("cards") / "project", changes)
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    return project


def tables(card: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, their heads first."""
    found = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    rows = [[line.strip("| ").split(" | ") for line in text.splitlines()] for text in found]
    return [[row for number, row in enumerate(one) if number != 1] for one in rows]


def test_cards_are_files_of_the_summary_beside_what_they_describe(project: Project) -> None:
    cards = project.root / "results/summary/cards"
    assert sorted(path.name for path in cards.iterdir()) == ["data.md", f"{JOINT}.md", f"{RUN}.md"]
    manifest = read_json(project.root / "results/manifest.json")["files"]
    for name, place in (
        ("data", "data/shards"),
        (RUN, f"results/models/{RUN}"),
        (JOINT, f"results/models/{JOINT}"),
    ):
        copy = project.root / place / "README.md"
        assert copy.read_bytes() == (cards / f"{name}.md").read_bytes()
        assert manifest[f"{place}/README.md"]["file"] == f"cards/{name}.md"


def test_a_summary_made_again_has_the_same_cards(project: Project, tmp_path: Path) -> None:
    nodes = json.loads(project.kaizen("plan", "--json").output)["nodes"]
    # As a job reads it: sorted, wherever it comes from.
    job = read_job(json.loads(canonical_json(nodes[-1])), "the plan")
    run_summary(job, project.store, tmp_path / "again")
    for path in (tmp_path / "again/cards").iterdir():
        assert (
            path.read_bytes() == (project.root / "results/summary/cards" / path.name).read_bytes()
        )


def test_the_model_card_has_the_runs_own_results_and_lineage(project: Project) -> None:
    card = (project.root / f"results/models/{RUN}/README.md").read_text()
    data, metrics, *matrices, lineage = tables(card)
    assert data[1:] == [
        ["0", "dog, bee", "24", "12", "100 %", "no"],
        ["1", "ant, cat", "24", "12", "100 %", "yes"],
    ]
    accuracy = read_json(project.root / f"results/evaluations/{RUN}/accuracy.json")["matrices"]
    for (_, *values), reader in zip(
        metrics[1:], ("classifier", "linear_probe", "linear_probe_seen", "knn"), strict=True
    ):
        of_reader = accuracy[reader]
        expected = [continual_accuracy(of_reader), final_accuracy(of_reader), forgetting(of_reader)]
        assert values[:3] == [percent(value or 0.0) for value in expected]
        shown = matrices.pop(0)
        assert [row[1:] for row in shown[1:]] == [
            [percent(value) for value in row] for row in of_reader
        ]
    assert metrics[1][4] != "–", "there are specialists to compare with"
    assert len(lineage) == 3
    for number, (place, key, prior, digest) in enumerate(lineage[1:]):
        folder = project.root / place.strip("`")
        assert key.strip("`") == read_json(folder / "node.json")["key"]
        assert prior.strip("`") == ("–" if number == 0 else lineage[number][1].strip("`"))
        assert digest.strip("`") == sha256_file(folder / "model.safetensors")
    for words in (
        "Intended use and limits",
        "Licence",
        "arXiv:2303.17235",
        "torch 2.",
        "25 % of the earlier tasks",
    ):
        assert words in card
    step = read_json(project.root / f"results/models/{RUN}/step-01/node.json")["params"]
    assert yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0]) == step


def test_the_number_of_parameters_is_the_models(project: Project) -> None:
    card = (project.root / f"results/models/{RUN}/README.md").read_text()
    model = kaizen.load(project.root / f"results/models/{RUN}")
    for name, module in (("Backbone", model.encoder), ("Classifier", model.classifier)):
        expected = sum(parameter.numel() for parameter in module.parameters())
        (line,) = (line for line in card.splitlines() if line.startswith(f"- **{name}**"))
        assert f"{expected:,} parameters" in line


def test_joint_training_has_a_card_of_one_step(project: Project) -> None:
    card = (project.root / f"results/models/{JOINT}/README.md").read_text()
    data, metrics, *_, lineage = tables(card)
    assert (
        data[1:] == [["0", "dog, bee, ant, cat", "48", "24", "100 %", "no"]] and len(lineage) == 2
    )
    assert metrics[1][3] == "–", "it forgets nothing, as it has no stream"
    assert (
        "all at once (joint training, not continual learning)" in card
        and "**Replay**: none" in card
    )


@pytest.mark.parametrize("run", [RUN, JOINT])
def test_the_code_of_the_cards_loads_the_model_that_was_evaluated(
    project: Project, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both cards' lines, in a copy of the step's folder, on the test images."""
    card = (project.root / f"results/models/{run}/README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    step = max((project.root / f"results/models/{run}").glob("step-*"))
    folder = shutil.copytree(step, tmp_path / "anywhere")
    assert code in (folder / "README.md").read_text()
    monkeypatch.chdir(folder)
    accuracy = read_json(project.root / f"results/evaluations/{run}/accuracy.json")["matrices"][
        "classifier"
    ][-1]
    stream = read_json(project.root / "data/shards/tasks.json")
    for task, expected in enumerate(accuracy):
        paths = [
            path
            for name in stream["tasks"][task]["class_names"]
            for path in sorted((project.images / "test" / name).iterdir())
        ]
        names: dict[str, Any] = {"images": paths}
        exec(re.sub("^images =.*$", "", code, flags=re.MULTILINE), names)
        right = [name == path.parent.name for name, path in zip(names["names"], paths, strict=True)]
        assert np.mean(right) == pytest.approx(expected)
        assert names["features"].shape == (len(paths), 16)


def test_a_steps_card_begins_with_what_hugging_face_reads(project: Project) -> None:
    accuracy = read_json(project.root / f"results/evaluations/{RUN}/accuracy.json")["matrices"]
    for step, expected in enumerate([accuracy["classifier"][0][:1], accuracy["classifier"][1]]):
        card = (project.root / f"results/models/{RUN}/step-{step:02d}/README.md").read_text()
        start, head, text = card.split("---\n", 2)
        assert start == "" and text.startswith(f"\n# Model card: {RUN.replace('_', chr(92) + '_')}")
        found = yaml.safe_load(head)
        assert found["library_name"] == "kaizen-ssl"
        assert found["pipeline_tag"] == "image-classification" and "simclr" in found["tags"]
        (index,) = found["model-index"]
        (result,) = index["results"]
        assert index["name"] == f"{RUN}/step-{step:02d}"
        assert result["metrics"][0]["value"] == pytest.approx(np.mean(expected))
        key = read_json(project.root / f"results/models/{RUN}/step-{step:02d}/node.json")["key"]
        assert f"- **Key**: `{key}`" in text


def test_a_growing_classifier_knows_its_labels(project: Project) -> None:
    record = read_record(project.root / f"results/models/{RUN}/step-01/node.json")
    assert record is not None
    step = dataclasses.replace(step_spec(record), num_classes=2, logits=[3, 1])
    model = untrained_model(step)
    assert model.predicted(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist() == [1, 3]


# -- the data card -----------------------------------------------------------------------------


def test_the_data_card_counts_what_the_shards_hold(project: Project) -> None:
    card = (project.root / "data/shards/README.md").read_text()
    tasks, checksums = tables(card)
    assert [row[2:] for row in tasks[1:]] == [["24", "12", "0", "12", "0"]] * 2
    stream = read_json(project.root / "data/shards/tasks.json")
    assert [row[1].strip("`") for row in checksums[1:]] == [
        task[part]["content_sha256"] for task in stream["tasks"] for part in ("train", "test")
    ]
    for line in (
        "- **Source**: image\\_folder",
        "- **Classes**: 4: ant, bee, cat, dog",
        "- **Images**: 48 for training, 24 for testing",
        "- **Labels**: 24 of the 48 training images keep theirs; test images all do",
        "- **Image sizes**: height 8 pixels, width 8 pixels",
        "- **Replay**: first_n, 25 % of the earlier tasks",
    ):
        assert f"{line}\n" in card, line


def test_a_data_card_of_domains_corrupt_images_and_odd_names() -> None:
    def part(rows: int, skipped: int, heights: list[int]) -> dict[str, Any]:
        return {
            "rows": rows,
            "labelled": 0,
            "skipped": skipped,
            "content_sha256": "f",
            "height": heights,
            "width": [4, 4],
        }

    tasks = [
        {
            "task": 0,
            "domain": "a|b",
            "class_names": [],
            "train": part(2, 1, [3, 9]),
            "test": part(1, 0, [5, 5]),
        },
        {
            "task": 1,
            "domain": "<c>\n",
            "class_names": [],
            "held_out": {"fraction": 0.25, "seed": 3},
            "train": part(4, 0, [2, 2]),
            "test": part(1, 2, [7, 7]),
        },
    ]
    stream = {
        "dataset": "domain_folder",
        "split": "domain",
        "classes": ["*x*", "`y`"],
        "tasks": tasks,
    }
    spec = make_plan({"grid.variants": ["no_distill"]}).summary.spec
    data = DataFacts(DatasetSpec.of(DatasetParams("domain_folder")).content(), LabelsSpec(1.0))
    card = data_card(dataclasses.replace(spec, data=data), stream, Found())
    assert (
        "| 0 | a\\|b | 2 | 0 | 1 | 1 | 0 |" in card
        and "| 1 | \\<c\\>  | 4 | 0 | 0 | 1 | 2 |" in card
    )
    assert "2: \\*x\\*, \\`y\\`" in card and "2 tasks, each a domain of the source" in card
    assert "height 2 to 9 pixels, width 4 pixels" in card
    assert "1 for training, 2 for testing" in card and "**Replay**: none" in card
    assert "- **Held out for testing**: 25 % of every class, seed 3: task 1\n" in card


@pytest.mark.parametrize("encoding", ["raw", "file"])
def test_the_data_card_says_how_its_rows_are_read(
    tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own lines, run on a shard, give the pixels of the first image."""
    project = make_project(tmp_path / "project", {"dataset.encoding": encoding})
    assert project.kaizen("run").code == 0
    card = (project.root / "data/shards/README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(project.root)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["row"]["encoding"] == encoding
    with Image.open(project.images / found["row"]["path"]) as image:
        np.testing.assert_array_equal(found["pixels"], np.asarray(image))
    if encoding == "file":
        monkeypatch.setitem(sys.modules, "datasets", standing_for_datasets())
        rows: dict[str, Any] = {}
        exec(card.split("```python\n")[2].split("```")[0], rows)
        assert len(rows["rows"]) == 48
        for row in rows["rows"]:
            with Image.open(project.images / row["path"]) as image:
                assert row["image"].format == "PNG" and row["image"].tobytes() == image.tobytes()


def standing_for_datasets() -> ModuleType:
    """Hugging Face's `datasets`, which the tests do not install, as its documentation says: a
    binary column that is cast to `Image` must hold the bytes of image files.
    """

    class Rows(list[dict[str, Any]]):
        def cast_column(self, name: str, feature: object) -> Rows:
            assert isinstance(feature, datasets.Image)
            return Rows(row | {name: Image.open(io.BytesIO(row[name]))} for row in self)

    def load_dataset(kind: str, data_files: str, split: str) -> Rows:
        assert (kind, split) == ("parquet", "train")
        paths = sorted(Path().glob(data_files))
        return Rows(row for path in paths for row in pq.read_table(path).to_pylist())

    datasets: Any = ModuleType("datasets")
    datasets.load_dataset, datasets.Image = load_dataset, type("Image", (), {})
    return datasets  # type: ignore[no-any-return]


def test_markdown_holds_any_text() -> None:
    assert plain("a_b\x1b[0m\n#") == "a\\_b \\[0m \\#"
    assert table(["a", "b"], [["1", "|"]], "r") == "| a | b |\n| --- | ---: |\n| 1 | \\| |\n"
    values = {
        "a": {"b": [1, 2.5, None], "c": {"d": "x: y # z"}, "e": {}},
        "f": True,
        "g": 1e-5,
        "h": "\u00e9\n",
    }
    assert yaml.safe_load(nested_lines(values)) == values
    assert nested_lines({"b": {"d": 1, "c": []}, "a": 2}) == "a: 2\nb:\n  c: []\n  d: 1\n"
