# The experiment of params.yaml. `kaizen plan` shows its nodes; kaizen/plan/build.py says how they come about.
#
#   raw data ─> shards ─> step 0 ──> step 1 ──> step 2 …      each step of a run also reads its own task's shard
#                 │         │        ↑   │      ↑   │
#                 └─────────┼── replay 1 ┼─ replay 2│         rows of the earlier tasks' shards; the policy herding
#                           │            │          │         also looks at the features of the steps before
#                           └────────────┴──────────┴─> evaluation ───────┐    one per run; all test shards
#                    specialists (steps without a prior) ─> reference ────┴─> summary ─> publish
#
# Analytic heads, where `grid.heads` asks for some, stand between a run's steps and its evaluation; they read its shards too.
#
# The edges come with the plan (`kz.inputs`). A rule says what one kind of node asks of the machine.
import sys
from pathlib import Path

from snakemake.utils import min_version

sys.path.insert(0, workflow.basedir)

from kaizen.jobs import warm
from kaizen.store.processes import record_workflow
from kaizen.jobs.snakefile import (
    JOB_COMMAND,
    rules_of_config,
    rules_of_job,
    use_this_environment,
)
from kaizen.jobs.rules import marker, pattern, store_root, values
from kaizen.jobs.snakemake_terminal import quiet_terminal, says_all, show_published

min_version("9.0")


report: "workflow/report/workflow.rst"


# Kaizen reads it itself, strictly. Named here, Snakemake takes it along to where jobs run.
workflow.configfiles.append("params.yaml")

use_this_environment(workflow.basedir)
terminal = None
if workflow.is_main_process:
    record_workflow(Path.cwd())
    # A job elsewhere says nothing here, and Snakemake says where it is.
    if workflow.local_exec and not says_all():
        terminal = quiet_terminal(logger, lambda: workflow.dryrun)
# For the jobs: what is in their logs need not be in this terminal.
QUIET = "--quiet" if terminal else ""


# `--config edges=true` lets finished nodes keep their inputs, so that --dag and --report show the whole graph;
# `--config node=<kind>/<key>` makes that node alone and what it lacks, and publishes nothing.
kz = (
    rules_of_config(workflow.config_settings, Path.cwd(), lambda: workflow.dryrun)
    if workflow.is_main_process
    else rules_of_job(workflow.config_settings, Path.cwd())
)


if terminal:
    terminal.show(kz)


# Braces in the checkout's path are none of a pattern's.
ENVIRONMENT = f"{workflow.basedir}/workflow/envs/kaizen.yaml".replace(
    "{", "{{"
).replace("}", "}}")


# Not for a dry run, which must not let go of what the checkout's last run needs.
onstart:
    if workflow.is_main_process:
        kz.register()


wildcard_constraints:
    key="[0-9a-f]{32}",


include: "workflow/rules/node.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


onstart:
    if workflow.is_main_process and workflow.local_exec:
        kz.refuse_absent_gpu()
        warm.start(kz.missing(), kz.params.train.threads)
    if terminal:
        terminal.at_start()


# The table comes last; where nothing is left to do, `terminal` sees to it.
onsuccess:
    if terminal:
        terminal.at_end()
    elif workflow.is_main_process:
        show_published(kz)


localrules:
    all,
    publish,


rule all:
    """Everything that params.yaml asks for, published under data/ and results/."""
    default_target: True
    input:
        local(kz.publication()),
        # Of a published plan; nothing makes them here, `snakemake --report` shows them.
        [
            report(
                local(one.path),
                caption=one.caption,
                category=one.category,
                labels=one.labels,
            )
            for one in kz.shown()
        ],
