"""The nodes of the results: accuracy matrices of runs and of specialists, and the summary."""

from __future__ import annotations

from collections.abc import Sequence

from kaizen.params.registry import TRAINED
from kaizen.plan import roles
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.data_specs import DataFacts
from kaizen.plan.draft import TRAIN_PACKAGES, Draft, compute_of, step_inputs
from kaizen.plan.job import Code
from kaizen.plan.nodes import Node, Run, SpecialistSet
from kaizen.plan.specs import (
    Context,
    EvaluationSpec,
    HeadSpec,
    ReferenceEntry,
    ReplaySpec,
    RunEntry,
    Spec,
    StepSpec,
    SummarySpec,
)
from kaizen.plan.step_nodes import variant_switches
from kaizen.plan.stream_nodes import StreamNodes
from kaizen.store.node_id import Kind


def plan_evaluation(
    draft: Draft,
    data: DataNodes,
    kind: Kind,
    title: str,
    steps: Sequence[Node[StepSpec]],
    heads: Sequence[Node[HeadSpec]] = (),
) -> Node[EvaluationSpec]:
    """The evaluation of the models of ``steps``: a run's, with its analytic heads, or specialists'
    (``kind`` reference).
    """
    spec = EvaluationSpec(
        evaluation=draft.params.evaluation,
        test_crop=draft.of_method[steps[0].spec.method].image.test_crop,
        tasks=draft.tasks,
        num_classes=len(draft.facts.classes),
        compute=compute_of(steps),
        heads=heads[0].spec.kinds if heads else None,
    )
    inputs = data.inputs(range(len(draft.tasks))) | step_inputs(steps)
    if heads:
        inputs[roles.HEAD] = heads[0]
    code = Code(("kaizen.evaluation.run",), TRAIN_PACKAGES)
    return draft.node(
        kind, title, spec=spec, inputs=inputs, code=code, identities=data.identities()
    )


def plan_rows(
    draft: Draft,
    data: StreamNodes,
    name: str,
    steps: Sequence[Node[StepSpec]],
    replays: Sequence[Node[ReplaySpec]],
    heads: Sequence[Node[HeadSpec]] = (),
) -> list[Node[EvaluationSpec]]:
    """The evaluations of a run on a stream that grows, one for each step: of what arrived up to it.

    The readers that need training images read those of all tasks so far; where some of these were
    given up, the replay memory stands in for them.
    """
    rows = []
    for step in steps:
        task = step.spec.tasks[-1]
        seen = range(task + 1)
        absent = [old for old in seen if not data.has_training_images(old, task)]
        spec = EvaluationSpec(
            evaluation=draft.params.evaluation,
            test_crop=draft.of_method[step.spec.method].image.test_crop,
            tasks=[draft.tasks[task]],
            num_classes=data.class_count(task),
            compute=compute_of(steps),
            step=task,
            absent=absent or None,
            heads=heads[task].spec.kinds if heads else None,
        )
        inputs = data.inputs(seen) | {roles.step_role(task): step}
        memory = next((r for r in replays if r.spec.task == task), None)
        if absent and memory is not None:
            inputs[roles.REPLAY] = memory
        if heads:
            inputs[roles.HEAD] = heads[task]
        identities = {f"test-{old:02d}": data.identity(old, "test") for old in seen}
        identities |= {
            f"train-{old:02d}": data.identity(old, "train") for old in seen if old not in absent
        }
        title = f"evaluation after step {task} · {name}"
        code = Code(("kaizen.evaluation.row",), TRAIN_PACKAGES)
        rows.append(
            draft.node(
                Kind.EVALUATION, title, spec=spec, inputs=inputs, code=code, identities=identities
            )
        )
    return rows


def plan_summary(
    draft: Draft, data: DataNodes, runs: Sequence[Run], references: Sequence[SpecialistSet]
) -> Node[SummarySpec]:
    """Tables, figures and cards of the whole grid."""
    params = draft.params
    inputs: dict[str, Node[Spec]] = {}
    run_entries = []
    for run in runs:
        steps = {f"step-{run.name}-{task:02d}": step for task, step in enumerate(run.steps)}
        evaluations = {
            f"run-{run.name}" if len(run.evaluations) == 1 else f"run-{run.name}-{number:02d}": node
            for number, node in enumerate(run.evaluations)
        }
        inputs |= {**evaluations, **steps}
        whole = not variant_switches(params, run.point.variant).joint
        run_entries.append(
            RunEntry(
                name=run.name,
                point=run.point,
                evaluations=list(evaluations),
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
    inputs |= data.inputs(range(len(draft.tasks)))
    shards = data.shards[-1].spec
    spec = SummarySpec(
        report=params.report,
        runs=run_entries,
        references=reference_entries,
        specialists=draft.specialists,
        classes=list(draft.facts.classes),
        tasks=draft.tasks,
        context=_context(draft),
        # In which words the tasks were asked for is no part of the shards' identity.
        data=DataFacts(shards.dataset.content(), shards.labels),
        found=draft.facts.found,
        retired=[
            task for task, arrival in enumerate(draft.facts.arrivals) if arrival.retired is not None
        ]
        or None,
        deploy=None if params.deploy.head == TRAINED else params.deploy.head,
    )
    code = Code(("kaizen.report.node",), ("numpy", "pillow", "pyarrow", "vl-convert-python"))
    title = "summary: tables, figures and cards"
    return draft.node(
        Kind.SUMMARY, title, spec=spec, inputs=inputs, code=code, identities=data.identities()
    )


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
