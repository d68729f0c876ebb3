"""The table of results on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.errors import KaizenError
from kaizen.evaluation.results import REFERENCE
from kaizen.files import printable, read_json, shortened
from kaizen.report.reference_rows import beaten_sentences
from kaizen.report.series import HEAD_SHORT, HEADLINE, LOWER_IS_BETTER, METRIC_SHORT, method_label
from kaizen.report.tables import Metrics, cells, in_order, present_heads
from kaizen.store.layout import REPORT_PAGE

if TYPE_CHECKING:
    from rich.console import Console

_NARROW = 64  # columns
REPORT_FILE = "report.md"


def print_results(root: Path) -> None:
    """Print the published table, where figures and report are and, last, the page.

    Raises KaizenError where nothing is published in the checkout ``root``.
    """
    summary = Path("results/summary")
    fix = "run in the project's folder; `snakemake --cores all` or `kaizen run` makes the results"
    metrics = read_json(root / summary / "metrics_full.json", fix=fix)
    figures = sorted((root / summary / "figures").glob("*.png"))
    try:
        print_table(metrics, [figure.relative_to(root) for figure in figures])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise KaizenError(
            f"{root / summary / 'metrics_full.json'} is not what a summary writes "
            f"({shortened(repr(error))}); `snakemake --cores all` publishes it again"
        ) from error
    if (root / summary / REPORT_FILE).is_file():
        print(f"Report   {summary / REPORT_FILE}", flush=True)
    if (root / REPORT_PAGE).is_file():
        print(f"Page     {REPORT_PAGE} (`kaizen show --open`)", flush=True)


def print_table(metrics: Metrics, figures: Sequence[Path], console: Console | None = None) -> None:
    """Print CA, FA, F and FT of the trained classifier in percent, bold where it is better than
    every other of its method (`kaizen.report.winners`), below it those of the analytic heads; then
    where the figures are.

    ``metrics`` is what `write_summary` returned, or metrics_full.json read back.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    seeds = max(
        entry["classifier"]["final_accuracy"]["n"]
        for block in metrics.values()
        for entry in block.values()
    )
    note = (
        f"% of the test images; ± 95 % interval over {seeds} seeds"
        if seeds > 1
        else "% of the test images; one seed"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    # Where a terminal is narrow a method is a line of its own, and texts are folded: cut to "Ka…"
    # all variants would look alike.
    narrow = console.width < _NARROW
    if not narrow:
        table.add_column("Method")
    table.add_column("Variant", overflow="fold", min_width=7)
    for metric in HEADLINE:
        arrow = "\N{DOWNWARDS ARROW}" if metric in LOWER_IS_BETTER else "\N{UPWARDS ARROW}"
        table.add_column(
            f"{METRIC_SHORT[metric]} {arrow}", justify="right", overflow="fold", min_width=5
        )
    for method, entries in in_order(metrics):
        name = method_label(method)
        reference = method == REFERENCE
        for key, row in cells(entries, "classifier", HEADLINE).items():
            plain = "dim" if reference else ""
            texts = [Text(text, style="bold green" if best else plain) for text, best in row]
            if narrow and name:
                table.add_row(Text(name, style="bold"))
            label = Text(printable(str(entries[key]["label"])))
            table.add_row(*([] if narrow else [Text(name)]), label, *texts)
            name = ""
            for head, head_texts in () if reference else _of_heads(metrics, entries, key):
                label = Text(f"  {HEAD_SHORT[head]} head", style="dim")
                table.add_row(*([] if narrow else [Text("")]), label, *map(Text, head_texts))
        table.add_section()
    console.print(table)
    console.print(
        "CA continual accuracy, FA final accuracy, F forgetting, FT forward transfer;",
        highlight=False,
    )
    console.print(note, highlight=False)
    for sentence in beaten_sentences(metrics):
        console.print(f"Note: {sentence}", markup=False, highlight=False)
    if figures:
        more = f" and {len(figures) - 1} more beside it" if len(figures) > 1 else ""
        text = f"Figures  {figures[0]}{more}"
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def _of_heads(
    metrics: Metrics, entries: Mapping[str, Mapping[str, Any]], key: str
) -> Iterator[tuple[str, list[str]]]:
    """The analytic heads of a series, each with its cells."""
    for head in present_heads(metrics)[1:]:
        texts = cells(entries, head, HEADLINE)
        if key in texts:
            yield head, [text for text, _ in texts[key]]
