"""The commands that look at results: show, compare, explain."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kaizen.cli.common import Commands, open_store, path_argument, refuse_to_replace
from kaizen.errors import KaizenError
from kaizen.store.layout import REPORT_PAGE

if TYPE_CHECKING:
    from kaizen.params import Params
    from kaizen.provenance.known import Known


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add("show", _show, "Show the published results: table, figures' paths, page.")
    sub.add_argument(
        "--open", action="store_true", help="open the page, results/report.html, in a browser"
    )
    sub = commands.add(
        "compare",
        _compare,
        "Show runs side by side, those of other plans too: the parameters that differ, then how "
        "they did.",
    )
    sub.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a run as in results/evaluations/, or an evaluation's key; none: all that the store "
        "and the published tree have",
    )
    sub.add_argument("--sort", choices=("CA", "FA", "F", "name"), help="default: as they are named")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print all of it as JSON")
    form.add_argument(
        "--html", type=path_argument, metavar="FILE", help="write it as a page that can be sorted"
    )
    sub = commands.add_planned(
        "explain",
        _explain,
        "Show what a result is, its value and the command that makes it again; then where it comes "
        "from: commit, parameters, data, code, environment, wall time.",
    )
    sub.add_argument(
        "asked",
        metavar="WHAT",
        help="a file or folder of results/ or data/, a node's key, or a number: "
        "results/metrics.json:simclr.kaizen.CA",
    )
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--tree", action="store_true", help="also all that it was made from")
    form.add_argument("--json", action="store_true", help="print all of it as JSON")
    form.add_argument(
        "--write-plan",
        type=path_argument,
        metavar="FILE",
        help="write it and all that it was made from as a plan for `kaizen run --plan FILE`",
    )


def _show(options: argparse.Namespace) -> None:
    from kaizen.report.terminal import print_results

    print_results(Path.cwd())
    if options.open:
        _open_page()


def _open_page() -> None:
    """Open the page in the user's browser; raises KaizenError where there is no page."""
    import webbrowser

    from kaizen.files import tell

    page = Path.cwd() / REPORT_PAGE
    if not page.is_file():
        raise KaizenError(f"{REPORT_PAGE} is not here; `kaizen publish` writes it")
    if not webbrowser.open(page.as_uri()):
        tell(f"no browser was found here; open {page} with one")


def _compare(options: argparse.Namespace) -> None:
    """Print runs side by side, or write a page of them; changes nothing else."""
    from kaizen.files import counted, write_text
    from kaizen.page.experiments import experiments_page, is_experiments_page
    from kaizen.provenance.compare import compare, find_runs, in_order
    from kaizen.provenance.known import Known
    from kaizen.provenance.show_comparison import print_comparison

    if options.html:
        refuse_to_replace(options.html, "--html", is_experiments_page)
    known = Known.at(Path.cwd(), open_store())
    runs = find_runs(options.runs, known)
    if not runs:
        raise KaizenError("there is no run's evaluation here yet; `kaizen run` makes some")
    found = in_order(compare(runs, known), options.sort)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.html:
        write_text(options.html, experiments_page(found))
        print(f"{options.html}: {counted(len(runs), 'run')}")
    else:
        print_comparison(found)


def _explain(options: argparse.Namespace) -> None:
    """Print where a result comes from, or write the plan that makes it again; changes nothing in
    store and published tree.
    """
    from kaizen.provenance.explain import explain
    from kaizen.provenance.known import Known
    from kaizen.provenance.origin import Origin
    from kaizen.provenance.show import print_explanation

    root = Path.cwd()
    known = Known.at(root, open_store())
    if options.write_plan is not None:
        _write_plan(options.asked, known, options.write_plan)
        return
    values, planned = _current_plan(options.params, options.overlay, root)
    found = explain(options.asked, known, Origin(root, values), planned)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_explanation(found, with_tree=options.tree)


def _write_plan(asked: str, known: Known, plan_file: Path) -> None:
    """Write the plan that makes ``asked`` again to ``plan_file``."""
    from kaizen.files import counted, write_json
    from kaizen.plan.plan_file import read_plan
    from kaizen.provenance.again import make_plan
    from kaizen.provenance.lineage import Lineage
    from kaizen.provenance.subject import find_subject

    refuse_to_replace(plan_file, "--write-plan", read_plan)
    subject = find_subject(asked, known)
    node = known.node(subject.node)
    if node is None:
        raise KaizenError(f"the record of {subject.node} is not here; `dvc pull` may help")
    line = Lineage(node, known)
    write_json(plan_file, make_plan(line.nodes, line.lost))
    print(
        f"{plan_file}: {counted(len(line.nodes), 'node')}; `kaizen run --plan {plan_file}` makes "
        "what is missing"
    )


def _current_plan(
    params: Path, overlays: Sequence[Path], root: Path
) -> tuple[Params | None, set[str] | None]:
    """The present parameters and their plan's keys; None where they are wrong, or the raw data is
    not on this machine.
    """
    from kaizen.jobs.raw_data import dataset_facts
    from kaizen.params.validation import load_params
    from kaizen.plan.build import build_plan
    from kaizen.plan.fingerprint import code_fingerprint

    values = None
    try:
        values = load_params(params, overlays)
        plan = build_plan(values, dataset_facts(values.dataset, root), code_fingerprint)
        return values, set(plan.nodes)
    except (KaizenError, OSError):
        return values, None
