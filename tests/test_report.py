"""The report: tables, figures and the page hold the same numbers, and the same input gives the same
bytes.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
import pytest
import svg
from conftest import REPOSITORY
from made_up import CLASSES, TASKS, THREE, grid, histories, history, parse_csv
from PIL import Image
from rich.console import Console
from scipy import stats

from kaizen.errors import KaizenError
from kaizen.evaluation.metrics import METRICS, continual_accuracy
from kaizen.evaluation.results import READERS, Reference, RunResult
from kaizen.params import ReportParams
from kaizen.params.registry import ANALYTIC_HEADS
from kaizen.plan.point import Point
from kaizen.report.series import group
from kaizen.report.summary import write_summary
from kaizen.report.tables import cell, heads_markdown, markdown
from kaizen.report.terminal import print_table

ALL_FIGURES = [
    "accuracy_bars",
    "per_task_heatmap",
    "accuracy_over_steps",
    "heads",
    "replay_size",
    "differences",
    "confusion_matrix",
    "loss_terms",
]
# Per epoch, the mean of each loss term.
Epochs = Sequence[Mapping[str, float]]
ALL_TABLES = ["results", "accuracy", "differences", "per_class"]


class Summary(NamedTuple):
    """A summary in the folder ``out``, what it was made from, and the content of
    metrics_full.json.
    """

    out: Path
    runs: list[RunResult]
    references: list[Reference]
    metrics: dict[str, Any]


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """Two methods, three variants, two replay sizes, three seeds."""
    out = tmp_path_factory.mktemp("summary")
    runs, references = grid(("simclr", "byol"), THREE, (0, 1, 2), (0.05, 0.1))
    report = ReportParams(title="A $mall | *test*\n <b>_1_</b>", formats=["png", "svg", "pdf"])
    context = {"dataset": "digits", "commit": None, "train": {"epochs": 3}, "classes": [4, 2]}
    return Summary(
        out,
        runs,
        references,
        write_summary(
            runs, references, report, context, out, histories=histories(runs), classes=CLASSES
        ),
    )


def test_metrics_json_holds_the_classifiers_means(summary: Summary) -> None:
    out, runs, _, metrics = summary
    headline = json.loads((out / "metrics.json").read_text())
    assert set(headline["byol"]) == {
        "kaizen_replay_5%",
        "kaizen_replay_10%",
        "cassle",
        "no_distill",
    }
    of_seeds = [
        r
        for r in runs
        if (r.point.method, r.point.variant, r.point.replay_size) == ("byol", "kaizen", 0.05)
    ]
    values = [continual_accuracy(r.matrices["classifier"]) or 0.0 for r in of_seeds]
    found = headline["byol"]["kaizen_replay_5%"]
    assert set(found) == {"CA", "FA", "F", "FT", *ANALYTIC_HEADS}
    of_lda = [continual_accuracy(r.matrices["lda"]) or 0.0 for r in of_seeds]
    assert found["lda"]["CA"] == pytest.approx(np.mean(of_lda))
    assert found["CA"] == pytest.approx(np.mean(values))
    estimate = metrics["byol"]["kaizen_replay_5%"]["classifier"]["continual_accuracy"]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert estimate == pytest.approx(
        {"mean": np.mean(values), "interval": (high - low) / 2, "n": 3}, rel=1e-5
    )
    assert json.loads((out / "metrics_full.json").read_text()) == metrics


@pytest.mark.parametrize("name", ALL_TABLES)
def test_parquet_and_csv_hold_the_same(summary: Summary, name: str) -> None:
    out = summary.out
    table = pyarrow.parquet.read_table(out / f"{name}.parquet")
    assert table.to_pylist() == parse_csv(out / f"{name}.csv")
    for column, kind in {
        "replay_size": "double",
        "replay_size_a": "double",
        "seed": "int32",
        "n": "int32",
    }.items():
        assert column not in table.column_names or table.schema.field(column).type == kind


def test_tidy_tables_are_complete(summary: Summary) -> None:
    out, runs, _, _ = summary
    results = pyarrow.parquet.read_table(out / "results.parquet").to_pylist()
    assert len(results) == len(runs) * len(READERS) * len(METRICS)
    accuracy = parse_csv(out / "accuracy.csv")
    assert len(accuracy) == len(runs) * len(READERS) * TASKS**2
    identity = ("method", "variant", "replay_size", "seed", "reader", "step", "task")
    by_identity = {tuple(row[name] for name in identity): row["accuracy"] for row in accuracy}
    for run in runs:
        for reader, values in run.matrices.items():
            for step in range(TASKS):
                for task in range(TASKS):
                    key = (
                        run.point.method,
                        run.point.variant,
                        run.point.replay_size,
                        run.point.seed,
                        reader,
                        step,
                        task,
                    )
                    assert by_identity[key] == values[step][task]
    assert all(row["replay_unit"] is None for row in accuracy if row["variant"] == "cassle")


def markdown_rows(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]


def test_markdown_table_reads_back(summary: Summary) -> None:
    out, _, _, metrics = summary
    heads, first = (out / "table.md").read_text().split("### ")[1:3]
    assert heads.startswith("Heads side by side")
    assert first.startswith("Trained classifier")
    side_by_side = markdown_rows(heads)
    columns = {f"{m}, {head}" for m in ("CA", "FA") for head in ("trained", *ANALYTIC_HEADS)}
    assert set(side_by_side[0]) == {"Method", "Variant", *columns}
    fa = metrics["simclr"]["no_distill"]["lda"]["final_accuracy"]["mean"]
    shown = side_by_side[3]["FA, lda"].strip("*").split(" ± ")[0]
    assert float(shown) == pytest.approx(100 * fa, abs=0.0501)
    rows = markdown_rows(first)
    assert [(row["Method"], row["Variant"]) for row in rows][:4] == [
        ("SimCLR", "Kaizen, 5 % replay"),
        ("SimCLR", "Kaizen, 10 % replay"),
        ("SimCLR", "CaSSLe"),
        ("SimCLR", "No distillation"),
    ]
    assert len(rows) == 8
    value = metrics["simclr"]["no_distill"]["classifier"]["forgetting"]
    mean, interval = (float(part) for part in rows[3]["F"].split(" ± "))
    assert (mean, interval) == pytest.approx(
        (100 * value["mean"], 100 * value["interval"]), abs=0.0501
    )


def test_bold_is_what_is_recorded_as_best(summary: Summary) -> None:
    metrics = json.loads((summary.out / "metrics_full.json").read_text())
    assert "**" not in markdown(metrics, "classifier")  # two sizes of replay are as good
    entry = metrics["simclr"]["kaizen_replay_10%"]
    entry["best"]["classifier"] = ["final_accuracy"]
    entry["best_head"] = {"continual_accuracy": "ridge"}
    rows = markdown_rows(markdown(metrics, "classifier"))
    bold = [(i, name) for i, row in enumerate(rows) for name in row if row[name][:2] == "**"]
    assert bold == [(1, "FA")]
    rows = markdown_rows(heads_markdown(metrics))
    bold = [(i, name) for i, row in enumerate(rows) for name in row if row[name][:2] == "**"]
    assert bold == [(1, "CA, ridge")]
    del entry["best"], entry["best_head"]  # a summary from before
    assert "**" not in markdown(metrics, "classifier") + heads_markdown(metrics)


def test_report_shows_table_context_and_figures(summary: Summary) -> None:
    out = summary.out
    page = (out / "report.md").read_text()
    assert page.startswith("# A $mall | \\*test\\* \\<b\\>\\_1\\_\\</b\\>\n")
    assert "- dataset: digits\n- commit: –\n- train.epochs: 3\n- classes: 4, 2\n" in page
    assert (out / "table.md").read_text() in page
    assert "over 3 seeds" in page
    links = re.findall(r"\]\(([^)]+)\)", page)
    expected = {
        f"figures/{name}.{end}" for name in ALL_FIGURES for end in ("png", "svg", "pdf", "csv")
    }
    assert expected | {f"{name}.{end}" for name in ALL_TABLES for end in ("parquet", "csv")} == set(
        links
    )
    assert all((out / link).is_file() for link in links)


def test_figures_say_how_many_seeds_they_show(summary: Summary) -> None:
    said = {
        name: svg.read((summary.out / f"figures/{name}.svg").read_text()).texts()
        for name in ("accuracy_bars", "loss_terms")
    }
    assert any("3 seeds" in text for text in said["accuracy_bars"])
    assert any("one seed of each variant" in text for text in said["loss_terms"])
    assert not any("3 seeds" in text for text in said["loss_terms"])


@pytest.mark.parametrize("name", ALL_FIGURES)
def test_figures_show_something_and_are_not_clipped(summary: Summary, name: str) -> None:
    out = summary.out
    pixels = np.asarray(Image.open(out / "figures" / f"{name}.png").convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert height > 300 and width in (989, 990, 2069, 2070)
    ink = np.asarray((pixels < 250).any(axis=2))
    assert 0.02 < ink.mean() < 0.9
    for edge in (
        ink[0],
        ink[-1],
        ink[:, 0],
        ink[:, -1],
    ):  # text that ran over the edge would leave ink there
        assert not edge.any()
    assert (out / "figures" / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    assert (out / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_points_are_where_the_accuracy_is(tmp_path: Path) -> None:
    """The places of three marks in the SVG, one of them at 100 %."""
    runs = [
        RunResult(Point("simclr", name, None, "proportion", 0), {"classifier": [[value]]})
        for name, value in (("kaizen", 1.0), ("cassle", 0.4), ("no_distill", 0.2))
    ]
    write_summary(runs, [], ReportParams(formats=["svg"]), {}, tmp_path)
    drawn = svg.read((tmp_path / "figures/accuracy_bars.svg").read_text(encoding="utf-8"))
    places = [mark.x for mark in drawn.of("mark-symbol role-mark")]
    assert len(places) == 2 * 3, "CA and FA"
    for start in (0, 3):
        full, half, least = places[start : start + 3]
        assert (half - least) / (full - least) == pytest.approx((0.4 - 0.2) / (1 - 0.2))


def test_figure_data(summary: Summary) -> None:
    out, runs, _, metrics = summary
    with open(out / "figures/per_task_heatmap.csv", newline="") as file:
        cells = [
            row
            for row in csv.DictReader(file)
            if (row["method"], row["variant"]) == ("byol", "cassle")
        ]
    assert [(int(row["step"]), int(row["task"])) for row in cells] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
        (2, 2),
    ]
    of_seeds = [
        np.array(run.matrices["classifier"], dtype=np.float64)
        for run in runs
        if (run.point.method, run.point.variant) == ("byol", "cassle")
    ]
    assert float(cells[3]["accuracy"]) == pytest.approx(np.mean(of_seeds, axis=0)[2][0])
    with open(out / "figures/accuracy_over_steps.csv", newline="") as file:
        last = [
            row
            for row in csv.DictReader(file)
            if row["variant"] == "no_distill" and row["step"] == "2"
        ]
    final = metrics["simclr"]["no_distill"]["classifier"]["final_accuracy"]
    assert (float(last[0]["mean"]), float(last[0]["interval"])) == pytest.approx(
        (final["mean"], final["interval"])
    )
    with open(out / "figures/replay_size.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["replay_size"] for row in rows} == {"0.05", "0.1"} and {
        row["variant"] for row in rows
    } == {"kaizen"}


def test_same_input_same_bytes(tmp_path: Path) -> None:
    runs, references = grid(variants=THREE, seeds=(0, 1), sizes=(0.05, 0.1))
    report = ReportParams(formats=["png", "svg", "pdf"])
    contents = []
    for name, order in (("a", 1), ("b", -1)):
        # seeds in another order are the same grid
        ordered = sorted(
            runs,
            key=lambda run: (
                run.point.method,
                run.point.variant,
                run.point.replay_size or 0,
                order * run.point.seed,
            ),
        )
        out = tmp_path / name
        write_summary(
            ordered,
            references[::order],
            report,
            {"tasks": TASKS},
            out,
            histories=histories(ordered),
            classes=CLASSES,
        )
        files = [path for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        contents.append(
            {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}
        )
    assert len(contents[0]) == 4 + 2 * len(ALL_TABLES) + 4 * len(ALL_FIGURES)
    assert [name for name in contents[0] if contents[0][name] != contents[1].get(name)] == []


def test_one_seed_one_variant_one_task(tmp_path: Path) -> None:
    runs = [RunResult(Point("simclr", "mine", None, "proportion", 7), {"classifier": [[0.5]]})]
    metrics = write_summary(runs, [], ReportParams(formats=["png"]), {}, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "simclr": {"mine": {"CA": 0.5, "FA": 0.5}}
    }
    assert metrics["simclr"]["mine"]["classifier"]["forgetting"] == {
        "mean": None,
        "interval": None,
        "n": 0,
    }
    assert not (tmp_path / "figures/replay_size.png").exists()
    assert not (tmp_path / "figures/loss_terms.png").exists()
    assert not (tmp_path / "figures/confusion_matrix.png").exists()
    assert not list(tmp_path.glob("differences.*")) and not list(tmp_path.glob("per_class.*"))
    assert "## Differences" not in (tmp_path / "report.md").read_text()
    assert markdown_rows((tmp_path / "table.md").read_text()) == [
        {"Method": "SimCLR", "Variant": "mine", "CA": "50.0", "FA": "50.0"}
    ]
    assert "one seed" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("width", [40, 60])
def test_variants_are_told_apart_on_a_narrow_terminal(summary: Summary, width: int) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=width, _environ={})
    print_table(json.loads((summary.out / "metrics_full.json").read_text()), [], console)
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= max(width, 78)
    assert "…" not in text
    letters = re.sub(r"[^A-Za-z]", "", text)
    assert "CaSSLe" in letters and "replay" in letters and "FT" in letters


def test_terminal_table(summary: Summary) -> None:
    out, _, _, metrics = summary
    shown = io.StringIO()
    console = Console(
        file=shown, width=110, force_terminal=True, color_system="truecolor", _environ={}
    )
    path = out / "figures" / ("a_[long]_" + "x" * 120 + ".png")
    # read back from JSON, whose keys are sorted: the grid's order must survive
    read = json.loads((out / "metrics_full.json").read_text())
    read["simclr"]["kaizen_replay_10%"]["best"]["classifier"] = ["final_accuracy"]
    print_table(read, [path], console)
    styled = shown.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", styled)
    rows = [
        line
        for line in plain.splitlines()
        if ("±" in line and "Kaizen" in line) or "CaSSLe" in line
    ]
    assert [line.split("  ")[0].strip() for line in rows] == ["SimCLR", "", "", "BYOL", "", ""]
    assert "Kaizen, 5 % replay" in rows[0] and "Kaizen, 10 % replay" in rows[1]
    numbers = [cell(metrics["simclr"]["cassle"]["classifier"][metric]) for metric in METRICS[:4]]
    assert re.split(r"\s{2,}", rows[2].strip()) == ["CaSSLe", *numbers]
    assert str(path) in plain
    best = cell(metrics["simclr"]["kaizen_replay_10%"]["classifier"]["final_accuracy"])
    assert re.search(r"\x1b\[1;32m\s*" + re.escape(best), styled)
    assert styled.count("\x1b[1;32m") == 1


def test_cells_are_in_percent_with_a_true_minus() -> None:
    assert cell({"mean": -0.1234, "interval": 0.0567}) == "−12.3 ± 5.7"
    assert cell({"mean": -0.0001, "interval": None}) == "0.0"
    assert cell({"mean": None, "interval": None}) == "–"


def test_labels_keys_and_colours() -> None:
    runs, _ = grid(variants=(*THREE, ("mine", 0.5)), sizes=(0.1,))
    single = {one.variant: one for one in group(runs, [])}
    assert [one.label for one in single.values()] == ["Kaizen", "CaSSLe", "No distillation", "mine"]
    assert (
        single["kaizen"].key == "kaizen"
    )  # one size: no suffix, so that a change of size compares
    assert len({one.colour for one in single.values()}) == 4
    runs, _ = grid(methods=("byol", "simclr"), sizes=(500, 100), unit="memory")
    several = group(runs, [])
    assert [one.key for one in several] == [
        "kaizen_replay_100images",
        "kaizen_replay_500images",
    ] * 2
    assert several[0].label == "Kaizen, 100 replay images"
    runs, _ = grid(methods=("simclr",), sizes=(5, 20), unit="per_class")
    each = group(runs, [])
    assert [one.key for one in each] == [
        "kaizen_replay_5imagesperclass",
        "kaizen_replay_20imagesperclass",
    ]
    assert each[1].label == "Kaizen, 20 replay images per class"
    assert several[1].colour == single["kaizen"].colour == several[3].colour != several[0].colour


def test_a_grid_with_holes_is_drawn(tmp_path: Path) -> None:
    runs, references = grid(("simclr", "byol"), THREE, sizes=(0.05, 0.1))
    kept = [
        replace(run, matrices={r: rows for r, rows in run.matrices.items() if r != "knn"})
        for run in runs
        if (run.point.method, run.point.variant) != ("byol", "cassle")
    ]
    report = ReportParams(formats=["png"])
    metrics = write_summary(
        kept, references, report, {}, tmp_path, histories=histories(kept), classes=CLASSES
    )
    assert "cassle" not in metrics["byol"] and "cassle" in metrics["simclr"]
    assert "knn" not in metrics["simclr"]["cassle"]
    assert all((tmp_path / "figures" / f"{name}.png").is_file() for name in ALL_FIGURES)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    runs, references = grid(seeds=(0, 1))
    cases = [
        ([], references, "has no runs"),
        ([*runs, runs[0]], references, "1 runs of the summary appear twice"),
        (runs, [*references, references[0]], "1 references of the summary appear twice"),
        (
            [
                runs[0],
                RunResult(
                    Point("simclr", "cassle", None, "proportion", 1), {"classifier": [[0.5]]}
                ),
            ],
            [],
            "has 1 tasks",
        ),
        (
            [RunResult(Point("simclr", "cassle", None, "proportion", 1), {"knn": [[0.5]]})],
            [],
            "the readers knn",
        ),
    ]
    for bad_runs, bad_references, message in cases:
        with pytest.raises(KaizenError, match=message):
            write_summary(bad_runs, bad_references, ReportParams(), {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file stands here")
    runs, references = grid()
    with pytest.raises(KaizenError, match=re.escape(str(tmp_path / "out"))):
        write_summary(runs, references, ReportParams(), {}, tmp_path / "out")


def test_intervals_need_two_seeds() -> None:
    runs, references = grid(seeds=(0, 1))
    one, two = group(runs[:1], references)[0], group(runs, references)[0]
    assert one.estimate("classifier", "final_accuracy").interval is None
    values = [np.mean(np.array(run.matrices["classifier"][-1], float)) for run in runs]
    expected = (
        12.7062 * abs(values[0] - values[1]) / 2
    )  # sd / sqrt(2) of two values is half their distance
    found = two.estimate("classifier", "final_accuracy").interval
    assert found is not None and math.isclose(found, expected, rel_tol=1e-4)


def test_loss_terms_data(summary: Summary) -> None:
    out, runs, _, _ = summary
    with open(out / "figures/loss_terms.csv", newline="") as file:
        found = {
            (
                row["method"],
                row["variant"],
                row["replay_size"],
                int(row["step"]),
                int(row["epoch"]),
                row["term"],
            ): row
            for row in csv.DictReader(file)
        }
    expected = {
        (
            run.point.method,
            run.point.variant,
            str(run.point.replay_size or ""),
            step,
            epoch,
            term,
        ): value
        for run in runs
        if run.point.seed == 0
        for step, epochs in enumerate(history(run).steps)
        for epoch, terms in enumerate(epochs)
        for term, value in terms.items()
        if value != 0
    }
    assert {key: float(row["value"]) for key, row in found.items()} == expected
    assert {row["seed"] for row in found.values()} == {"0"}
    assert {row["replay_unit"] for key, row in found.items() if key[1] == "kaizen"} == {
        "proportion"
    }


def test_the_report_does_without_torch() -> None:
    code = (
        "import sys, kaizen.report.node; print('torch' in sys.modules, 'vl_convert' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
