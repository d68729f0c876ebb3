"""The commands that make something: run, publish, and node, which the workflow's rules call."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.cli.common import Commands, add_store, job_count, open_store, path_argument, workflow_of
from kaizen.errors import Interrupted, KaizenError

if TYPE_CHECKING:
    from kaizen.jobs.grid_view import View
    from kaizen.jobs.workflow import Workflow
    from kaizen.plan.job import Job
    from kaizen.store.store import Store


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add_planned(
        "run",
        _run,
        "Make all that is missing on this machine, then publish; for a machine without Snakemake.",
    )
    sub.add_argument(
        "--plan",
        type=path_argument,
        metavar="FILE",
        help="run a `kaizen plan --json` made elsewhere; nothing is published",
    )
    sub.add_argument(
        "-j",
        "--jobs",
        type=job_count,
        default=1,
        metavar="N",
        help="make up to N nodes at a time, each in a process of its own (from 1; default 1)",
    )
    # None: not given. A plan file has parameters of its own.
    sub.set_defaults(params=None)
    add_store(sub)
    sub = commands.add_planned(
        "publish",
        _publish,
        "Link the finished plan's files to data/ and results/ and show the results.",
    )
    sub.add_argument(
        "--marker",
        type=path_argument,
        metavar="FILE",
        help="write this file at the end (used by the Snakefile)",
    )
    sub.add_argument(
        "--values",
        metavar="JSON",
        help="the parameters themselves, or @FILE that holds them, instead of --params",
    )
    sub.add_argument("--quiet", action="store_true", help="do not show the results")
    sub = commands.add(
        "warm",
        _warm,
        "Wait for jobs of the Snakemake that started this, with all imported that they need; what "
        "the Snakefile calls.",
    )
    sub.add_argument("socket", type=path_argument, metavar="SOCKET")
    sub.set_defaults(in_project=False)
    sub = commands.add("node", _node, "Make one node; what the workflow's rules call.")
    sub.set_defaults(in_project=False)
    add_store(sub)
    sub.add_argument(
        "--receipt",
        type=path_argument,
        metavar="FILE",
        help="write this file once the node is finished",
    )
    sub.add_argument(
        "--spec",
        required=True,
        metavar="JSON",
        help="the node's specification, or @FILE that holds it",
    )
    sub.add_argument("--log", type=path_argument, metavar="FILE")
    sub.add_argument(
        "--quiet", action="store_true", help="let the log alone have what is no cause for concern"
    )


def _run(options: argparse.Namespace) -> None:
    from kaizen.files import sha256_text
    from kaizen.jobs.parallel import run_side_by_side
    from kaizen.params.reading import PARAMS
    from kaizen.store.layout import check_places
    from kaizen.store.registrations import register

    workflow = None
    if options.plan:
        store = open_store(options.store)
        jobs = _jobs_of_file(options, store)
    else:
        options.params = options.params or Path(PARAMS)
        workflow = workflow_of(options)
        workflow.refuse_lost()
        store = open_store(options.store)
        jobs = [workflow.job(node) for node in workflow.plan.nodes.values()]
    check_places(Path.cwd(), store.root, None)
    _check_device(job for job in jobs if not store.has(job.id))
    nodes = [job.id for job in jobs]
    # A plan from a file takes no other's place: this checkout's own still needs its nodes.
    named = sha256_text(" ".join(sorted(str(node) for node in nodes)))
    name = workflow.plan.key if workflow else f"file {named[:32]}"
    register(store, Path.cwd(), name, nodes, firm=workflow is not None)
    with _shown(jobs, store, workflow, options.jobs) as view:
        if options.jobs > 1:
            run_side_by_side(jobs, store, options.jobs, quiet=view is not None)
        else:
            _run_one_by_one(jobs, store, view)
    if workflow is not None and store.root == workflow.store.root:
        publish_and_show(workflow)


@contextlib.contextmanager
def _shown(
    jobs: list[Job[Any]], store: Store, workflow: Workflow | None, at_once: int
) -> Iterator[View | None]:
    """Show on a terminal what becomes of ``jobs``, as `kaizen watch` does; elsewhere there is no
    view.
    """
    if not sys.stderr.isatty() or all(store.has(job.id) for job in jobs):
        yield None
        return
    from kaizen.jobs.grid import Grid
    from kaizen.jobs.grid_view import View
    from kaizen.plan.memory import images_of_tasks

    images = images_of_tasks(workflow.plan) if workflow else None
    with View(Grid(jobs, store, images, at_once), sys.stderr) as view:
        view.keep_fresh()
        yield view


def _run_one_by_one(jobs: list[Job[Any]], store: Store, view: View | None) -> None:
    """Make what the store lacks in this process; raises KaizenError where a node cannot be made."""
    from kaizen.jobs.make import run_job
    from kaizen.jobs.parallel import log_of
    from kaizen.jobs.stop import StopRequest
    from kaizen.training.reporter import PLAIN_INTERVAL_S, reporter

    stop = StopRequest()
    stop.listen()
    for job in jobs:
        if store.has(job.id):
            continue
        stop.now_making(job.id.kind)
        # A view shows the epochs, and notes go above it.
        interval = math.inf if view else PLAIN_INTERVAL_S
        with reporter(job.title, log_of(job), sys.stderr, interval) as progress:
            run_job(job, store, progress, stop)
        if stop():
            raise Interrupted("stopped between two nodes; the same command goes on")


def _jobs_of_file(options: argparse.Namespace, store: Store) -> list[Job[Any]]:
    """The jobs of a plan file, in an order in which they can be made.

    Raises KaizenError where they cannot be: an input is neither among them nor in ``store``, or the
    code here is not that of their keys.
    """
    from kaizen.plan.plan_file import in_order, read_plan
    from kaizen.provenance.origin import check_codes, with_origin

    if options.params is not None or options.overlay:
        raise KaizenError(
            f"--plan: {options.plan} holds all parameters, so --params, --overlay and --preset "
            "would have no effect; leave them out, or leave out --plan"
        )
    jobs = in_order(read_plan(options.plan), store.has, str(options.plan))
    check_codes(job for job in jobs if not store.has(job.id))
    return with_origin(jobs, Path.cwd())


def _check_device(jobs: Iterable[Job[Any]]) -> None:
    """Raise KaizenError where one of ``jobs`` asks for a GPU that this machine lacks, before any is
    run.
    """
    from kaizen.plan.specs import EvaluationSpec, ReplaySpec, StepSpec

    specs = (job.spec for job in jobs)
    wanted = (s.compute for s in specs if isinstance(s, StepSpec | ReplaySpec | EvaluationSpec))
    if any(compute is not None and compute.device == "cuda" for compute in wanted):
        from kaizen.compute.device import choose_compute

        choose_compute("cuda", "float32", 1)


def _publish(options: argparse.Namespace) -> None:
    from kaizen.files import counted
    from kaizen.jobs.workflow import Workflow
    from kaizen.params.validation import validate
    from kaizen.store.arguments import read_argument
    from kaizen.store.publish import write_marker

    if options.values:
        values = validate(read_argument("--values", options.values), "--values")
        workflow = Workflow.from_params(values, Path.cwd())
        workflow.prepare_store()
    else:
        workflow = workflow_of(options)
    missing = workflow.missing()
    if missing:
        # Appended while the run was at work, which knew nothing of it.
        grown = ", as the stream has grown meanwhile" if workflow.plan.facts.arrivals else ""
        raise KaizenError(
            f"{counted(len(missing), 'node')} {'is' if len(missing) == 1 else 'are'} not finished"
            f"{grown}, the first: {missing[0].title}; run `snakemake --cores all`, which goes on"
        )
    workflow.register()
    publish_and_show(workflow, options.quiet)
    if options.marker:
        write_marker(options.marker, workflow.plan.key)


def publish_and_show(workflow: Workflow, quiet: bool = False) -> None:
    """Publish a finished plan's files, write the page about them and, unless ``quiet``, print the
    results.
    """
    from kaizen.files import tell, write_json
    from kaizen.page.build import write_page
    from kaizen.provenance.known import Known
    from kaizen.report.terminal import print_results
    from kaizen.store.layout import INPUTS
    from kaizen.store.publish import publish

    publish(workflow.layout, workflow.store, workflow.root, tell)
    # As DVC's first stage does, so that `dvc commit` finds it after a run without DVC.
    write_json(workflow.root / INPUTS, workflow.unseen())
    write_page(Known.at(workflow.root, workflow.store), workflow.origin)
    if not quiet:
        print_results(workflow.root)


def _warm(options: argparse.Namespace) -> None:
    from kaizen.cli import main
    from kaizen.jobs.warm import serve

    serve(options.socket, main)


def _node(options: argparse.Namespace) -> None:
    from kaizen.files import printable, write_json
    from kaizen.jobs.given import finished_by_another, remove_spec
    from kaizen.jobs.make import run_job
    from kaizen.jobs.stop import StopRequest
    from kaizen.plan.job import read_job
    from kaizen.store.arguments import read_argument
    from kaizen.training.reporter import reporter

    store = open_store(options.store)
    if node := finished_by_another(store, options.spec):
        if options.receipt:
            write_json(options.receipt, node.to_json())
        return
    job = read_job(read_argument("--spec", options.spec), "--spec")
    stop = StopRequest()
    stop.now_making(job.id.kind)
    stop.listen()
    with reporter(job.title, options.log, sys.stderr, quiet=options.quiet) as progress:
        try:
            made = run_job(job, store, progress, stop)
        except KaizenError as error:
            progress.alarm(printable(str(error)))
            raise SystemExit(error.exit_code) from None
        if options.receipt:
            write_json(options.receipt, job.id.to_json())
        remove_spec(store, options.spec)
        if made:
            progress.note("done")
        else:
            progress.alarm("was done already")
