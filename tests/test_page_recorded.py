"""On `results/report.html`: calibration, what features look like, the most confused images, the
filter by task; whether the page is accessible, and the RO-Crate beside it valid.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser
from checks import axe_violations, crate_issues
from made_up import CLASSES, grid, recorded
from PIL import Image
from project import Project

from kaizen.evaluation.mistaken import MistakenImage, MistakenPair
from kaizen.files import read_json, write_json
from kaizen.page.build import page
from kaizen.page.pictures import MOST_BYTES, Examples, examples
from kaizen.page.recorded import recorded_rows
from kaizen.page.results import gather, read
from kaizen.page.tables import write
from kaizen.params import ImageParams
from kaizen.provenance.known import Known
from kaizen.report.classes import Classes
from kaizen.report.figures.expand import first_rows
from kaizen.views.decode import load_shard

PAGE = "results/report.html"
OWN = {"reliability", "calibration", "map", "features", "confused"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'text'"
_MADE: dict[str, Any] = {"nodes": {}, "texts": []}
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def data_of(text: str) -> dict[str, Any]:
    """The data that a page holds for its script."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def rows_of(data: dict[str, Any], name: str) -> list[dict[str, Any]]:
    table = data["rows"][name]
    return [dict(zip(table["columns"], values, strict=True)) for values in table["rows"]]


def made_up(variants: int = 2, seeds: int = 2, methods: int = 1, **more: Any) -> Any:
    names = ["kaizen", "cassle", *(f"other_{n}" for n in range(variants - 2))]
    runs, references = grid(
        ("simclr", "byol", "vicreg", "dino")[:methods],
        [(name, 0.95 - 0.03 * n) for n, name in enumerate(names)],
        range(seeds),
    )
    runs = [recorded(run, more.pop("images", 12)) for run in runs]
    return gather("a title", {}, runs, references, more.pop("classes", CLASSES), **more)


def pairs_of(results: Any) -> dict[Any, list[MistakenPair]]:
    pairs = [
        MistakenPair(label, 0, 5, [MistakenImage(0, row, 0.9) for row in range(4)])
        for label in range(1, 6)
    ]
    return {one.runs[0].point: pairs for one in results.series}


# -- what it holds -----------------------------------------------------------------------------


def test_the_page_has_what_the_summary_s_tables_have(two_seeds: Project) -> None:
    data = data_of((two_seeds.root / PAGE).read_text(encoding="utf-8"))
    assert {figure["id"] for figure in data["figures"]} >= OWN - {"confused"}
    for name, field in (("calibration", "calibration_error"), ("features", "effective_rank")):
        text = (two_seeds.root / f"results/summary/{name}.csv").read_text()
        table = list(csv.DictReader(io.StringIO(text)))
        shown = [row for row in rows_of(data, name) if row["e"] is not None and not row.get("m")]
        assert len(shown) == len(table) > 0
        for row in shown:
            (there,) = [
                line
                for line in table
                if line["variant"] == data["series"][row["s"]]["variant"]
                and (int(line["seed"]), int(line["step"])) == (row["e"], row["t"])
                and line.get("reader", "")
                == ("" if "r" not in row else data["reader_ids"][row["r"]])
            ]
            assert row["v"] == pytest.approx(float(there[field]), rel=1e-5)


def test_calibration_is_of_the_images_that_the_accuracies_are_of(two_seeds: Project) -> None:
    (run,) = two_seeds.root.glob("results/evaluations/*-kaizen-*seed1")
    matrix = read_json(run / "accuracy.json")["matrices"]["classifier"]
    steps = read_json(run / "calibration.json")["steps"]
    tests = 12  # images of a task
    for step, by_reader in enumerate(steps):
        bins = by_reader["classifier"]
        assert sum(bins["images"]) == tests * (step + 1)
        right = sum(tests * accuracy for accuracy in matrix[step][: step + 1])
        assert sum(bins["right"]) == pytest.approx(right)


def test_maps_show_tasks_learnt_and_no_others(two_seeds: Project) -> None:
    data = data_of((two_seeds.root / PAGE).read_text(encoding="utf-8"))
    rows = rows_of(data, "map")
    assert {row["e"] for row in rows} == {0}, "one seed"
    assert all(row["k"] <= row["t"] for row in rows)
    last = [row for row in rows if row["s"] == 0 and row["t"] == 1]
    assert sorted({row["k"] for row in last}) == [0, 1] and len(last) == 24


def test_pictures_are_the_rows_of_the_shards(two_seeds: Project) -> None:
    results = read(Known.at(two_seeds.root, two_seeds.store))
    data = data_of(page(results, _MADE))
    shown = 0
    for row in rows_of(data, "confused"):
        for place, task, at, _ in row["pictures"]:
            kind, content = data["pictures"][place].split(",")
            assert kind == "data:image/png;base64"
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
            shard = two_seeds.root / f"data/shards/task-{task:02d}.test.parquet"
            images, labels = load_shard(shard, ImageParams(size=8, channels=3))
            assert (picture.transpose(2, 0, 1) == images[at]).all() and labels[at] == row["c"]
            shown += 1
    assert shown and results.examples.note == ""


def test_images_are_left_out_where_that_is_asked_for() -> None:
    results = made_up()
    shown = examples(pairs_of(results), lambda task: pytest.fail("a shard was read"), wanted=False)
    text = page(dataclasses.replace(results, examples=shown), _MADE)
    data = data_of(text)
    assert data["pictures"] == [] and len(rows_of(data, "confused")) == 10
    assert "Images are left out (`report.example_images`)." in text


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    broken = tmp_path / "task-00.test.parquet"
    broken.write_bytes(b"no shard")
    for found in (broken, None):
        shown = examples(pairs_of(made_up()), {0: found}.get)
        assert shown.pictures == {} and shown.recorded
        assert shown.note == "4 images are left out: their shards cannot be read."


def test_a_large_grid_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    results = made_up(variants=4, seeds=5, methods=4, images=100)
    assert sum(len(one.runs) for one in results.series) == 80
    uri = "data:image/jpeg;base64," + "x" * 4000
    rows = [(task, row) for task in range(3) for row in range(400)]
    monkeypatch.setattr(
        "kaizen.page.pictures._read", lambda path, wanted: [(row, uri + str(row)) for row in wanted]
    )
    many = {
        one.runs[0].point: [
            MistakenPair(
                1, p, 9, [MistakenImage(*rows[(s * 48 + p * 4 + i) % 1200], 0.5) for i in range(4)]
            )
            for p in range(12)
        ]
        for s, one in enumerate(results.series)
    }
    shown = examples(many, lambda task: Path("x"))
    assert sum(map(len, shown.pictures.values())) <= MOST_BYTES
    text = page(dataclasses.replace(results, examples=shown), _MADE)
    assert len(text.encode()) < 15e6
    assert len(rows_of(data_of(text), "map")) <= 10_000


def test_old_results_open_and_say_what_they_lack(two_seeds: Project, tmp_path: Path) -> None:
    """Evaluations whose records do not name the files, as an older Kaizen's."""
    project = two_seeds.copy(tmp_path / "project")
    names = ("calibration.json", "features.safetensors", "mistaken.json")
    known = Known.at(project.root, project.store)
    for entry in {entry.node for entry in known.files.values() if entry.node.kind == "evaluation"}:
        node = known.node(entry)
        assert node is not None
        for name in names:
            node.record.files.pop(name)  # type: ignore[attr-defined]
    results = read(known)
    assert not set(recorded_rows(results)) & OWN
    text = page(results, _MADE)
    assert "Not recorded, as an older Kaizen evaluated these runs: calibration, features, " in text
    assert not OWN & {figure["id"] for figure in data_of(text)["figures"]}
    assert "Not recorded" not in (project.root / PAGE).read_text(encoding="utf-8")


def test_an_altered_file_is_not_taken_for_an_old_one(two_seeds: Project, tmp_path: Path) -> None:
    from kaizen.errors import KaizenError

    project = two_seeds.copy(tmp_path / "project")
    for path in project.root.rglob("calibration.json"):
        path.chmod(0o644)
        write_json(path, {"steps": []})
    known = Known.at(project.root, project.store)
    for path in Path(project.store.root).rglob("calibration.json"):
        path.unlink()
        path.write_text("{}")
    with pytest.raises(KaizenError, match=r"calibration.json of run-.* is missing or was altered"):
        read(known)


def test_the_crate_is_valid(two_seeds: Project, tmp_path: Path) -> None:
    # The validator does not take a path with a space.
    issues = crate_issues(two_seeds.copy(tmp_path / "project").root / "results")
    assert [issue for issue in issues if issue[0] == "REQUIRED"] == []
    # Who made it is not known, nor who publishes it.
    assert all(re.search("author|publisher", message) for _, _, message in issues)


def test_the_validator_would_say_so(two_seeds: Project, tmp_path: Path) -> None:
    project = two_seeds.copy(tmp_path / "project")
    path = project.root / "results/ro-crate-metadata.json"
    content = read_json(path)
    root = next(entity for entity in content["@graph"] if entity["@id"] == "./")
    del root["license"], root["datePublished"]
    path.unlink()
    write_json(path, content)
    required = [m for severity, _, m in crate_issues(path.parent) if severity == "REQUIRED"]
    assert any("license" in m for m in required) and any("datePublished" in m for m in required)


# -- in a browser ------------------------------------------------------------------------------


CHOOSE = (
    "[...document.querySelectorAll('.pick label')].find((l) => l.textContent.startsWith({name}))"
    ".querySelector('input').click()"
)


def test_the_filter_by_task_acts_on_all_that_has_tasks(opened: Browser) -> None:
    lines = "(document.querySelector('#{} details').open = true, 0)"
    count = "document.querySelectorAll('#{} tbody tr').length"
    names = ("matrix", "classes", "confusion", "map", "losses", "metrics")
    for name in names:
        opened.js(lines.format(name))
    opened.wait("document.querySelectorAll('#map tbody tr').length > 0")
    before = {name: opened.js(count.format(name)) for name in names}
    opened.settled(CHOOSE.format(name="'0 ('"))
    after = {name: opened.js(count.format(name)) for name in names}
    assert all(0 < after[name] < before[name] for name in names[:-1])
    assert after["metrics"] == before["metrics"]
    assert "The filter of the tasks does not act here." in opened.js(
        "document.querySelector('#metrics .basis').textContent"
    )
    assert "does not act" not in opened.js("document.querySelector('#map .basis').textContent")
    assert opened.js(
        "[...document.querySelectorAll('#matrix tbody tr')]"
        ".every((r) => r.cells[5].textContent === '1')"
    )
    for name in ("results", "steps"):
        said = opened.js(f"document.querySelector('#{name} .basis').textContent")
        assert said.endswith("The filter of the tasks does not act here.")
    opened.js("document.querySelector('#matrix .tools button').click()")
    assert "1 of 2 tasks" in opened.downloaded("matrix.svg").decode()
    assert opened.errors == []


def test_figures_are_drawn_and_lead_to_where_they_come_from(opened: Browser) -> None:
    for name in OWN - {"confused"}:
        assert opened.js(f"document.querySelectorAll('#{name} .chart svg path').length") > 5
    opened.js("document.querySelector('#calibration details').open = true")
    opened.wait("document.querySelector('#calibration tbody .n') !== null")
    opened.js("document.querySelector('#calibration tbody .n').click()")
    said = opened.js("document.querySelector('#origin-body').innerText")
    assert "results/summary/calibration.csv" in said and "evaluation/" in said
    opened.js("document.querySelector('#close').click()")
    opened.js("document.querySelector('#map details').open = true")
    opened.wait("document.querySelector('#map tbody .n') !== null")
    opened.js("document.querySelector('#map tbody .n').click()")
    assert opened.js("document.querySelector('#origin-title').innerText").startswith("evaluation")
    assert opened.errors == []


def test_confused_images_have_names_and_lead_to_their_file(opened: Browser) -> None:
    images = opened.js(
        "[...document.querySelectorAll('#confused img')].map((i) => [i.alt, i.naturalWidth])"
    )
    assert images and all(
        re.fullmatch(r"Test image of \w+, taken for \w+ with confidence [01]\.\d\d", alt)
        and width == 8
        for alt, width in images
    )
    opened.js("document.querySelector('#confused .pairs .n').click()")
    said = opened.js("document.querySelector('#origin-body').innerText")
    assert re.search(r"results/evaluations/\S+/mistaken.json", said)
    opened.js("document.querySelector('#close').click()")
    opened.js("[...document.querySelectorAll('#confused .tools button')].pop().click()")
    (first, *_) = csv.DictReader(io.StringIO(opened.downloaded("confused.csv").decode()))
    assert set(first) == {
        "method", "series", "class", "predicted", "seed", "value", "images", "n",
    }  # fmt: skip
    assert opened.errors == []


def test_a_hostile_class_does_nothing(view: Browser, tmp_path: Path) -> None:
    classes = Classes((HOSTILE, *CLASSES.names[1:]), CLASSES.tasks)
    results = made_up(classes=classes)
    shown = Examples(pairs_of(results), {(0, row): PICTURE for row in range(4)}, "", True)
    path = tmp_path / "hostile.html"
    path.write_text(page(dataclasses.replace(results, examples=shown), _MADE), encoding="utf-8")
    view.show(path)
    assert view.js("document.querySelectorAll('img:not(#confused img)').length") == 0
    assert HOSTILE in view.js("document.querySelector('#confused img').alt")
    assert view.errors == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_axe_finds_nothing_wrong(view: Browser, two_seeds: Project, width: int, dark: bool) -> None:
    view.show(two_seeds.root / PAGE, width=width, dark=dark)
    view.js(
        "document.querySelectorAll('#map details, #reliability details, #confused details, .pick')"
        ".forEach((one) => { one.open = true; })"
    )
    assert axe_violations(view) == []
    view.js("document.querySelector('#headline .n').click()")
    assert axe_violations(view) == []


def test_the_tables_hold_the_same_before_and_after_the_script(
    view: Browser, tmp_path: Path
) -> None:
    """What `kaizen.report.figures.expand` makes of the rows, and what page.js does."""
    results = made_up(seeds=3, methods=2)
    shown = Examples(pairs_of(results), {(0, row): PICTURE for row in range(4)}, "", True)
    text = page(dataclasses.replace(results, examples=shown), _MADE)
    path = tmp_path / "tables.html"
    path.write_text(text, encoding="utf-8")
    view.show(path)
    data = data_of(text)
    for figure in data["figures"]:
        if figure["id"] not in OWN:
            continue
        rows = first_rows(figure, data["rows"][figure["data"]], data)
        ours = [[write(row.get(f), kind) for f, _, kind in figure["columns"]] for row in rows]
        table = f"[...document.querySelectorAll('#{figure['id']} tbody tr')]"
        view.js(f"document.querySelector('#{figure['id']} details').open = true")
        view.wait(f"{table}.length === {min(len(ours), 1000)}")
        texts = view.js(f"{table}.map((tr) => [...tr.cells].map((td) => td.textContent))")
        assert texts == ours[:1000] and len(ours) > 1, figure["id"]
    assert view.errors == []
