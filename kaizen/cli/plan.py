"""The commands that look at parameters and plan and make nothing: plan, check, preset, schema."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kaizen.cli.common import Commands, add_params, job_count, path_argument, planned, preset_file

SCHEMA = Path("workflow/schemas/params.schema.json")


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add_planned(
        "plan",
        _plan,
        "Show the nodes of the experiment: done, to run and why, shared by how many runs, and how "
        "long it will take.",
    )
    sub.add_argument(
        "-j",
        "--jobs",
        type=job_count,
        metavar="N",
        help="estimate for N nodes at a time; default: as many as this machine has cores for",
    )
    sub.add_argument(
        "--json", action="store_true", help="print them as JSON, with every node's specification"
    )
    sub.add_argument(
        "--inputs",
        type=path_argument,
        metavar="FILE",
        help="write what results depend on besides parameters and code, which is a hash of the raw "
        "images and the versions of packages, to a file (used by dvc.yaml)",
    )
    commands.add_planned(
        "check",
        _check,
        "Check the parameters and the data they name; print what the images are, what the network "
        "will see, and what was left out.",
    )
    sub = commands.add(
        "preset",
        _preset,
        "Write presets into params.yaml, whose comments stay; then `dvc exp run` or `snakemake`.",
    )
    sub.add_argument(
        "names",
        nargs="+",
        type=preset_file,
        metavar="NAME",
        help="presets/NAME.yaml, laid one over the other",
    )
    add_params(sub)
    commands.add("schema", _schema, f"Write the JSON Schema of params.yaml to {SCHEMA}.")


def _plan(options: argparse.Namespace) -> None:
    workflow = planned(options)
    if options.inputs:
        from kaizen.files import write_json

        write_json(options.inputs, workflow.unseen())
        return
    workflow.look_at_store()
    if options.json:
        nodes = [
            workflow.job(node).to_json() | {"done": workflow.done(node)}
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

    print_plan(workflow, options.jobs)


def _check(options: argparse.Namespace) -> None:
    for line in planned(options).describe():
        print(line)


def _preset(options: argparse.Namespace) -> None:
    from kaizen.params.reading import write_overlays
    from kaizen.params.validation import load_params

    load_params(options.params, options.names)
    write_overlays(options.params, options.names)
    names = ", ".join(str(name) for name in options.names)
    print(f"wrote {names} into {options.params}; `kaizen plan` shows what would run")


def _schema(options: argparse.Namespace) -> None:
    from kaizen.files import write_json
    from kaizen.params.validation import json_schema

    write_json(SCHEMA, json_schema())
    print(f"wrote {SCHEMA}")
