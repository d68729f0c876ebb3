"""The commands that make something: run, publish, and node, which the workflow's rules call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.cli.common import Commands, add_store, open_store, parse_json, workflow_of
from kaizen.cli.look import print_results
from kaizen.errors import Interrupted, KaizenError

if TYPE_CHECKING:
    from kaizen.jobs.workflow import Workflow


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add_planned(
        "run",
        _run,
        "Make all that is missing in this one process, then publish; for a machine without "
        "Snakemake.",
    )
    sub.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="run a `kaizen plan --json` made elsewhere; nothing is published",
    )
    add_store(sub)
    sub = commands.add_planned(
        "publish",
        _publish,
        "Link the finished plan's files to data/ and results/ and show the results.",
    )
    sub.add_argument(
        "--marker",
        type=Path,
        metavar="FILE",
        help="write this file at the end (used by the Snakefile)",
    )
    sub.add_argument(
        "--values", metavar="JSON", help="the parameters themselves, instead of --params"
    )
    sub = commands.add("node", _node, "Make one node; what the workflow's rules call.")
    add_store(sub)
    sub.add_argument(
        "--receipt", type=Path, metavar="FILE", help="write this file once the node is finished"
    )
    sub.add_argument(
        "--spec",
        required=True,
        metavar="JSON",
        help="the node's specification, or @FILE that holds it",
    )
    sub.add_argument("--log", type=Path, metavar="FILE")


def _run(options: argparse.Namespace) -> None:
    from kaizen.jobs.make import StopRequest, check_spec, run_node
    from kaizen.provenance.origin import add_origin
    from kaizen.training.reporter import reporter

    if options.plan:
        from kaizen.files import read_json

        workflow = None
        plan = read_json(options.plan)
        specs = plan.get("nodes") if isinstance(plan, dict) else None
        if not isinstance(specs, list):
            raise KaizenError(f"{options.plan} is not a plan; write one with `kaizen plan --json`")
        specs = [
            check_spec(spec, f"{options.plan}: node {number}") for number, spec in enumerate(specs)
        ]
        add_origin(specs, Path.cwd())
    else:
        workflow = workflow_of(options)
        workflow.register()
        specs = [workflow.specification(node) for node in workflow.plan.nodes.values()]
    store = open_store(options.store)
    _check_device(spec for spec in specs if not store.has(spec["kind"], spec["key"]))
    stop = StopRequest()
    stop.listen()
    for spec in specs:
        if store.has(spec["kind"], spec["key"]):
            continue
        stop.now_making(spec["kind"])
        log = Path("logs") / spec["kind"] / f"{spec['key']}.log"
        with reporter(spec["title"], log, sys.stderr, live=True) as job:
            run_node(spec, store, job, stop)
        if stop():
            raise Interrupted("stopped between two nodes; the same command goes on")
    if workflow is not None and store.root == workflow.store.root:
        _publish_and_show(workflow)


def _check_device(specs: Iterable[dict[str, Any]]) -> None:
    """Raise KaizenError where a node of ``specs`` asks for a GPU that this machine lacks, before
    any is made.
    """
    if any(
        "cuda" in (spec["params"].get("device"), spec["params"].get("train", {}).get("device"))
        for spec in specs
    ):
        from kaizen.compute.device import choose_compute

        choose_compute("cuda", "float32", 1)


def _publish(options: argparse.Namespace) -> None:
    from kaizen.files import write_json
    from kaizen.jobs.workflow import Workflow
    from kaizen.params.validation import validate

    if options.values:
        workflow = Workflow.from_params(
            validate(parse_json("--values", options.values), "--values"), Path.cwd()
        )
    else:
        workflow = workflow_of(options)
    missing = workflow.missing()
    if missing:
        raise KaizenError(
            f"{len(missing)} nodes are not finished, the first: {missing[0].title}; run `snakemake "
            "--cores all`"
        )
    workflow.register()
    _publish_and_show(workflow)
    if options.marker:
        for old in (
            *options.marker.parent.glob("*.json"),
            *options.marker.parent.glob(".*.json.*.tmp"),
        ):
            old.unlink()
        write_json(options.marker, {"plan": workflow.plan.key})


def _publish_and_show(workflow: Workflow) -> None:
    from kaizen.store.publish import publish

    publish(workflow.plan, workflow.store, workflow.root)
    print_results()


def _node(options: argparse.Namespace) -> None:
    from kaizen.files import canonical_json, read_json, write_json
    from kaizen.jobs.make import StopRequest, check_spec, run_node
    from kaizen.training.reporter import reporter

    text = options.spec
    if text.startswith("@"):
        text = canonical_json(read_json(Path(text[1:])))
    spec = check_spec(parse_json("--spec", text), "--spec")
    stop = StopRequest()
    stop.now_making(spec["kind"])
    stop.listen()
    with reporter(spec["title"], options.log, sys.stderr, live=False) as job:
        try:
            made = run_node(spec, open_store(options.store), job, stop)
        except KaizenError as error:
            job.note(str(error))
            raise SystemExit(error.exit_code) from None
        if options.receipt:
            write_json(options.receipt, {"kind": spec["kind"], "key": spec["key"]})
        job.note("done" if made else "was done already")
