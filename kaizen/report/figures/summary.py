"""The figures of a summary: which there are, and each with its data as tidy CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import READERS
from kaizen.params import ReportParams
from kaizen.report.figures import curves, maps, points, recorded
from kaizen.report.figures.expand import Expanded, first_rows, spread
from kaizen.report.figures.fill import drawable
from kaizen.report.figures.grid import Grid, words
from kaizen.report.figures.paper import save
from kaizen.report.figures.rows import ROWS
from kaizen.report.series import HEAD_SHORT
from kaizen.report.tables import Row, write_csv
from kaizen.training.terms import TERMS

_MOST_EPOCHS = 300  # of a curve on paper; the CSV has all
_MOST_CELLS = 40_000  # of all confusions on paper
_LEAST_SHARES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)  # percent of a class that is drawn

Figure = dict[str, Any]


def draw_figures(grid: Grid, report: ReportParams, folder: Path) -> list[Path]:
    """Draw every figure into ``folder`` in the formats of ``report``, each with its data as CSV;
    return their paths.
    """
    names = words(grid)
    names["classes"] = [
        drawable(name, f"class {label}") for label, name in enumerate(names["classes"])
    ]
    title = " ".join(report.title.split())
    paths: list[Path] = []
    for name, figure in figures(grid):
        columns, make = ROWS[figure["data"]]
        data = {"columns": columns.split(), "rows": list(make(grid, _keep(figure)))}
        rows = first_rows(figure, data, names)
        if not rows:
            continue
        write_csv([_TIDY[name](grid, row) for row in rows], folder / f"{name}.csv")
        note = figure.get("basis") or grid.note()
        shown, more = _on_paper(figure, rows, names["series"])
        paths += save(figure, shown, names, [title, note, *more], folder, name, report.formats)
    return paths


def figures(grid: Grid) -> Iterator[tuple[str, Figure]]:
    """The figures that a grid has something to show of, by the names of their files."""
    yield "accuracy_bars", points.headline()
    yield "per_task_heatmap", {**maps.matrix(grid.tasks, len(grid.series)), "rivals": True}
    yield "accuracy_over_steps", curves.over_steps()
    if sum(any(head in one.readers() for one in grid.series) for head in HEAD_SHORT) > 1:
        yield "heads", points.heads()
    if len(grid.replay_sizes) > 1:
        yield "replay_size", curves.replay([unit for unit, _ in grid.replay_sizes])
    yield "differences", points.differences()
    if grid.classes is not None:
        yield "confusion_matrix", maps.confusion(grid)
    yield "loss_terms", curves.losses()
    if any(run.calibration for one in grid.series for run in one.runs):
        yield "calibration_error", recorded.errors()
    if any(run.looks for one in grid.series for run in one.runs):
        yield "features", recorded.measures(grid)


def _keep(figure: Figure) -> int:
    """Which rows a figure on paper needs (`kaizen.report.figures.rows`)."""
    if figure["data"] in ("confusion", "losses"):
        return 0
    return 3 if figure["reader"] else 1


def _on_paper(
    figure: Figure, rows: Sequence[Expanded], series: Sequence[dict[str, Any]]
) -> tuple[list[Expanded], list[str]]:
    """Of very many values those that can be seen, and a line that says so."""
    if figure.get("spread"):
        return spread(rows, series), []
    if figure["data"] == "losses":
        return _thinned(rows), []
    if figure["data"] == "confusion":
        for least in _LEAST_SHARES:
            kept = [row for row in rows if row["value"] > least]
            if len(kept) <= _MOST_CELLS:
                break
        return kept, [f"shares up to {least:g} % are left out"] if least else []
    return list(rows), []


def _thinned(rows: Sequence[Expanded]) -> list[Expanded]:
    """Curves without epochs that are nearer than a printer's dots; of each step the first and the
    last.
    """
    stride = 1 + max((row["at"] for row in rows), default=0) // _MOST_EPOCHS
    kept = []
    for place, row in enumerate(rows):
        of = [rows[n] if 0 <= n < len(rows) else None for n in (place - 1, place + 1)]
        ends = any(one is None or _curve(one) != _curve(row) for one in of)
        if ends or row["at"] % stride == 0:
            kept.append(row)
    return kept


def _curve(row: Expanded) -> tuple[Any, ...]:
    return row["s"], row["t"], row["term"]


def _estimate(grid: Grid, row: Expanded, **of: Any) -> Row:
    values = {"mean": row["v"], "interval": row["i"], "n": row["n"]}
    return {**_identity(grid, row), **of, **values}


def _identity(grid: Grid, row: Expanded) -> Row:
    one = grid.all[row["s"]]
    return {**one.columns(), "series": row["series"]}


def _metric(grid: Grid, row: Expanded) -> Row:
    return _estimate(grid, row, metric=METRICS[row["x"]])


def _head(grid: Grid, row: Expanded) -> Row:
    return _estimate(grid, row, reader=READERS[row["r"]], metric=METRICS[row["x"]])


def _step(grid: Grid, row: Expanded) -> Row:
    return _estimate(grid, row, step=row["t"])


def _look(grid: Grid, row: Expanded) -> Row:
    return _estimate(grid, row, step=row["t"], measure=row["measure"])


def _cell(grid: Grid, row: Expanded) -> Row:
    place = {"step": row["t"], "task": row["k"]}
    values = {"accuracy": row["v"], "interval": row["i"], "n": row["n"]}
    return {**_identity(grid, row), **place, **values}


def _share(grid: Grid, row: Expanded) -> Row:
    names = grid.classes.names if grid.classes else ()
    return {
        **_identity(grid, row), "label": row["c"], "class": names[row["c"]], "place": row["place"],
        "predicted": row["p"], "predicted_class": names[row["p"]], "predicted_place": row["q"],
        "share": row["v"], "n": row["n"],
    }  # fmt: skip


def _loss(grid: Grid, row: Expanded) -> Row:
    place = {"seed": row["e"], "step": row["t"], "epoch": row["epoch"]}
    return {**_identity(grid, row), **place, "term": TERMS[row["number"]], "value": row["v"]}


def _difference(grid: Grid, row: Expanded) -> Row:
    a, b = grid.all[row["s"]], grid.all[row["o"]]
    sides = {f"{n}_a": v for n, v in a.columns().items() if n != "method"}
    sides |= {f"{n}_b": v for n, v in b.columns().items() if n != "method"}
    values = {"mean": row["v"], "interval": row["i"], "n": row["n"], "better_a": row["better"]}
    return {"method": a.method, **sides, "metric": METRICS[row["x"]], **values}


_TIDY: dict[str, Callable[[Grid, Expanded], Row]] = {
    "accuracy_bars": _metric,
    "per_task_heatmap": _cell,
    "accuracy_over_steps": _step,
    "heads": _head,
    "replay_size": _metric,
    "differences": _difference,
    "confusion_matrix": _share,
    "loss_terms": _loss,
    "calibration_error": _step,
    "features": _look,
}
