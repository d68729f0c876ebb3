"""The nodes of analytic heads: behind the steps of a run, which know nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kaizen.params import HeadsParams, registry
from kaizen.plan import roles
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.draft import TRAIN_PACKAGES, Draft, compute_of
from kaizen.plan.job import Code
from kaizen.plan.nodes import Node
from kaizen.plan.specs import HeadSpec, Spec, StepSpec
from kaizen.store.node_id import Kind


def plan_heads(
    draft: Draft, data: DataNodes, name: str, steps: Sequence[Node[StepSpec]]
) -> list[Node[HeadSpec]]:
    """The analytic heads of a run: one node for all its steps, or on a stream that grows one for
    each; none where the grid asks for the trained head alone.
    """
    kinds = [kind for kind in registry.ANALYTIC_HEADS if kind in draft.params.grid.heads]
    if not kinds:
        return []
    if not draft.facts.arrivals:
        return [_plan_head(draft, data, f"heads · {name}", kinds=kinds, steps=steps, first=0)]
    nodes: list[Node[HeadSpec]] = []
    for step in range(len(steps)):
        title = f"heads after step {step} · {name}"
        node = _plan_head(
            draft,
            data,
            title,
            kinds=kinds,
            steps=steps[: step + 1],
            first=step,
            prior=nodes[-1] if nodes else None,
        )
        nodes.append(node)
    return nodes


def plan_statistics(
    draft: Draft,
    data: DataNodes,
    name: str,
    steps: Sequence[Node[StepSpec]],
    before: Sequence[Node[HeadSpec]],
) -> Node[HeadSpec]:
    """What the step that follows ``steps`` replays pseudo-features of, from that of the step before
    it, the last of ``before``: statistics of the encoder's features and no head, so that those of
    `grid.heads` train nothing again.
    """
    last = len(steps) - 1
    title = f"statistics after step {last} · {name}"
    prior = before[-1] if before else None
    return _plan_head(draft, data, title, kinds=[], steps=steps, first=last, prior=prior)


def _plan_head(
    draft: Draft,
    data: DataNodes,
    title: str,
    *,
    kinds: list[str],
    steps: Sequence[Node[StepSpec]],
    first: int,
    prior: Node[HeadSpec] | None = None,
) -> Node[HeadSpec]:
    """The heads of ``steps[first:]``, from those of the step before them."""
    made = steps[first:]
    tasks = [task for step in made for task in step.spec.tasks]
    spec = HeadSpec(
        kinds=kinds,
        heads=effective_heads(draft.params.heads, kinds),
        first=first,
        tasks=[step.spec.tasks for step in made],
        fraction=made[0].spec.train.data_fraction,
        compute=compute_of(steps),
    )
    inputs: dict[str, Node[Spec]] = data.inputs(tasks)
    for number, step in enumerate(steps):
        if number >= first - 1:
            inputs[roles.step_role(number)] = step
        if number >= first and roles.REPLAY in step.inputs:
            inputs[roles.replay_role(number)] = step.inputs[roles.REPLAY]
    if prior is not None:
        inputs[roles.PRIOR] = prior
    modules = ("kaizen.evaluation.head", *(registry.ANALYTIC_HEADS[kind] for kind in kinds))
    code = Code(modules, TRAIN_PACKAGES)
    return draft.node(
        Kind.HEAD,
        title,
        spec=spec,
        inputs=inputs,
        code=code,
        identities=data.train_identities(tasks),
    )


def effective_heads(params: HeadsParams, kinds: Sequence[str]) -> HeadsParams:
    """The parameters, those that have no effect at their defaults: a change of them changes no
    key.
    """
    defaults = HeadsParams()
    if params.drift == "none":
        params = replace(params, residual=defaults.residual, map_ridge=defaults.map_ridge)
    if not kinds:
        # The classifier reads the encoder's features themselves.
        params = replace(params, random_features=0)
    if not params.random_features:
        params = replace(params, seed=defaults.seed)
    if not {"lda", "ridge"} & set(kinds):
        params = replace(params, shrinkage=defaults.shrinkage)
    return params
