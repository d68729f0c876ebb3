"""Runs side by side for people: parameters that differ first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kaizen.files import canonical_json
from kaizen.provenance.show import without_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MOST_COLUMNS = 5  # runs that stand side by side; more stand below each other
_METRICS = ("CA", "FA", "F")
_BELOW = (*_METRICS, "commit")  # of runs below each other, before the parameters
_COMMIT = 10  # digits; a date is as long
_BETWEEN = 3  # blanks between columns
_PARAMETERS = 24  # columns for them, at least, beside a run that stands below others

Facts = Sequence[tuple[str, Sequence[str]]]


def print_comparison(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `kaizen.provenance.compare.compare` found: the parameters that differ, then CA, FA
    and F of the trained classifier, commit and time.

    Names of runs are never broken: where the console is too narrow for them, they stand above the
    table, which has their numbers.
    """
    from rich.console import Console
    from rich.text import Text

    found = without_controls(found)
    console = console or Console()
    runs, parameters = found["runs"], found["parameters"]
    names = [f"{run['name']} ({run['key'][:8]})" for run in runs]
    differing = [(name, [_value(value) for value in v]) for name, v in parameters.items()]
    facts: Facts = [
        *((m, [_percent(run["metrics"][m]) for run in runs]) for m in _METRICS),
        ("commit", [(run["commit"] or "unknown")[:_COMMIT] for run in runs]),
        ("made", [str(run["made"] or "unknown")[:16].replace("T", " ") for run in runs]),
    ]
    all_facts = [*differing, *facts]
    first = 2 + max(len(name) for name, _ in all_facts)  # with the blanks at both ends
    narrowest = first + len(runs) * (_BETWEEN + _COMMIT)
    abreast = len(runs) <= _MOST_COLUMNS and narrowest <= console.width
    if abreast:
        columns = zip(names, *(values for _, values in all_facts), strict=True)
        whole = first + sum(_BETWEEN + max(map(len, column)) for column in columns)
    else:
        beside = 3 * (_BETWEEN + 5) + 2 * _BETWEEN + _COMMIT + _PARAMETERS
        whole = 2 + max(map(len, names)) + beside
    if console.width < whole:
        for number, name in enumerate(names, 1):
            console.print(Text(f"{number}  {name}"), soft_wrap=True)
        names = [str(number) for number, _ in enumerate(names, 1)]
    console.print(_abreast(names, all_facts) if abreast else _below(names, differing, facts))
    note = "CA continual, FA final accuracy, F forgetting: of the trained classifier, in percent"
    console.print(note if parameters else f"{note}; no parameter differs", highlight=False)


def _abreast(names: Sequence[str], facts: Facts) -> Table:
    """A column for each run."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for name, values in facts:
        table.add_row(*map(Text, (name, *values)))
    return table


def _below(names: Sequence[str], differing: Facts, facts: Facts) -> Table:
    """A row for each run."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("run", *_BELOW):
        table.add_column(head, no_wrap=True)
    table.add_column("parameters that differ", overflow="fold")
    own = dict(facts)
    for place, name in enumerate(names):
        said = ", ".join(f"{key} {values[place]}" for key, values in differing)
        table.add_row(*map(Text, (name, *(own[head][place] for head in _BELOW), said)))
    return table


def _value(value: Any) -> str:
    return value if isinstance(value, str) else "–" if value is None else canonical_json(value)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
