"""Reference rows: linear discriminant analysis against scikit-learn's, chance, and where tables,
figures and words have them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from project import Project, make_project
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from stream_project import append, make_stream

from kaizen.data.split import class_tasks
from kaizen.evaluation.metrics import continual_accuracy, final_accuracy
from kaizen.evaluation.results import LDA_ROWS
from kaizen.heads.lda import oas
from kaizen.inference.loading import load
from kaizen.report.reference_rows import beaten_sentences, chance

SHOWN = ("chance", "lda_pixels", "lda_random_network", "lda_step_0_simclr")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    changes = {"grid.variants": ["kaizen", "no_distill", "joint"], "grid.seeds": [0, 1]}
    project = make_project(tmp_path_factory.mktemp("rows") / "project", changes)
    output = project.kaizen("run").good()
    (project.root / "output").write_text(output)
    return project


def reference(project: Project, seed: int = 0) -> dict[str, Any]:
    """What the reference node of a seed wrote."""
    (path,) = project.root.glob(f"results/evaluations/simclr-specialist-seed{seed}/accuracy.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def images(project: Project, part: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels float64 [N, 3, 8, 8] as a network sees them, and the names' classes [N]."""
    paths = [p for name in names for p in sorted((project.images / part / name).iterdir())]
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
    return (pixels / 255 - 0.5) / 0.25, np.array([path.parent.name for path in paths])


def expected(project: Project, features: Any) -> list[list[float]]:
    """The matrix by scikit-learn: uniform priors, the same shrinkage."""
    stream = class_tasks(4, 2, 5)
    names = [[["ant", "bee", "cat", "dog"][label] for label in task] for task in stream]
    matrix = []
    for step in range(2):
        seen = [name for task in names[: step + 1] for name in task]
        pixels, labels = images(project, "train", seen)
        x = features(pixels)
        rest = np.concatenate([x[labels == name] - x[labels == name].mean(0) for name in seen])
        covariance = rest.T @ rest / (len(x) - len(seen))
        shrinkage = oas(torch.tensor(covariance), len(x) - len(seen))
        uniform = np.full(len(seen), 1 / len(seen))
        lda = LinearDiscriminantAnalysis("lsqr", shrinkage=shrinkage, priors=uniform)
        lda.fit(x, labels)
        tests = (images(project, "test", task) for task in names)
        matrix.append([float(np.mean(lda.predict(features(p)) == found)) for p, found in tests])
    return matrix


def test_discriminant_analysis_of_the_pixels_is_scikit_learns(project: Project) -> None:
    found = reference(project)["lda"]
    assert tuple(sorted(found)) == LDA_ROWS
    assert found["lda_pixels"] == expected(project, lambda pixels: pixels.reshape(len(pixels), -1))
    assert found["lda_pixels"] == reference(project, seed=1)["lda"]["lda_pixels"]


def test_discriminant_analysis_of_step_0_is_that_of_its_encoder_alone(project: Project) -> None:
    (folder,) = project.root.glob("results/models/simclr-no_distill-seed0/step-00")
    model = load(folder)

    def features(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = model.encoder(torch.from_numpy(pixels).float()).double().numpy()
        return found

    assert reference(project)["lda"]["lda_step_0"] == expected(project, features)


def test_chance_guesses_among_the_classes_seen() -> None:
    assert chance([[3, 1], [0], [2, 4, 5]]) == [
        [1 / 2, 0, 0],
        [1 / 3, 1 / 3, 0],
        [1 / 6, 1 / 6, 1 / 6],
    ]
    # A class that comes back has been seen; of a task without a class nothing is known.
    assert chance([[0, 1], [1, 2], []]) == [
        [1 / 2, 1 / 4, None],
        [1 / 3, 1 / 3, None],
        [1 / 3, 1 / 3, None],
    ]


def test_tables_have_the_rows_and_no_row_is_the_best(project: Project) -> None:
    full = json.loads((project.root / "results/summary/metrics_full.json").read_text())
    assert tuple(sorted(full["reference"])) == SHOWN
    matrix = reference(project)["lda"]["lda_pixels"]
    for reader in ("classifier", "linear_probe", "knn"):
        row = full["reference"]["lda_pixels"][reader]
        assert row["continual_accuracy"] == {
            "mean": continual_accuracy(matrix), "interval": None, "n": 1
        }  # fmt: skip
        assert row["final_accuracy"]["mean"] == final_accuracy(matrix)
    assert full["reference"]["lda_step_0_simclr"]["classifier"]["final_accuracy"]["n"] == 2
    report = (project.root / "results/summary/report.md").read_text()
    lines = [line for line in report.splitlines() if line.startswith("| Reference | ")]
    assert len(lines) == len(SHOWN) * 4 and not any("**" in line for line in lines)
    results = pq.read_table(project.root / "results/summary/results.parquet").to_pylist()
    assert {row["variant"] for row in results if row["method"] == "reference"} == set(SHOWN)
    assert "reference" not in json.loads((project.root / "results/metrics.json").read_text())


def test_figures_have_the_rows_with_their_data(project: Project) -> None:
    for name in ("accuracy_bars", "accuracy_over_steps"):
        text = (project.root / f"results/summary/figures/{name}.csv").read_text()
        rows = list(csv.DictReader(text.splitlines()))
        assert {row["variant"] for row in rows if row["method"] == "reference"} == set(SHOWN)


def metrics(**final: float) -> dict[str, Any]:
    """Made-up metrics: a series or reference row of each name with this FA and a CA of half."""
    blocks: dict[str, Any] = {"simclr": {}, "reference": {}}
    for position, (name, value) in enumerate(final.items()):
        block = blocks["reference" if name.startswith("lda") else "simclr"]
        block[name] = {
            "label": name,
            "position": position,
            "classifier": {
                "final_accuracy": {"mean": value},
                "continual_accuracy": {"mean": value / 2},
            },
        }
    return blocks


def test_where_a_row_beats_a_series_it_is_said() -> None:
    assert beaten_sentences(metrics(one=0.5, two=0.7, lda_low=0.5, lda_mid=0.6)) == [
        "lda_mid beats trained classifiers: in CA (30.0 %) that of SimCLR one; "
        "in FA (60.0 %) that of SimCLR one."
    ]
    assert beaten_sentences(metrics(one=0.5, two=0.7, lda=0.8)) == [
        "lda beats trained classifiers: in CA (40.0 %) that of every row; "
        "in FA (80.0 %) that of every row."
    ]
    (many,) = beaten_sentences(metrics(a=0.1, b=0.1, c=0.1, d=0.1, e=0.1, f=0.9, lda=0.5))
    assert "SimCLR a, SimCLR b, SimCLR c, SimCLR d and 1 more;" in many
    assert beaten_sentences({"simclr": metrics(one=0.5)["simclr"]}) == []


def test_report_and_terminal_say_the_same(project: Project) -> None:
    full = json.loads((project.root / "results/summary/metrics_full.json").read_text())
    sentences = beaten_sentences(full)
    assert sentences, "noise is learnt by nothing, and chance is in the middle of the rows"
    report = (project.root / "results/summary/report.md").read_text()
    shown = " ".join(project.kaizen("show").good().split())
    for sentence in sentences:
        assert f"- **{sentence}**" in report
        assert f"Note: {sentence}" in shown


def test_a_number_of_a_reference_row_is_explained(project: Project) -> None:
    place = "results/summary/metrics_full.json:reference.lda_pixels.classifier.final_accuracy.mean"
    assert "reference.lda_pixels" in project.kaizen("explain", place).good()


def test_only_labelled_rows_are_learnt_from(tmp_path: Path) -> None:
    half = {"labels.fraction": 0.5, "grid.variants": ["no_distill"], "train.batch_size": 4}
    share = {"train.data_fraction": 0.5, "grid.variants": ["no_distill"], "train.batch_size": 4}
    found = []
    for name, changes in (("labels", half), ("rows", share)):
        project = make_project(tmp_path / name, changes)
        project.kaizen("run").good()
        found.append(reference(project)["lda"]["lda_pixels"])
        assert found[-1] != expected(project, lambda pixels: pixels.reshape(len(pixels), -1))
    assert found[0] != found[1]


def test_a_growing_stream_has_none(tmp_path: Path) -> None:
    changes = {"grid.variants": ["no_distill"], "grid.specialists": True}
    project = make_stream(tmp_path / "project", changes, ({"cat": 6, "dog": 6}, {"eel": 6}))
    for number in range(2):
        append(project, number)
    project.kaizen("run").good()
    assert "lda" not in reference(project)
    assert "Reference |" not in (project.root / "results/summary/report.md").read_text()
