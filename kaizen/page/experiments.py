"""A page of runs side by side, which can be sorted by any column: `kaizen compare --html`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from kaizen.files import canonical_json
from kaizen.page.tables import escape
from kaizen.provenance.compare import METRICS
from kaizen.report.tables import ABSENT, percent

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
_TITLE = "<title>Runs side by side</title>"
_SORT = """
document.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => {
  const th = button.closest("th"), at = th.cellIndex, up = th.ariaSort !== "ascending";
  document.querySelectorAll("th[aria-sort]").forEach((one) => one.removeAttribute("aria-sort"));
  th.ariaSort = up ? "ascending" : "descending";
  const body = document.querySelector("tbody"), text = (tr) => tr.cells[at].dataset.v ?? tr.cells[at].textContent;
  const compare = (a, b) => {
    const one = text(a), other = text(b), difference = Number(one) - Number(other);
    return Number.isNaN(difference) ? one.localeCompare(other, "en") : difference;
  };
  body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * compare(a, b)));
}));
"""  # noqa: E501


def experiments_page(found: Mapping[str, Any]) -> str:
    """The HTML of what `kaizen.provenance.compare.compare` found: parameters that differ first."""
    parameters = found["parameters"]
    heads = ["run", *parameters, *METRICS, "commit", "experiment", "made", "key"]
    cells = "".join(
        f"<th scope=col><button class=n type=button>{escape(head)}</button></th>" for head in heads
    )
    rows = []
    for place, run in enumerate(found["runs"]):
        own = [_value(values[place]) for values in parameters.values()]
        numbers = [run["metrics"][name] for name in METRICS]
        texts = [run["commit"], run["experiment"], run["made"], f"evaluation/{run['key']}"]
        row = f"<th scope=row>{escape(run['name'])}</th>"
        row += "".join(f"<td>{escape(text)}</td>" for text in own)
        row += "".join(
            f'<td class=r data-v="{-1 if value is None else value}">'
            f"{ABSENT if value is None else percent(value)}</td>"
            for value in numbers
        )
        row += "".join(f"<td>{escape(text or ABSENT)}</td>" for text in texts)
        rows.append(f"<tr>{row}</tr>")
    style = resources.files("kaizen.page").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{_TITLE}<style>{style}</style></head><body>"
        "<header><h1>Runs side by side</h1><p class=caption>Parameters that differ, then CA, FA "
        "and F of the trained classifier in percent, one seed each, so without an interval. A "
        "click on a heading sorts. <code>kaizen explain KEY</code> says where a run comes "
        "from.</p></header><main><div class=scroll tabindex=0 role=region aria-label=Runs>"
        f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></main>"
        f"<script>{_SORT}</script></body></html>\n"
    )


def is_experiments_page(path: Path) -> bool:
    """Whether a file is a page of `experiments_page`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return _TITLE in file.read(1000)


def _value(value: Any) -> str:
    if value is None:
        return ABSENT
    return value if isinstance(value, str) else canonical_json(value)
