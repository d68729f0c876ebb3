"""Runs side by side for people: parameters that differ first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kaizen.files import canonical_json
from kaizen.provenance.show import without_controls

if TYPE_CHECKING:
    from rich.console import Console

_MOST_COLUMNS = 5  # runs that stand side by side; more stand below each other


def print_comparison(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `kaizen.provenance.compare.compare` found: the parameters that differ, then CA, FA
    and F of the trained classifier, commit and time.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = without_controls(found)
    console = console or Console()
    runs, parameters = found["runs"], found["parameters"]
    names = [f"{run['name']} ({run['key'][:8]})" for run in runs]
    facts = [
        *((name, [_value(value) for value in values]) for name, values in parameters.items()),
        *(
            (metric, [_percent(run["metrics"][metric]) for run in runs])
            for metric in ("CA", "FA", "F")
        ),
        ("commit", [(run["commit"] or "unknown")[:12] for run in runs]),
        ("made", [str(run["made"] or "unknown")[:16].replace("T", " ") for run in runs]),
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    if len(runs) <= _MOST_COLUMNS:
        for head in ("", *names):
            table.add_column(Text(head), overflow="fold")
        for name, values in facts:
            table.add_row(*map(Text, (name, *values)))
    else:
        for head in ("run", "CA", "FA", "F", "commit", "parameters that differ"):
            table.add_column(head, overflow="fold")
        own = dict(facts)
        for place, name in enumerate(names):
            said = ", ".join(f"{key} {_value(v[place])}" for key, v in parameters.items())
            row = [own[head][place] for head in ("CA", "FA", "F", "commit")]
            table.add_row(*map(Text, (name, *row, said)))
    console.print(table)
    note = "CA continual, FA final accuracy, F forgetting: of the trained classifier, in percent"
    console.print(note if parameters else f"{note}; no parameter differs", highlight=False)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else "–" if value is None else canonical_json(value)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
