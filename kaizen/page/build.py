"""The page is put together: results, origins, figures, style and scripts in one file of HTML.

The same results and the same commit give the same bytes. Nothing is fetched: the page's policy
forbids it, so that what it shows stays with who opens it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import READERS
from kaizen.files import counted, write_text
from kaizen.page.confused import addresses
from kaizen.page.crate import write_crate
from kaizen.page.current import MARK, made_from
from kaizen.page.data import rows_of_figures, series_entries
from kaizen.page.figures import figures
from kaizen.page.markdown import to_html
from kaizen.page.origins import origins
from kaizen.page.recorded import not_recorded, recorded_rows, with_recorded
from kaizen.page.results import Results, read
from kaizen.page.tables import (
    READER_SHORT,
    escape,
    figure_table,
    headline,
)
from kaizen.provenance.known import Known
from kaizen.provenance.origin import Origin
from kaizen.report.figures.expand import first_rows
from kaizen.report.figures.grid import words
from kaizen.report.reference_rows import beaten_sentences
from kaizen.report.series import HEADLINE, METRIC_SHORT, method_label
from kaizen.store.layout import REPORT_PAGE

_SCRIPT_FOR_DVC = ".kaizen/vega.js"
SCRIPTS = (
    "page.js",
    "page.filters.js",
    "page.rows.js",
    "page.figures.js",
    "page.downloads.js",
    "page.origins.js",
    "page.start.js",
)
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)


def write_page(known: Known, here: Origin) -> Path:
    """Write the page of the results that are published in ``known``'s checkout, and the RO-Crate's
    metadata; returns the page's path.

    ``here`` is this checkout. Raises KaizenError where results are missing or the page cannot be
    written.
    """
    path = known.root / REPORT_PAGE
    results = read(known)
    write_text(path, page(results, origins(known, here), made_from(known.root)))
    write_crate(known, results, sentence(results))
    # For the page of `dvc plots`, which would fetch it (.dvc/plots/page.html).
    write_text(known.root / _SCRIPT_FOR_DVC, _vega())
    return path


def page(results: Results, made: dict[str, Any], mark: str = "") -> str:
    """The page's HTML; ``made`` is what `kaizen.page.origins.origins` gives."""
    rows = rows_of_figures(results)
    nodes = sorted(made["nodes"].items(), key=lambda item: (-(item[1]["seconds"] or 0), item[0]))
    if nodes:
        rows["time"] = {
            "columns": ["key", "title", "kind", "seconds", "speed"],
            "rows": [
                [key, node["title"], node["kind"], node["seconds"], node.get("speed")]
                for key, node in nodes
                if node["seconds"] is not None
            ],
            "note": "",
        }
    rows |= recorded_rows(results)
    shown = with_recorded(figures(results, set(rows)), results, rows)
    meant: dict[str, Any] = words(results) | {
        "series": series_entries(results),
        "readers_short": [READER_SHORT[reader] for reader in READERS],
        "reader_ids": list(READERS),
        "metrics_short": list(METRIC_SHORT.values()),
        "metric_ids": list(METRICS),
        "headline": [METRICS.index(metric) for metric in HEADLINE],
        "seeds": results.seeds,
        "tasks": results.tasks,
        "pictures": addresses(results),
    }
    facts = meant | {
        "title": results.title,
        "note": results.note(),
        "figures": shown,
        "rows": rows,
        "made": made,
        "summary": results.summary,
        "references": list(results.reference_nodes),
        "wrong": results.wrong(),
    }
    sections = [
        _section(figure, rows[figure["data"]], first_rows(figure, rows[figure["data"]], meant))
        for figure in shown
    ]
    fills = {
        "MARK": f"{MARK}{mark}",
        "POLICY": _POLICY,
        "TITLE": escape(results.title),
        "STYLE": _part("page.css"),
        "SENTENCE": escape(sentence(results)),
        "FACTS": "".join(
            f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(value)}</dd></div>"
            for name, value in sorted(results.context.items())
        ),
        "NOTE": escape(results.note()),
        "HEADLINE": headline(results),
        "BEATEN": "".join(f"<li>{escape(t)}</li>" for t in beaten_sentences(results.metrics)),
        "CONTENTS": "".join(
            f'<li><a href="#{figure["id"]}">{escape(figure["title"])}</a></li>' for figure in shown
        ),
        "FIGURE": sections[0],
        "FIGURES": "".join(sections[1:]) + _caption(not_recorded(results)),
        "TEXTS": _texts(results.texts),
        "DATA": _json(facts),
        "VEGA": _vega(),
        "SCRIPT": _script(),
    }
    pieces = _part("page.html").split("@@")
    return "".join(fills[piece] if odd % 2 else piece for odd, piece in enumerate(pieces))


def sentence(results: Results) -> str:
    """What was run, in a sentence."""
    runs = sum(len(one.runs) for one in results.series)
    methods = list(dict.fromkeys(method_label(one.method) for one in results.series))
    variants = ", ".join(dict.fromkeys(one.label for one in results.series))
    tasks, classes = results.series[0].runs[0].tasks, len(results.classes.first_task())
    dataset = f"{results.context['dataset']}: " if "dataset" in results.context else ""
    stream = f"{classes} class{'' if classes == 1 else 'es'} in {counted(tasks, 'task')}"
    return (
        f"{counted(runs, 'run')} on {dataset}{stream}, one after the other; "
        f"method{'' if len(methods) == 1 else 's'} {', '.join(methods)}; {variants}; "
        f"{_seeds(results)}."
    )


def _seeds(results: Results) -> str:
    seeds = results.seeds
    if len(seeds) == 1:
        return f"seed {seeds[0]} alone"
    return f"seeds {', '.join(map(str, seeds))}"


def _section(
    figure: dict[str, Any], rows: dict[str, Any], first: Sequence[Mapping[str, Any]]
) -> str:
    name = figure["id"]
    caption = escape(figure["caption"])
    left_out = f" <strong>{escape(rows['note'])}</strong>" if rows["note"] else ""
    table = figure_table(figure, first)
    # A chart is one picture to a screen reader; pictures of their own are not.
    role = "group" if figure.get("pictures") else "img"
    return (
        f'<section class=figure id="{name}"><h2>{escape(figure["title"])}</h2>'
        f"<p class=caption>{caption}{left_out} <span class=basis></span></p>"
        f'<div class=chart role={role} tabindex=0 aria-label="{escape(figure["title"])}; the table '
        'below has its numbers"></div><div class=tools></div>'
        f"<details><summary>Table</summary><div class=scroll tabindex=0 role=region "
        f'aria-label="Table: {escape(figure["title"])}">{table}</div></details></section>'
    )


def _caption(text: str) -> str:
    return f"<p class=caption>{escape(text)}</p>" if text else ""


def _texts(report: str) -> str:
    """Of the summary's report: what was trained on, and how to read it."""
    found = []
    for part in report.split("\n## ")[1:]:
        name, _, text = part.partition("\n")
        if name.strip() in ("What was trained on", "How to read"):
            found.append(f"<section><h2>{escape(name.strip())}</h2>{to_html(text)}</section>")
    return "".join(found)


def _json(value: Any) -> str:
    """JSON that ends no script element, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def _vega() -> str:
    """Vega-Lite and what draws it, as a script that keeps its names to itself."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(_SNIPPET)
    return "(function(){" + bundle.replace("</script", "<\\/script") + "\n})();"


def _script() -> str:
    """The page's script: its parts in one function, which keeps their names to itself."""
    parts = "".join(_part(name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _part(name: str) -> str:
    return resources.files("kaizen.page").joinpath(name).read_text(encoding="utf-8")
