"""What the Snakefile is read with: what its configuration asks for, and the command
that every rule runs.
Imports no Snakemake.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import tell
from kaizen.jobs.rules import JobRules, PlannedRules
from kaizen.params import Params, merge
from kaizen.params.reading import PARAMS, check_size, read_files
from kaizen.params.scalars import resolved
from kaizen.params.validation import validate
from kaizen.plan.nodes import Node, Plan
from kaizen.plan.specs import Spec
from kaizen.store.layout import check_store
from kaizen.store.places import default_store
from kaizen.store.store import Store

# What every rule runs; in no key, so that a new option makes no result again.
JOB_COMMAND = (
    "exec python -m kaizen node --store {params.store:q} --receipt {output:q} --log {log:q} "
    "--spec {params.spec:q} {params.quiet}"
)


def use_this_environment(checkout: str) -> None:
    """Let Snakemake's jobs run this Python and this checkout's code, whether or not its environment
    is activated.
    """
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
    code = [checkout, os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, code))


def rules_of_config(
    settings: Any, root: Path, is_dry: Callable[[], bool] = lambda: False
) -> PlannedRules:
    """The workflow that Snakemake's ``settings`` of its configuration ask for, ready to run; for
    the Snakefile, which may be read for a dry run (``is_dry``, known once it was read).

    Reads params.yaml and the files of `--configfile` itself: Snakemake would take the last of two
    equal keys, and numbers as YAML 1.1 has them. Bad parameters end the program with one message
    and exit code 2, before any job.
    """
    with _one_message():
        params, edges, only = _asked_for(settings, root)
        rules = PlannedRules.from_params(params, root)
        rules.prepare_store()
        rules.refuse_lost()
        rules.register(firm=False)
        rules.only = _node_named(only, rules.plan) if only else None
        rules.edges, rules.is_dry = edges, is_dry
        rules.sort_out_receipts()
    rules.origin.tell_jobs()
    # The plan stays as long as this process. Snakemake's own objects make the collector of cyclic
    # garbage go through all that there is, again and again.
    gc.freeze()
    return rules


def rules_of_job(settings: Any, root: Path) -> JobRules:
    """As `rules_of_config`, for the Snakemake that a cluster's job starts: it plans nothing, unless
    its node's specification is not in the store.
    """

    def plan() -> PlannedRules:
        with _one_message():
            rules = PlannedRules.from_params(params, root)
            rules.prepare_store()
            rules.edges = edges
            return rules

    with _one_message():
        params, edges, _ = _asked_for(settings, root)
        store = Store(default_store(root))
        check_store(store.root)
        store.follow_sharing()
        return JobRules(params, store, plan, edges)


@contextlib.contextmanager
def _one_message() -> Iterator[None]:
    """End the program with one message where something is wrong."""
    try:
        yield
    except (KaizenError, OSError) as error:
        tell(error)
        raise SystemExit(getattr(error, "exit_code", 2)) from None


def _asked_for(settings: Any, root: Path) -> tuple[Params, bool, str]:
    """The parameters, whether all edges are to be shown, and the one node asked for, or ""."""
    check_size(settings.config, "--config")
    given = resolved(dict(settings.config))
    edges = str(given.pop("edges", "false")).lower() == "true"
    only = str(given.pop("node", ""))
    overlays = [Path(file) for file in settings.configfiles]
    files = overlays if settings.replace_workflow_config else [root / PARAMS, *overlays]
    if overlays and not files[0].exists():
        files = overlays
    values = read_files(files)
    named = [os.path.relpath(file, root) for file in files] + (["--config"] if given else [])
    return validate(merge(values, given), " + ".join(named)), edges, only


def _node_named(name: str, plan: Plan) -> Node[Spec]:
    """The node of a plan that ``name``, <kind>/<key>, stands for; raises KaizenError where there is
    none.
    """
    kind, _, key = name.partition("/")
    node = plan.nodes.get(key)
    if node is None or node.kind != kind:
        raise KaizenError(
            f"--config node={name}: the plan of these parameters has no such node; name one as "
            "<kind>/<key>, as `kaizen explain` does, with the parameters and the code that it was "
            "made with"
        )
    return node
