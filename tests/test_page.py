"""`results/report.html`: what it holds, where its numbers come from, what it does in a browser."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from made_up import CLASSES, grid, histories, recorded
from project import REPOSITORY, Project

from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import RunResult
from kaizen.files import read_json, sha256_file
from kaizen.jobs.shown import FIGURES, shown_files
from kaizen.page.build import page
from kaizen.page.current import is_current
from kaizen.page.data import MOST_ROWS, rows_of_figures
from kaizen.page.markdown import to_html
from kaizen.page.results import gather
from kaizen.page.tables import write
from kaizen.report.classes import Classes
from kaizen.report.figures.expand import first_rows
from kaizen.report.figures.grid import words
from kaizen.report.figures.rows import ROWS
from kaizen.report.figures.summary import figures
from kaizen.report.series import METRIC_SHORT
from kaizen.report.summary import _CAPTIONS
from kaizen.report.tables import percent

PAGE = "results/report.html"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'text'"
_MADE: dict[str, Any] = {"nodes": {}, "texts": []}


def data_of(text: str) -> dict[str, Any]:
    """The data that a page holds for its script."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def made_up(variants: int = 2, seeds: int = 2, methods: int = 1, **more: Any) -> Any:
    names = ["kaizen", "cassle", *(f"other_{n}" for n in range(variants - 2))]
    runs, references = grid(
        [("simclr", "byol", "vicreg", "dino")[n] for n in range(methods)],
        [(name, 0.95 - 0.03 * n) for n, name in enumerate(names)],
        range(seeds),
    )
    return gather(
        more.pop("title", "a title"), {"dataset": "made up"}, runs, references,
        more.pop("classes", CLASSES),
    )  # fmt: skip


# -- what it holds -----------------------------------------------------------------------------


def test_a_run_ends_with_the_page_and_names_it_last(two_seeds: Project, tmp_path: Path) -> None:
    project = two_seeds.copy(tmp_path / "project")
    before = (project.root / PAGE).read_bytes()
    (project.root / PAGE).unlink()
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    last = outcome.output.strip().split("\n")[-1]
    assert last == f"Page     {PAGE} (`kaizen show --open`)"
    assert (project.root / PAGE).read_bytes() == before, "the same results give the same bytes"
    assert is_current(project.root)
    (project.root / PAGE).write_bytes(before[:200] + b"0" + before[200:])
    changed = project.root / "results/provenance.json"
    changed.write_text(changed.read_text() + "\n")
    assert not is_current(project.root)


def test_show_opens_it(two_seeds: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, asked = tmp_path / "browser", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {asked}\n')
    program.chmod(0o755)
    monkeypatch.setattr("webbrowser._tryorder", None)
    monkeypatch.setenv("BROWSER", f"{program} %s")
    assert two_seeds.kaizen("show", "--open").code == 0
    assert asked.read_text() == (two_seeds.root / PAGE).absolute().as_uri()
    other = two_seeds.copy(tmp_path / "other")
    (other.root / PAGE).unlink()
    outcome = other.kaizen("show", "--open")
    assert outcome.code == 2 and f"{PAGE} is not here" in outcome.output


def test_its_numbers_are_those_of_the_metrics(two_seeds: Project) -> None:
    data = data_of((two_seeds.root / PAGE).read_text(encoding="utf-8"))
    metrics = read_json(two_seeds.root / "results/metrics.json")
    full = read_json(two_seeds.root / "results/summary/metrics_full.json")
    table = data["rows"]["metrics"]
    found: dict[str, Any] = {}
    for values in table["rows"]:
        row = dict(zip(table["columns"], values, strict=True))
        one = data["series"][row["s"]]
        if row["e"] is None:
            reader, metric = data["reader_ids"][row["r"]], METRICS[row["x"]]
            there = full[one["m"]][one["k"]][reader][metric]
            assert [row["v"], row["i"], row["n"]] == [
                there["mean"], there["interval"], there["n"],
            ]  # fmt: skip
            if reader == "classifier":
                found.setdefault(one["m"], {}).setdefault(one["k"], {})[METRIC_SHORT[metric]] = row[
                    "v"
                ]
    for method, entries in metrics.items():
        for key, values in entries.items():
            for name in ("CA", "FA", "F"):
                assert found[method][key][name] == values[name]
    assert data["wrong"] == []


def test_it_has_what_explain_says_of_every_node(two_seeds: Project) -> None:
    data = data_of((two_seeds.root / PAGE).read_text(encoding="utf-8"))
    manifest = read_json(two_seeds.root / "results/manifest.json")["files"]
    assert set(data["made"]["nodes"]) == {entry["key"] for entry in manifest.values()}
    key = data["series"][0]["runs"][0][2]
    outcome = two_seeds.kaizen("explain", f"evaluation/{key}")
    printed = "".join(outcome.output.split())
    node = data["made"]["nodes"][key]
    said = [data["made"]["texts"][place] for place in node["lines"]]
    for label, text, _ in said:
        if label in ("node", "published", "commit", "data", "code", "environment", "total"):
            assert "".join(text.split()) in printed
    for command in node["again"]:
        assert command in outcome.output
    assert {parent for _, parent in node["parents"]} <= set(data["made"]["nodes"])


def test_bold_only_where_every_interval_says_so() -> None:
    clear = page(made_up(seeds=4), _MADE)
    assert "<b>" in re.findall(r"<tr data-s=0 data-r=0 .*?</tr>", clear)[0]
    assert "<b>" not in page(made_up(seeds=1), _MADE), "one seed sets nothing apart"
    assert "one seed, so there is no interval" in page(made_up(seeds=1), _MADE)
    assert "4 seeds; ± is a 95 % interval over the seeds (Student&#x27;s t)" in clear


def test_a_hostile_text_is_text() -> None:
    classes = Classes((HOSTILE, *CLASSES.names[1:]), CLASSES.tasks)
    text = page(made_up(title=HOSTILE, classes=classes), _MADE)
    assert "<script>alert" not in text and "<img src=x" not in text
    assert data_of(text)["title"] == HOSTILE and data_of(text)["classes"][0] == HOSTILE
    assert to_html("a <b> \\*c\\* **d** `<e>`") == (
        "<p>a &lt;b&gt; &#42;c&#42; <strong>d</strong> <code>&lt;e&gt;</code></p>"
    )


def test_a_grid_of_two_hundred_runs_stays_under_15_mb() -> None:
    results = made_up(variants=10, seeds=5, methods=4)
    assert sum(len(one.runs) for one in results.series) == 200
    text = page(results, _MADE)
    assert len(text.encode()) < 15e6
    assert all(len(rows["rows"]) <= MOST_ROWS for rows in rows_of_figures(results).values())


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaizen.page.data.MOST_ROWS", 200)
    rows = rows_of_figures(made_up(seeds=3))["metrics"]
    assert len(rows["rows"]) <= 200 and "single seeds" in rows["note"]
    assert all(row[2] is None for row in rows["rows"])


def test_references_are_there_and_no_rivals(two_seeds: Project) -> None:
    text = (two_seeds.root / PAGE).read_text(encoding="utf-8")
    rows = re.findall(r"<tr data-s=\d+ data-r=0 [^>]*class=ref[^>]*>.*?</tr>", text)
    names = [re.findall(r"<th scope=row>(.*?)</th>", row)[0] for row in rows]
    assert names[:2] == ["Chance", "LDA on pixels"] and not any("<b>" in row for row in rows)
    assert all(row.count("class=n") >= 3 for row in rows)


def test_the_crate_names_what_is_there(two_seeds: Project) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate")
    crate = rocrate.ROCrate(str(two_seeds.root / "results"))
    assert crate.name == "tiny" and str(crate.datePublished)[:2] == "20"
    parts = [part.id for part in crate.root_dataset["hasPart"]]
    assert {"report.html", "manifest.json", "summary/", "models/"} <= set(parts)
    for part in parts:
        path = two_seeds.root / "results" / part
        assert path.exists()
        if path.is_file():
            assert crate.get(part)["sha256"] == sha256_file(path)


# -- in a browser ------------------------------------------------------------------------------


def test_it_asks_for_nothing_and_complains_of_nothing(opened: Browser, two_seeds: Project) -> None:
    own = (two_seeds.root / PAGE).absolute().as_uri()
    assert {url for url in opened.requests if not url.startswith("data:")} <= {own}
    assert opened.errors == []
    assert opened.js("document.querySelectorAll('.chart svg').length") == opened.js(
        "document.querySelectorAll('.figure:not(#confused)').length"
    )


def test_a_click_on_a_number_says_where_it_comes_from(opened: Browser, two_seeds: Project) -> None:
    full = read_json(two_seeds.root / "results/summary/metrics_full.json")
    value = full["simclr"]["kaizen"]["classifier"]["continual_accuracy"]["mean"]
    shown = opened.js("document.querySelector('#headline .n').textContent")
    assert shown.startswith(percent(value))
    opened.js("document.querySelector('#headline .n').click()")
    assert opened.js("document.querySelector('#origin').open")
    said = opened.js("document.querySelector('#origin-body').innerText")
    assert str(value) in said and "they lead to this number" in said
    number = "simclr.kaizen.classifier.continual_accuracy.mean"
    assert f"kaizen explain results/summary/metrics_full.json:{number}" in said
    opened.js(
        "[...document.querySelectorAll('#origin-body .n')].find((b) => "
        "b.textContent.startsWith('evaluation/')).click()"
    )
    assert opened.js("document.querySelector('#origin-title').innerText").startswith("evaluation ·")
    again = opened.js("document.querySelector('#origin-body').innerText")
    for word in ("commit", "parameters", "code", "Made from", "Make it again"):
        assert word.casefold() in again.casefold()
    opened.js("document.querySelector('#back').click()")
    assert str(value) in opened.js("document.querySelector('#origin-body').innerText")


def test_the_filters_act_on_all(opened: Browser) -> None:
    rows = "[...document.querySelectorAll('#headline tbody tr')].filter((r) => !r.hidden).length"
    all_rows = opened.js(rows)
    pick = (
        "[...document.querySelectorAll('.pick label')].find((l) => l.textContent === {name})"
        ".querySelector('input').click()"
    )
    before = opened.js("document.querySelectorAll('#matrix svg text').length")
    opened.settled(pick.format(name="'No distillation'"))
    assert opened.js(rows) == all_rows - 1
    assert opened.js("document.querySelectorAll('#matrix svg text').length") < before
    opened.settled(
        "(() => { const last = [...document.querySelectorAll('.filters select')].pop();"
        " last.value = '1'; last.dispatchEvent(new Event('change')); })()"
    )
    shown = opened.js(
        "[...document.querySelectorAll('#headline tbody tr:not([hidden]):not(.ref)')]"
        ".map((r) => r.cells[3].textContent)"
    )
    assert shown == ["1"]
    assert opened.errors == []


def test_downloads_have_the_right_bytes(opened: Browser) -> None:
    opened.js("document.querySelector('#matrix .tools button:nth-child(3)').click()")
    lines = list(csv.DictReader(io.StringIO(opened.downloaded("matrix.csv").decode())))
    data = json.loads(opened.js("document.getElementById('data').textContent"))
    table = data["rows"]["cells"]
    wanted = [
        row
        for row in (dict(zip(table["columns"], v, strict=True)) for v in table["rows"])
        if row["e"] is None and row["r"] == 0
    ]
    assert [float(line["value"]) for line in lines] == [row["v"] for row in wanted]
    assert [int(line["task"]) for line in lines] == [row["k"] for row in wanted]
    opened.js("document.querySelector('#matrix .tools button:nth-child(1)').click()")
    svg = opened.downloaded("matrix.svg").decode()
    assert svg.startswith("<svg") and "currentColor" not in svg and "var(--" not in svg
    opened.js("document.querySelector('#matrix .tools button:nth-child(2)').click()")
    assert opened.downloaded("matrix.png").startswith(b"\x89PNG")
    assert opened.errors == []


def test_it_fits_a_phone_and_the_dark(view: Browser, two_seeds: Project) -> None:
    for width in (400, 320):
        view.show(two_seeds.root / PAGE, width=width, dark=True)
        assert view.js("document.documentElement.scrollWidth") <= width
    colour = "getComputedStyle(document.body).backgroundColor"
    assert view.js(colour) == "rgb(20, 23, 27)"
    view.call("Emulation.setEmulatedMedia", media="print")
    assert view.js(colour) == "rgb(255, 255, 255)", "paper is white in the dark too"
    view.call("Emulation.setEmulatedMedia", media="")
    assert view.errors == []


def test_dvc_draws_its_plots_offline_too(view: Browser, two_seeds: Project, tmp_path: Path) -> None:
    project = two_seeds.copy(tmp_path / "project")
    project.run("dvc", "init", "--no-scm")
    shutil.copytree(REPOSITORY / ".dvc/plots", project.root / ".dvc/plots")
    shutil.copy(REPOSITORY / ".dvc/config", project.root / ".dvc/config")
    shutil.copy(REPOSITORY / "dvc.yaml", project.root / "dvc.yaml")
    shown = Path(project.run("dvc", "plots", "show").strip().removeprefix("file://"))
    view.call("Page.navigate", url=shown.as_uri())
    view.wait("document.querySelectorAll('.vega-embed svg, .vega-embed canvas').length >= 5")
    assert not [url for url in view.requests if url.startswith("http")]
    assert [line for line in view.errors if "Vega-Lite v5" not in line] == []


def test_snakemakes_report_shows_page_figures_tables_and_cards(
    view: Browser, two_seeds: Project, tmp_path: Path
) -> None:
    project = two_seeds.copy(tmp_path / "project")
    # What wrote the tree was another checkout's Kaizen: the copy publishes once more.
    assert project.kaizen("publish").code == 0
    outcome = project.snakemake("--report", "report.html")
    assert outcome.code == 0, outcome.output
    view.call("Page.navigate", url=(project.root / "report.html").as_uri())
    view.wait("document.body && document.body.innerText.includes('Figures')")
    text = view.js("document.body.innerText")
    for category in ("Report", "Figures", "Tables", "Cards"):
        assert category in text
    content = (project.root / "report.html").read_text(encoding="utf-8")
    for one in shown_files(project.root):
        assert one.path in content


def test_snakemakes_captions_are_those_of_the_summary() -> None:
    assert set(FIGURES) == set(_CAPTIONS)
    for name, caption in _CAPTIONS.items():
        text = (REPOSITORY / f"workflow/report/{name}.rst").read_text(encoding="utf-8")
        assert " ".join(text.split()) == caption


def test_a_hostile_title_does_nothing_in_the_browser(view: Browser, tmp_path: Path) -> None:
    classes = Classes((HOSTILE, *CLASSES.names[1:]), CLASSES.tasks)
    path = tmp_path / "hostile.html"
    path.write_text(page(made_up(title=HOSTILE, classes=classes), _MADE), encoding="utf-8")
    view.show(path)
    assert view.js("document.querySelector('h1').textContent") == HOSTILE
    assert view.js("document.querySelectorAll('img').length") == 0 and view.errors == []


def test_replay_sizes_and_losses_of_two_methods_are_drawn(view: Browser, tmp_path: Path) -> None:
    runs, references = grid(
        ("simclr", "byol"), [("kaizen", 0.9), ("cassle", 0.7)], (0, 1), (0.01, 0.2)
    )
    results = gather("a", {}, runs, references, CLASSES, histories=histories(runs))
    text = page(results, _MADE)
    assert {"replay", "losses"} <= {figure["id"] for figure in data_of(text)["figures"]}
    path = tmp_path / "sizes.html"
    path.write_text(text, encoding="utf-8")
    view.show(path)
    words = "document.querySelector('#{}').innerText"
    assert "SimCLR: Final accuracy (FA)" in view.js(words.format("replay .chart"))
    assert "BYOL: L_FE_CT" in view.js(words.format("losses .chart")) and view.errors == []


def test_page_and_paper_have_the_same_panels_and_names(view: Browser, tmp_path: Path) -> None:
    """What page.js makes of the rows, and what `kaizen.report.figures.expand` does."""
    runs, references = grid(
        ("simclr", "byol"), [("kaizen", 0.9), ("cassle", 0.7)], (0, 1), (0.01, 0.2)
    )
    runs = [recorded(run) for run in runs]
    results = gather("a", {}, runs, references, CLASSES, histories=histories(runs))
    path = tmp_path / "same.html"
    path.write_text(page(results, _MADE), encoding="utf-8")
    view.show(path)
    meant = words(results)
    for _, figure in figures(results):
        columns, make = ROWS[figure["data"]]
        data = {"columns": columns.split(), "rows": list(make(results, 0))}
        rows = first_rows(figure, data, meant)
        field = figure["spec"]["facet"]["field"]
        panels = "[...document.querySelectorAll('#{} .chart svg .cell .role-title text')]"
        shown = view.js(f"{panels.format(figure['id'])}.map((t) => t.textContent)")
        names = list(dict.fromkeys(row[field] for row in rows))
        assert len(shown) == len(names), figure["id"]
        # A long one is in two lines, and what is longer still is cut short.
        spaceless = ["".join(name.split()) for name in names]
        begun = ["".join(text.split()).rstrip("…") for text in shown]
        assert all(any(n.startswith(text) for n in spaceless) for text in begun), (shown, names)
        table = f"[...document.querySelectorAll('#{figure['id']} tbody tr')]"
        view.js(f"document.querySelector('#{figure['id']} details').open = true")
        view.wait(f"{table}.length === {len(rows)}")
        texts = view.js(f"{table}.map((tr) => [...tr.cells].map((td) => td.textContent))")
        ours = [[write(row.get(f), kind) for f, _, kind in figure["columns"]] for row in rows]
        assert texts == ours, figure["id"]


LONG = "a_name_of_a_variant_that_is_longer_than_any_line_beside_a_panel"


def far_apart(run: RunResult) -> RunResult:
    """The run, with lower accuracies where its seed is not 0."""
    less = 1.0 if run.point.seed == 0 else 0.6
    lower = {
        reader: [[None if x is None else less * x for x in row] for row in rows]
        for reader, rows in run.matrices.items()
    }
    return dataclasses.replace(recorded(run), matrices=lower)


def test_intervals_end_where_values_do_and_names_of_rows_are_whole(
    view: Browser, tmp_path: Path
) -> None:
    """Two seeds that are far apart, whose intervals are several times as wide as all accuracies."""
    runs, references = grid(("simclr",), [("kaizen", 0.97), (LONG, 0.9)], (0, 1), (0.01, 0.2))
    results = gather("a", {}, [far_apart(run) for run in runs], references, CLASSES)
    path = tmp_path / "wide.html"
    path.write_text(page(results, _MADE), encoding="utf-8")
    meant, beyond = words(results), 0
    for _, figure in figures(results):
        columns, make = ROWS[figure["data"]]
        data = {"columns": columns.split(), "rows": list(make(results, 0))}
        for row in first_rows(figure, data, meant) if "within" in figure else []:
            least, most = 0.0, 100.0
            if row.get("x", 0) > 1:  # of forgetting and transfer
                least = -100.0
            if "m" in row:
                least, most = ((1.0, math.inf), (min(0.0, row["value"]), 1.0))[row["m"]]
            assert least <= row["low"] <= row["value"] <= row["high"] <= most, (figure["id"], row)
            half = row["half"] or 0
            beyond += row["value"] + half > most or row["value"] - half < least
    assert beyond > 20
    for width in (1280, 390):
        view.show(path, width=width)
        texts = "[...document.querySelectorAll('#{} .chart svg .{} text')]"
        for name, most in (("metrics", 100.0), ("heads", 100.0), ("features", 10.0)):
            ticks = view.js(f"{texts.format(name, 'role-axis-label')}.map((t) => t.textContent)")
            numbers = [
                float(text.replace("\N{MINUS SIGN}", "-"))
                for text in ticks
                if re.fullmatch(r"[\N{MINUS SIGN}\d.]+", text)
            ]
            assert len(numbers) > 3 and max(map(abs, numbers)) <= most, (name, numbers)
        for name in ("metrics", "differences", "classes"):
            shown = view.js(f"document.querySelector('#{name} .chart').textContent")
            assert LONG in shown and "…" not in shown, name
        labels = texts.format("metrics", "role-axis-label")
        shown = view.js(f"{labels}.map((t) => t.getBoundingClientRect().width)")
        assert 100 < max(shown) <= 260 and view.errors == []


def test_a_page_of_one_task_is_drawn_without_a_word(view: Browser, tmp_path: Path) -> None:
    runs, _ = grid(("simclr",), seeds=(0, 1))
    of_one = {reader: [[0.8]] for reader in runs[0].matrices}
    runs = [dataclasses.replace(run, matrices=of_one, confusion=run.confusion[:1]) for run in runs]
    results = gather(
        "a", {}, runs, [], Classes(CLASSES.names, CLASSES.tasks[:1]), histories=histories(runs)
    )
    path = tmp_path / "one.html"
    path.write_text(page(results, _MADE), encoding="utf-8")
    view.show(path)
    assert view.js("document.querySelectorAll('#losses .chart svg').length") == 1
    assert view.errors == []


def test_a_large_grid_opens(view: Browser, tmp_path: Path) -> None:
    path = tmp_path / "large.html"
    path.write_text(page(made_up(variants=10, seeds=5, methods=4), _MADE), encoding="utf-8")
    view.show(path)
    assert view.js("document.querySelectorAll('.chart svg').length") > 5 and view.errors == []
