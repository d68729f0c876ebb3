"""The figures: one specification for paper, page and DVC, and what paper asks of them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from made_up import CLASSES, THREE, grid, histories
from PIL import Image
from plots import text
from svg import Drawing, read

from kaizen.evaluation.results import RunResult
from kaizen.page.build import page
from kaizen.page.results import gather
from kaizen.params import ReportParams
from kaizen.plan.point import Point
from kaizen.report.classes import Classes
from kaizen.report.figures import curves, maps, points
from kaizen.report.figures.dvc import templates
from kaizen.report.figures.expand import first_rows, spread
from kaizen.report.figures.fill import balanced, looks
from kaizen.report.figures.grid import Grid, entries, words
from kaizen.report.figures.paper import _in_order, _vl_convert, draw
from kaizen.report.figures.rows import ROWS
from kaizen.report.figures.summary import draw_figures, figures
from kaizen.report.series import group, known_colours

NAMES = [
    "accuracy_bars", "per_task_heatmap", "accuracy_over_steps", "heads", "replay_size",
    "differences", "confusion_matrix", "loss_terms",
]  # fmt: skip
NINE = (
    "simclr", "mocov2plus", "byol", "vicreg", "barlow_twins", "simsiam", "swav", "nnclr", "dino",
)  # fmt: skip


def of(methods: Any = ("simclr", "byol"), seeds: Any = (0, 1, 2), **more: Any) -> Grid:
    variants = more.pop("variants", THREE)
    sizes = more.pop("sizes", (0.01, 0.1, 0.5))
    runs, references = grid(methods, variants, seeds, sizes, **more)
    return Grid(
        series=tuple(group(runs, references)), references=(), classes=CLASSES,
        histories=histories(runs),
    )  # fmt: skip


def one_figure(of_grid: Grid, name: str) -> str:
    """The SVG of one of a grid's figures."""
    figure = dict(figures(of_grid))[name]
    columns, make = ROWS[figure["data"]]
    names = words(of_grid)
    data = {"columns": columns.split(), "rows": list(make(of_grid, 0))}
    rows = first_rows(figure, data, names)
    if figure.get("spread"):
        rows = spread(rows, names["series"])
    return draw(figure, rows, names, ["a title", of_grid.note()])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All figures of two methods, three variants, three sizes and seeds."""
    out = tmp_path_factory.mktemp("figures")
    draw_figures(of(), ReportParams(title="Digits", formats=["png", "svg", "pdf"]), out)
    return out


def drawing(folder: Path, name: str) -> Drawing:
    return read((folder / f"{name}.svg").read_text(encoding="utf-8"))


# -- on paper ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_a_columns_width_and_legible_text(folder: Path, name: str) -> None:
    shown = drawing(folder, name)
    assert shown.width / 72 == pytest.approx(6.9, abs=1e-3)
    assert shown.height / 72 < 11
    sizes = [
        float(shape.attributes["font-size"].removesuffix("px")) * shown.scale
        for shape in shown.shapes
        if shape.text
    ]
    assert len(sizes) > 10 and min(sizes) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_a_png_has_300_dots_per_inch_of_that_width(folder: Path, name: str) -> None:
    image = Image.open(folder / f"{name}.png")
    assert image.width == pytest.approx(6.9 * 300, abs=1)
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    ink = (np.asarray(image.convert("L")) < 250).any(axis=0)
    drawn = np.flatnonzero(ink)
    margin = 0.02 * image.width
    assert 0 < drawn[0] < margin and 0 < image.width - drawn[-1] < margin, "no blank strip"


@pytest.mark.parametrize("name", NAMES)
def test_svg_has_text_and_pdf_its_fonts(folder: Path, name: str) -> None:
    shown = drawing(folder, name)
    assert any(text.startswith("Digits ") for text in shown.texts())
    basis = r"3 seeds.* 95 % interval" if name != "loss_terms" else "one seed of each variant"
    assert any(re.search(basis, text) for text in shown.texts())
    content = (folder / f"{name}.pdf").read_bytes()
    fonts = set(re.findall(rb"/BaseFont\s*/(\S+)", content))
    assert fonts and all(font.endswith(b"+LiberationSans") for font in fonts)
    assert b"/FontFile" in content or b"/FontFile2" in content
    width = re.search(rb"/MediaBox \[0 0 ([\d.]+)", content)
    assert width and float(width[1]) == pytest.approx(72 * 6.9, abs=0.1)


def test_one_panel_has_the_width_of_one_column() -> None:
    single = of(("simclr",), (0,), variants=[("kaizen", 0.9)], sizes=(0.1,))
    for name in ("accuracy_over_steps", "per_task_heatmap", "confusion_matrix", "heads"):
        shown = read(one_figure(single, name))
        assert shown.width / 72 == pytest.approx(3.3, abs=1e-3)
        smallest = min(
            float(s.attributes["font-size"].removesuffix("px")) for s in shown.shapes if s.text
        )
        assert smallest * shown.scale >= 6


def test_curves_are_told_apart_in_grey(folder: Path) -> None:
    shown = drawing(folder, "accuracy_over_steps")
    lines = shown.of("mark-line")
    looks_of_lines = {
        (line.attributes["stroke"], line.attributes.get("stroke-dasharray")) for line in lines
    }
    assert len(looks_of_lines) == 5, "three sizes of Kaizen, and two further variants"
    assert len({dash for _, dash in looks_of_lines}) == 5
    bands = shown.of("mark-area")
    assert len(bands) == len(lines) and all("fill-opacity" in b.attributes for b in bands)
    marks = {
        re.sub(r"[\d.-]+", "", mark.attributes["d"]) + mark.attributes["fill"]
        for mark in shown.of("mark-symbol role-mark")
    }
    assert len(marks) == 5


def test_thirty_series_have_thirty_looks() -> None:
    many = of(("simclr",), (0,), variants=[(f"v{n}", 0.9) for n in range(30)])
    found = entries(many)
    assert len({(one["shape"], str(one["dash"])) for one in found}) == len(found) == 30


def test_the_replay_axis_is_to_scale(folder: Path) -> None:
    shown = drawing(folder, "replay_size")
    marks = shown.of("mark-symbol role-mark")
    # Of each panel, the marks at 1, 10 and 50 %.
    panels = np.array([mark.x for mark in marks]).reshape(-1, 3)
    between = np.diff(panels, axis=1)
    assert np.allclose(between[:, 1] / between[:, 0], (50 - 10) / (10 - 1), rtol=1e-3)


def test_a_logarithmic_axis_says_so(folder: Path) -> None:
    assert not [text for text in drawing(folder, "loss_terms").texts() if "log axis" in text]
    runs, _ = grid(("simclr",), THREE)
    steep = [
        type(one)(one.point, tuple(
            tuple({t: v * 0.01**n for t, v in epoch.items()} for n, epoch in enumerate(step))
            for step in one.steps
        ))
        for one in histories(runs)
    ]  # fmt: skip
    steep_grid = Grid(series=tuple(group(runs, [])), references=(), classes=None, histories=steep)
    assert "log axis" in " ".join(read(one_figure(steep_grid, "loss_terms")).texts())


def test_zero_is_white_and_white_alone() -> None:
    run = RunResult(
        Point("simclr", "kaizen", None, "proportion", 0),
        {"classifier": [[0.0, 0.0], [0.5, 0.02]]},
    )
    shown = read(
        one_figure(
            Grid(series=tuple(group([run], [])), references=(), classes=None), "per_task_heatmap"
        )
    )
    fills = [cell.attributes["fill"] for cell in shown.of("mark-rect role-mark")]
    assert fills[0] == "rgb(255, 255, 255)" and "rgb(255, 255, 255)" not in fills[1:]
    assert len(fills) == 3, "what is not seen yet has no cell"


def test_no_line_is_a_word_left_over() -> None:
    texts = (
        "500 test images; 3 seeds; ± is a 95 % interval over the seeds (Student's t)",
        "What each class is taken for after the last step, and some words more",
        "a " * 70,
    )
    for sentence in texts:
        for letters in range(12, 90):
            lines = balanced(sentence, letters)
            assert " ".join(lines).split() == sentence.split()
            assert max(map(len, lines)) <= letters
            if len(lines) > 1:
                assert len(lines[-1]) >= max(map(len, lines)) - 2 * 9
    assert balanced("word", 2) == ["word"] and balanced("", 10) == [""]


def test_a_long_title_leaves_room_for_the_panels(tmp_path: Path) -> None:
    single = of(("simclr",), (0,), variants=[("kaizen", 0.9)], sizes=(0.1,))
    heights = set()
    for name in ("word " * 4000, "x" * 20_000):
        draw_figures(single, ReportParams(title=name, formats=["svg"]), tmp_path)
        shown = drawing(tmp_path, "accuracy_over_steps")
        heights.add(shown.height)
        assert any("…" in text for text in shown.texts())
    draw_figures(single, ReportParams(title="Digits", formats=["svg"]), tmp_path)
    assert max(heights) < drawing(tmp_path, "accuracy_over_steps").height + 30


@pytest.mark.parametrize(
    "name", ["accuracy_bars", "per_task_heatmap", "accuracy_over_steps", "heads", "loss_terms"]
)
def test_a_grid_of_nine_methods_fits_a_sheet(name: str) -> None:
    variants = [*THREE, ("kaizen_no_replay", 0.7)]
    shown = read(one_figure(of(NINE, (0, 1), variants=variants, sizes=(0.1,)), name))
    assert shown.width / 72 == pytest.approx(6.9, abs=1e-3) and shown.height / 72 < 11
    headers = [s for s in shown.shapes if s.text and "cell" in s.role and "role-title" in s.role]
    assert all(shape.x < shown.width / shown.scale for shape in headers)
    smallest = min(
        float(s.attributes["font-size"].removesuffix("px")) for s in shown.shapes if s.text
    )
    assert smallest * shown.scale >= 6


def test_a_hundred_classes_are_counted_by_task() -> None:
    labels = tuple(tuple(range(10 * task, 10 * task + 10)) for task in range(10))
    counts = [{(label, (label + 1) % 100): 1 for label in range(100)}] * 10
    run = RunResult(
        Point("simclr", "kaizen", None, "proportion", 0), {"classifier": [[0.5] * 10] * 10}, counts
    )
    classes = Classes(tuple(f"class {label}" for label in range(100)), labels)
    shown = read(
        one_figure(
            Grid(series=tuple(group([run], [])), references=(), classes=classes), "confusion_matrix"
        )
    )
    labels_shown = [s.text for s in shown.shapes if s.text and "role-axis-label" in s.role]
    assert labels_shown == [str(task) for task in range(10)] * 2
    cells = shown.of("mark-rect role-mark")
    assert len(cells) == 100


def test_names_that_the_font_lacks_are_numbers(tmp_path: Path) -> None:
    classes = Classes(("犬", "猫", "cat", "éèß", "Ж", "\x07bell"), CLASSES.tasks)
    shown_grid = of(("simclr",), (0,), sizes=(0.1,))
    of_classes = Grid(
        series=shown_grid.series, references=(), classes=classes, histories=shown_grid.histories
    )
    draw_figures(of_classes, ReportParams(title="数字 digits", formats=["svg"]), tmp_path)
    texts = drawing(tmp_path, "confusion_matrix").texts()
    assert {"class 0", "class 1", "cat", "éèß", "Ж"} <= set(texts)
    assert any(text.startswith("□□ digits ") for text in texts)
    with open(tmp_path / "confusion_matrix.csv", encoding="utf-8", newline="") as file:
        assert "猫" in file.read()


def test_bytes_do_not_depend_on_the_machines_fonts() -> None:
    """Against a process that has no font but those that vl-convert brings."""
    drawn = one_figure(of(), "heads")
    fonts = REPOSITORY / "kaizen/report/figures/fonts.conf"
    code = (
        "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.svg_to_pdf(sys.stdin.read()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=drawn.encode(), check=True, capture_output=True,
        env={**os.environ, "FONTCONFIG_FILE": str(fonts)},
    )  # fmt: skip
    assert _in_order(done.stdout) == _in_order(bytes(_vl_convert().svg_to_pdf(drawn)))


# -- one specification -------------------------------------------------------------------------


def test_paper_and_page_have_the_same_specifications() -> None:
    runs, references = grid(("simclr", "byol"), THREE, (0, 1), (0.01, 0.2))
    results = gather("a", {}, runs, references, CLASSES, histories=histories(runs))
    made = page(results, {"nodes": {}, "texts": []})
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', made, re.DOTALL)
    assert data
    of_page = {figure["id"]: figure["spec"] for figure in json.loads(data[1])["figures"]}
    of_paper = {
        figure["id"]: json.loads(json.dumps(figure["spec"])) for _, figure in figures(results)
    }
    assert {"matrix", "steps", "metrics", "heads", "replay", "differences"} <= set(of_paper)
    assert {name: of_page[name] for name in of_paper} == of_paper


def test_dvcs_templates_are_made_of_the_same_specifications() -> None:
    for name, spec in templates().items():
        path = REPOSITORY / f".dvc/plots/{name}.json"
        assert path.read_text(encoding="utf-8") == text(spec), "`python tests/plots.py` writes it"
    assert {p.stem for p in (REPOSITORY / ".dvc/plots").glob("*.json")} == set(templates())
    curve = templates()["accuracy_over_steps"]["spec"]["layer"][1]
    own = curves.over_steps()["spec"]["spec"]["layer"][1]
    assert curve["mark"] == own["mark"] and curve["encoding"]["y"] == own["encoding"]["y"]


def test_colours_are_the_same_everywhere() -> None:
    shown = of()
    labels, colours = known_colours()
    known = dict(zip(labels, colours, strict=False))
    single = of(("simclr",), (0,), sizes=(0.1,))
    rows = [{"series": one.label} for one in single.series]
    scale = looks(rows, words(single))["@colour"]
    assert scale["domain"] == [one.label for one in single.series]
    assert scale["range"] == [known[label] for label in scale["domain"]]
    assert {one["colour"] for one in entries(shown)} >= {known["CaSSLe"], known["Kaizen"]}


def test_every_figure_names_columns_that_its_rows_have() -> None:
    shown = of()
    names = words(shown)
    for figure in (points.headline(), points.heads(), points.differences(), maps.confusion(shown)):
        columns, make = ROWS[figure["data"]]
        rows = first_rows(figure, {"columns": columns.split(), "rows": list(make(shown, 1))}, names)
        assert rows and all(field in rows[0] for field, _, _ in figure["columns"])


def test_drawing_needs_no_network_and_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    draw_figures(of(), ReportParams(title="Digits", formats=["png", "svg", "pdf"]), tmp_path)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
    assert Image.open(io.BytesIO((tmp_path / "heads.png").read_bytes())).height > 300
