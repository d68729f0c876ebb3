"""The command line. Light imports only: what computes is imported by the command that needs it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen import __version__
from kaizen.errors import Interrupted, KaizenError

if TYPE_CHECKING:
    from kaizen.jobs.workflow import Workflow
    from kaizen.store.store import Store

SCHEMA = Path("workflow/schemas/params.schema.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 a fault of the run, 2 bad input, 143 interrupted
    (resumable).
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KaizenError as error:
        print(f"kaizen: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("kaizen: interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        print("kaizen: out of memory; free some and run the same command again", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; a closed stdout would complain again at
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # Whatever no module foresaw: a disk that fails, a file that vanished or is not ours.
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"kaizen: {where}{error.strerror or error}; fix that and run the same command again",
            file=sys.stderr,
        )
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kaizen",
        description="Self-supervised continual learning. `snakemake --cores all` runs the "
        "experiment of params.yaml; "
        "these commands look at it, run it in one process, and tidy up.",
    )
    parser.add_argument("--version", action="version", version=f"kaizen {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, function: Any, text: str, planned: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        if planned:
            sub.add_argument(
                "--params",
                type=Path,
                default=Path("params.yaml"),
                metavar="FILE",
                help="default: params.yaml",
            )
            sub.add_argument(
                "--overlay",
                type=Path,
                action="append",
                default=[],
                metavar="FILE",
                help="laid over the parameters",
            )
            sub.add_argument(
                "--preset",
                type=_preset,
                action="append",
                dest="overlay",
                metavar="NAME",
                help="laid over the parameters: presets/NAME.yaml",
            )
        return sub

    sub = command(
        "plan", _plan, "Show the nodes of the experiment: done, to run, shared by how many runs."
    )
    sub.add_argument(
        "--json", action="store_true", help="print them as JSON, with every node's specification"
    )
    command(
        "check",
        _check,
        "Check the parameters and the data they name; tell what the images are, what the network "
        "will see, and what was left out.",
    )
    sub = command(
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
    sub.add_argument(
        "--store", type=Path, metavar="FOLDER", help="default: KAIZEN_STORE, else .kaizen/store"
    )
    sub = command(
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
    sub = command(
        "preset",
        _adopt,
        "Write presets into params.yaml, whose comments stay; then `dvc exp run` or `snakemake`.",
        False,
    )
    sub.add_argument(
        "names",
        nargs="+",
        type=_preset,
        metavar="NAME",
        help="presets/NAME.yaml, laid one over the other",
    )
    sub.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        metavar="FILE",
        help="default: params.yaml",
    )
    command(
        "show", _show, "Show the published results: table and paths of the figures.", planned=False
    )
    sub = command(
        "explain",
        _explain,
        "Tell where a result comes from: commit, parameters, data, code, environment, what it was "
        "made from, wall "
        "time, and the command that makes it again.",
    )
    sub.add_argument(
        "asked",
        metavar="WHAT",
        help="a file or folder of results/ or data/, a node's key, or a number: "
        "results/metrics.json:simclr.kaizen.CA",
    )
    sub.add_argument("--json", action="store_true", help="print all of it as JSON")
    sub.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        dest="plan_file",
        help="write it and all that it was made from as a plan for `kaizen run --plan FILE`",
    )
    sub = command(
        "gc",
        _gc,
        "Remove from the store what no checkout that uses it needs by its plan; a dry run unless "
        "--delete.",
    )
    sub.add_argument("--delete", action="store_true", help="really remove it")
    sub.add_argument(
        "--keep",
        metavar="SIZE",
        help="only until the store has this size, the longest unused first: 20G",
    )
    sub.add_argument(
        "--forget",
        type=Path,
        metavar="CHECKOUT",
        help="a checkout that needs nothing of it any more",
    )
    sub = command(
        "verify", _verify, "Read every finished node of the plan; damaged ones are set aside."
    )
    sub.add_argument("--all", action="store_true", help="of the whole store")
    sub = command(
        "jobs",
        _jobs,
        "Show the nodes that are being made now, by whom, and this checkout's SLURM jobs.",
        False,
    )
    sub.add_argument(
        "--cancel", action="store_true", help="end the jobs that a killed snakemake left behind"
    )
    command("schema", _schema, f"Write the JSON Schema of params.yaml to {SCHEMA}.", planned=False)
    sub = command("node", _node, "Make one node; what the workflow's rules call.", planned=False)
    sub.add_argument(
        "--store", type=Path, metavar="FOLDER", help="default: KAIZEN_STORE, else .kaizen/store"
    )
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
    return parser


def _workflow(options: argparse.Namespace) -> Workflow:
    from kaizen.jobs.workflow import Workflow

    return Workflow.from_files(options.params, options.overlay, Path.cwd())


def _store(chosen: Path | None = None) -> Store:
    from kaizen.store.store import Store, default_store

    store = Store(chosen.absolute() if chosen else default_store(Path.cwd()))
    store.follow_sharing()
    return store


def _plan(options: argparse.Namespace) -> None:
    workflow = _workflow(options)
    if options.json:
        nodes = [
            workflow.specification(node) | {"done": workflow.done(node)}
            for node in workflow.plan.nodes.values()
        ]
        print(
            json.dumps(
                {"plan": workflow.plan.key, "store": str(workflow.store.root), "nodes": nodes},
                indent=1,
            )
        )
        return
    from kaizen.jobs.plan_tree import print_plan

    print_plan(workflow)


def _preset(name: str) -> Path:
    """The file of a preset, named with or without folder and suffix."""
    return Path(name) if name.endswith((".yaml", ".yml")) else Path("presets") / f"{name}.yaml"


def _adopt(options: argparse.Namespace) -> None:
    from kaizen.params.validation import adopt, load_params

    load_params(options.params, options.names)
    adopt(options.params, options.names)


def _check(options: argparse.Namespace) -> None:
    for line in _workflow(options).describe():
        print(line)


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
        workflow = _workflow(options)
        workflow.register()
        specs = [workflow.specification(node) for node in workflow.plan.nodes.values()]
    store = _store(options.store)
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
            validate(_parse("--values", options.values), "--values"), Path.cwd()
        )
    else:
        workflow = _workflow(options)
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
    _show(argparse.Namespace())


def _show(options: argparse.Namespace) -> None:
    from kaizen.files import read_json
    from kaizen.report.terminal import print_table

    summary = Path("results/summary")
    metrics = read_json(summary / "metrics_full.json")
    print_table(metrics, sorted((summary / "figures").glob("*.png")))


def _explain(options: argparse.Namespace) -> None:
    from kaizen.provenance.command import explain_command

    explain_command(options.asked, options.params, options.overlay, options.json, options.plan_file)


def _gc(options: argparse.Namespace) -> None:
    from kaizen.store.garbage import collect, forget, parse_size, users

    workflow = _workflow(options)
    keep = parse_size(options.keep) if options.keep else None
    if options.forget:
        forget(workflow.store, options.forget.absolute())
    workflow.register()
    for user in users(workflow.store):
        print(f"kept: {len(user.nodes)} nodes of {user.checkout} ({user.user} on {user.host})")
    garbage = collect(workflow.store, keep, options.delete)
    total = sum(item.size for item in garbage) / 1e6
    for item in garbage:
        print(f"{item.size / 1e6:10.1f} MB  {item.path}")
    verb = "removed" if options.delete else "could be removed; add --delete to do it"
    print(f"{len(garbage)} entries, {total:.1f} MB {verb}")


def _verify(options: argparse.Namespace) -> None:
    from kaizen.errors import NodeFailed

    workflow = _workflow(options)
    nodes = [(node.kind, node.key) for node in workflow.plan.nodes.values() if workflow.done(node)]
    damaged = 0
    for kind, key in list(workflow.store.entries()) if options.all else nodes:
        try:
            workflow.store.check(kind, key)
        except KaizenError as error:
            damaged += 1
            print(f"kaizen: {error}", file=sys.stderr)
    if damaged:
        raise NodeFailed(
            f"{damaged} damaged nodes were set aside; `snakemake --cores all` makes them again"
        )


def _jobs(options: argparse.Namespace) -> None:
    from kaizen.jobs.running import cancel, living_workflows, nodes_being_made
    from kaizen.store.scheduler import slurm_jobs

    store, checkout = _store(), Path.cwd()
    if options.cancel:
        jobs, local = cancel(store, checkout)
        for job in jobs:
            print(f"cancelled SLURM job {job.number} ({job.state.lower()})")
        for making in local:
            print(f"asked to stop: {making}")
        if not jobs and not local:
            print("nothing to cancel")
        return
    for living in living_workflows(checkout):
        print(f"snakemake here: {living}")
    for making in nodes_being_made(store):
        print(f"{making}, in {making.holder.folder}")
    for job in slurm_jobs(checkout):
        nodes = ", ".join(f"{kind} {key}" for kind, key in job.nodes) or "no node"
        print(f"SLURM job {job.number} {job.state.lower()}: {nodes}")


def _schema(options: argparse.Namespace) -> None:
    from kaizen.files import write_json
    from kaizen.params.validation import json_schema

    write_json(SCHEMA, json_schema())


def _parse(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise KaizenError(
            f"{option} is not JSON ({error}); take it from `kaizen plan --json`"
        ) from error


def _node(options: argparse.Namespace) -> None:
    from kaizen.files import canonical_json, read_json, write_json
    from kaizen.jobs.make import StopRequest, check_spec, run_node
    from kaizen.training.reporter import reporter

    text = options.spec
    if text.startswith("@"):
        text = canonical_json(read_json(Path(text[1:])))
    spec = check_spec(_parse("--spec", text), "--spec")
    stop = StopRequest()
    stop.now_making(spec["kind"])
    stop.listen()
    with reporter(spec["title"], options.log, sys.stderr, live=False) as job:
        try:
            made = run_node(spec, _store(options.store), job, stop)
        except KaizenError as error:
            job.note(str(error))
            raise SystemExit(error.exit_code) from None
        if options.receipt:
            write_json(options.receipt, {"kind": spec["kind"], "key": spec["key"]})
        job.note("done" if made else "was done already")
