"""`kaizen compare`: runs side by side, what differs of their parameters first."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from project import Project
from rich.console import Console

from kaizen.files import read_json
from kaizen.page.experiments import experiments_page
from kaizen.provenance.compare import in_order
from kaizen.provenance.show_comparison import print_comparison

KAIZEN, OTHER = "simclr-kaizen-replay25pct-seed0", "simclr-no_distill-seed0"


def compared(project: Project, *asked: str) -> dict[str, Any]:
    outcome = project.kaizen("compare", *asked, "--json")
    assert outcome.code == 0, outcome.output
    found: dict[str, Any] = json.loads(outcome.output)
    return found


def test_two_runs_differ_in_what_their_variants_are(two_seeds: Project) -> None:
    found = compared(two_seeds, KAIZEN, OTHER)
    assert [run["name"] for run in found["runs"]] == [KAIZEN, OTHER]
    assert {"classifier_distill.weight", "replay.size"} <= set(found["parameters"])
    assert "train.lr" not in found["parameters"] and "seed" not in found["parameters"]
    metrics = read_json(two_seeds.root / "results/summary/metrics_full.json")["simclr"]
    for run, key in zip(found["runs"], ("kaizen", "no_distill"), strict=True):
        assert run["key"] and run["published"] and 0 <= run["metrics"]["F"] <= 1
        mean = metrics[key]["classifier"]["continual_accuracy"]["mean"]
        # One seed of two: near to the mean by half of what the seeds differ by.
        both = [
            other["metrics"]["CA"]
            for other in compared(two_seeds)["runs"]
            if other["name"].startswith(run["name"].removesuffix("seed0"))
        ]
        assert sum(both) / 2 == pytest.approx(mean)


def test_seeds_of_a_run_differ_in_the_seed_alone(two_seeds: Project) -> None:
    found = compared(two_seeds, KAIZEN, KAIZEN.replace("seed0", "seed1"))
    assert found["parameters"]["seed"] == [0, 1] and "method" not in found["parameters"]
    assert compared(two_seeds, KAIZEN, KAIZEN)["parameters"] == {}


def test_without_names_all_are_listed_and_sorted(two_seeds: Project) -> None:
    runs = compared(two_seeds, "--sort", "CA")["runs"]
    values = [run["metrics"]["CA"] for run in runs]
    assert len(runs) == 4 and values == sorted(values, reverse=True)
    outcome = two_seeds.kaizen("compare")
    assert all(run["key"][:8] in outcome.output for run in runs)
    assert "replay.size" in outcome.output


def test_an_unknown_metric_comes_last() -> None:
    runs = [
        {"name": name, "key": name, "metrics": {"F": f}}
        for name, f in zip("abc", (None, 0.2, 0.1), strict=True)
    ]
    found = in_order({"runs": runs, "parameters": {"x": [1, 2, 3]}}, "F")
    assert [run["name"] for run in found["runs"]] == ["c", "b", "a"]
    assert found["parameters"] == {"x": [3, 2, 1]}


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 12])
def test_names_are_whole_on_a_console_of_any_width(count: int, width: int) -> None:
    names = [f"simclr-kaizen-replay25pct-seed{number}" for number in range(count)]
    runs = [
        {"name": name, "key": "0" * 32, "commit": "a" * 40, "made": "2026-11-26T18:00:00"}
        | {"metrics": {"CA": 0.5, "FA": None, "F": 0.1}}
        for name in names
    ]
    parameters = {
        "classifier_distill.weight": [0.5] * count,
        "split.classes": [[["ant", "bee", "cat"], ["dog", "eel", "fox"]]] * count,
    }
    out = io.StringIO()
    console = Console(file=out, width=width)
    print_comparison({"runs": runs, "parameters": parameters}, console)
    text = out.getvalue()
    assert all(text.count(f"{name} (00000000)") == 1 for name in names)
    assert width < 80 or "classifier_distill.weight" in text
    assert text.count("aaaaaaaaaa") == count
    assert all(len(line) <= width for line in text.splitlines())
    beside = 27 + 45 * count if count <= 5 else 43 + 66
    assert text.startswith("1  simclr") == (width < beside), "by numbers only where it must be"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("nonsense", "nonsense is not known"),
        (f"results/models/{KAIZEN}/step-01", "no run's evaluation"),
        ("results/summary", "no run's evaluation"),
    ],
)
def test_what_is_no_run_is_named(two_seeds: Project, asked: str, said: str) -> None:
    outcome = two_seeds.kaizen("compare", asked)
    assert outcome.code == 2 and said in outcome.output
    assert "Traceback" not in outcome.output


def test_a_page_of_runs_is_sorted_by_a_click(two_seeds: Project, tmp_path: Path) -> None:
    path = tmp_path / "runs.html"
    nowhere = two_seeds.kaizen("compare", "--html", str(tmp_path / "no" / "runs.html"))
    assert nowhere.code == 2 and not (tmp_path / "no").exists()
    assert f"--html: {tmp_path / 'no'} is not a folder; make it, or name" in nowhere.output
    assert two_seeds.kaizen("compare", "--html", str(path)).code == 0
    column = "[...document.querySelectorAll('thead th')].findIndex((th) => th.innerText === 'FA')"
    values = f"[...document.querySelectorAll('tbody tr')].map((tr) => tr.cells[{column}].dataset.v)"
    with Browser(tmp_path) as view:
        view.call("Page.navigate", url=path.as_uri())
        view.wait("document.querySelectorAll('tbody tr').length === 4")
        view.js(f"document.querySelectorAll('thead button')[{column}].click()")
        shown = [float(value) for value in view.js(values)]
        assert shown == sorted(shown) and view.errors == []
        view.js(f"document.querySelectorAll('thead button')[{column}].click()")
        assert [float(value) for value in view.js(values)] == sorted(shown, reverse=True)


@pytest.mark.parametrize(
    "command",
    [("compare", "--html"), ("explain", f"results/models/{KAIZEN}/step-01", "--write-plan")],
)
def test_a_file_of_the_user_is_not_replaced(
    two_seeds: Project, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "mine"
    assert two_seeds.kaizen(*command, str(path)).code == 0
    assert two_seeds.kaizen(*command, str(path)).code == 0  # its own it writes again
    path.write_text("dataset: {}\n")
    outcome = two_seeds.kaizen(*command, str(path))
    assert outcome.code == 2 and f"{command[-1]} {path}: there is a file already" in outcome.output
    assert path.read_text() == "dataset: {}\n"


def test_a_hostile_name_is_text() -> None:
    name = "</script><script>alert(1)</script>"
    run = {"name": name, "key": "0" * 32, "commit": None, "experiment": name, "made": None}
    page = experiments_page(
        {
            "runs": [run | {"metrics": {"CA": 0.5, "FA": None, "F": 0.1}}],
            "parameters": {name: [name]},
        }
    )
    assert "<script>alert" not in page and page.count("&lt;script&gt;alert") == 4
