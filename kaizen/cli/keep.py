"""The commands that keep the store in order: gc, verify, jobs."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaizen.cli.common import Commands, open_store, path_argument, workflow_of
from kaizen.errors import KaizenError


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add_planned(
        "gc",
        _gc,
        "Remove from the store what no checkout that uses it needs by its last plan: also what was "
        "made under another --overlay or --preset. A dry run unless --delete. Nodes of a stream "
        "that grows are kept, as their raw images may be gone.",
    )
    sub.add_argument("--delete", action="store_true", help="really remove it")
    sub.add_argument(
        "--keep",
        metavar="SIZE",
        help="only until the store has this size, the longest unused first: 20G",
    )
    sub.add_argument(
        "--streams",
        action="store_true",
        help="also what was made of streams that grow, and may not be made again",
    )
    sub.add_argument(
        "--forget",
        type=path_argument,
        metavar="CHECKOUT",
        help="a checkout that needs nothing of it any more",
    )
    sub = commands.add_planned(
        "verify", _verify, "Read every finished node of the plan; damaged ones are set aside."
    )
    sub.add_argument("--all", action="store_true", help="of the whole store")
    sub = commands.add(
        "jobs",
        _jobs,
        "Show the nodes that are being made now, by whom, and this checkout's SLURM jobs.",
    )
    sub.add_argument(
        "--cancel", action="store_true", help="end the jobs that a killed snakemake left behind"
    )


def _gc(options: argparse.Namespace) -> None:
    from kaizen.files import counted, tell
    from kaizen.store.garbage import collect, parse_size
    from kaizen.store.registrations import forget, registrations
    from kaizen.store.users import user_of

    keep = parse_size(options.keep) if options.keep is not None else None
    workflow = workflow_of(options)
    store, checkout = workflow.store, Path.cwd()
    if options.forget:
        forget(store, options.forget.absolute())
    here = user_of(store, checkout, workflow.plan.key, workflow.layout.nodes)
    if options.delete:
        workflow.register()
    found = registrations(store, here)
    planned = [(user, why) for _, user, why in found.living]
    if not any(user.plan == here.plan and user.is_of(here) for user, _ in planned):
        planned.append((here, ""))
    for user, why in planned:
        more = f"; {why}" if why else ""
        print(
            f"kept: {counted(len(user.nodes), 'node')} of {user.checkout} ({user.user} on "
            f"{user.host}){more}"
        )
    for path in found.unreadable:
        tell(
            f"{path} says of whom it is in no way that this version reads, so no node is removed "
            f"that may be its; `kaizen gc --forget {path}` if its checkout is gone"
        )
    garbage = collect(store, keep, options.delete, here, streams=options.streams)
    total = sum(item.size for item in garbage) / 1e6
    for item in garbage:
        print(f"{item.size / 1e6:10.1f} MB  {item.path}")
    verb = "removed" if options.delete else "could be removed; add --delete to do it"
    entries = "1 entry" if len(garbage) == 1 else f"{len(garbage)} entries"
    print(f"{entries}, {total:.1f} MB {verb}")


def _verify(options: argparse.Namespace) -> None:
    from kaizen.compute.cpu import other_cpu
    from kaizen.errors import NodeFailed
    from kaizen.files import counted, tell

    workflow = workflow_of(options)
    store = workflow.store
    planned_nodes = [node for node in workflow.layout.nodes if store.has(node)]
    nodes = list(store.entries()) if options.all else planned_nodes
    damaged = 0
    for node in nodes:
        try:
            store.check(node)
            if differs := other_cpu(store.read_record(node).environment):
                print(f"{node}: made by another CPU, so bits may differ here: {differs}")
        except KaizenError as error:
            damaged += 1
            tell(error)
    if damaged:
        what, them = ("node was", "it") if damaged == 1 else ("nodes were", "them")
        raise NodeFailed(
            f"{damaged} damaged {what} set aside; `snakemake --cores all` makes {them} again"
        )
    whose = "the store" if options.all else "the plan"
    read = f"{counted(len(nodes), 'finished node')} of {whose} read: whole and unaltered"
    print(read if nodes else f"no node of {whose} is finished; `kaizen plan` shows what would run")


def _jobs(options: argparse.Namespace) -> None:
    from kaizen.jobs.running import cancel, nodes_being_made
    from kaizen.store.processes import living_workflows
    from kaizen.store.scheduler import slurm_jobs

    store, checkout = open_store(), Path.cwd()
    if options.cancel:
        jobs, local = cancel(store, checkout)
        for job in jobs:
            print(f"cancelled SLURM job {job.number} ({job.state.lower()})")
        for making in local:
            print(f"asked to stop: {making}")
        if not jobs and not local:
            print("nothing to cancel")
        return
    lines = [f"snakemake here: {living}" for living in living_workflows(checkout)]
    lines += [f"{making}, in {making.holder.folder}" for making in nodes_being_made(store)]
    for job in slurm_jobs(checkout):
        targets = ", ".join(job.targets) or "no node"
        lines.append(f"SLURM job {job.number} {job.state.lower()}: {targets}")
    print("\n".join(lines) or "nothing is being made now")
