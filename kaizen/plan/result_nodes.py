"""The nodes of the results: accuracy matrices of runs and of specialists, and the summary."""

from __future__ import annotations

from collections.abc import Sequence

from kaizen.plan import roles
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.draft import TRAIN_PACKAGES, Draft, compute_of, step_inputs
from kaizen.plan.job import Code
from kaizen.plan.nodes import Node, Run, SpecialistSet
from kaizen.plan.specs import (
    Context,
    DataFacts,
    EvaluationSpec,
    ReferenceEntry,
    RunEntry,
    Spec,
    StepSpec,
    SummarySpec,
)
from kaizen.store.node_id import Kind


def plan_evaluation(
    draft: Draft, data: DataNodes, kind: Kind, title: str, steps: Sequence[Node[StepSpec]]
) -> Node[EvaluationSpec]:
    """The evaluation of the models of ``steps``: a run's, or specialists' (``kind`` reference)."""
    spec = EvaluationSpec(
        evaluation=draft.params.evaluation,
        test_crop=draft.of_method[steps[0].spec.method].image.test_crop,
        tasks=draft.tasks,
        num_classes=len(draft.facts.classes),
        compute=compute_of(steps),
    )
    inputs: dict[str, Node[Spec]] = {roles.SHARDS: data.shards, **step_inputs(steps)}
    code = Code(("kaizen.evaluation.run",), TRAIN_PACKAGES)
    return draft.node(kind, title, spec, inputs, code, data.identities())


def plan_summary(
    draft: Draft, data: DataNodes, runs: Sequence[Run], references: Sequence[SpecialistSet]
) -> Node[SummarySpec]:
    """Tables, figures and cards of the whole grid."""
    params = draft.params
    inputs: dict[str, Node[Spec]] = {}
    run_entries = []
    for run in runs:
        steps = {f"step-{run.name}-{task:02d}": step for task, step in enumerate(run.steps)}
        inputs |= {f"run-{run.name}": run.evaluation, **steps}
        whole = len(run.steps) == len(draft.tasks)
        run_entries.append(
            RunEntry(
                name=run.name,
                point=run.point,
                input=f"run-{run.name}",
                steps=list(steps),
                # The figure of the loss terms shows the first seed of each series.
                history=whole and run.point.seed == params.grid.seeds[0],
            )
        )
    reference_entries = []
    for reference in references:
        role = f"reference-{reference.name}"
        inputs[role] = reference.evaluation
        reference_entries.append(ReferenceEntry(reference.method, reference.seed, role))
    inputs[roles.SHARDS] = data.shards
    # How a shard is stored is no part of its identity, nor in which words its tasks were asked
    # for.
    dataset = {name: value for name, value in data.dataset().items() if name != "compression"}
    spec = SummarySpec(
        report=params.report,
        runs=run_entries,
        references=reference_entries,
        specialists=params.grid.specialists,
        classes=list(draft.facts.classes),
        tasks=draft.tasks,
        context=_context(draft),
        data=DataFacts(dataset, data.labels()),
        found=draft.facts.found,
    )
    code = Code(("kaizen.report.node",), ("matplotlib", "numpy", "pyarrow"))
    title = "summary: tables, figures and cards"
    return draft.node(Kind.SUMMARY, title, spec, inputs, code, data.identities())


def _context(draft: Draft) -> Context:
    params = draft.params
    return Context(
        dataset=params.dataset.source,
        classes=len({label for labels in draft.tasks for label in labels}),
        tasks=len(draft.tasks),
        epochs=params.train.epochs,
        batch_size=params.train.batch_size,
        data_fraction=params.train.data_fraction,
        backbone=params.model.backbone,
        image_size=params.image.size,
        labels_fraction=params.labels.fraction,
        replay_policy=params.replay.policy,
    )
