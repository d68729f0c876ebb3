"""The nodes of training: a step on one task, or jointly on several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kaizen.params import (
    VARIANTS,
    FeatureDistillParams,
    ImageParams,
    NetworkParams,
    OptimisationParams,
    Params,
    VariantParams,
    registry,
)
from kaizen.plan import roles
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.draft import TRAIN_PACKAGES, Draft
from kaizen.plan.effective import effective
from kaizen.plan.head_nodes import effective_heads
from kaizen.plan.job import Code, Local
from kaizen.plan.nodes import Node
from kaizen.plan.specs import HeadSpec, PrototypesSpec, ReplaySpec, StepSpec, narrowed
from kaizen.store.node_id import Kind

# What a specialist is trained with: no prior step, nothing to replay.
ALONE = VariantParams(False, False, False)


def plan_step(
    draft: Draft,
    data: DataNodes,
    title: str,
    *,
    method: str,
    seed: int,
    tasks: Sequence[int],
    switches: VariantParams = ALONE,
    prior: Node[StepSpec] | None = None,
    replay: Node[ReplaySpec] | None = None,
    statistics: Node[HeadSpec] | None = None,
) -> Node[StepSpec]:
    """A training step of ``method`` on ``tasks``, from the step before it and a replay shard,
    or the ``statistics`` of pseudo-features.
    """
    params = draft.of_method[method]
    distilled = None if prior is None else switches
    # In a grid many steps differ in no more than what is set below.
    alike = (method, distilled, replay is not None, statistics is not None)
    if alike not in draft.step_specs:
        draft.step_specs[alike] = _common(
            params, method, distilled, replay is not None, statistics is not None
        )
    spec = replace(
        draft.step_specs[alike],
        seed=seed,
        tasks=list(tasks),
        num_classes=len(draft.facts.classes),
    )
    head = params.model.classifier_head
    if head == "growing" or (head == "auto" and draft.facts.arrivals):
        spec = _growing(spec, draft.tasks, prior)
    inputs = data.inputs(tasks)
    modules = ["kaizen.training.step", registry.METHODS[method].target]
    if prior is not None:
        inputs[roles.PRIOR] = prior
        spec = _separated(spec, draft.tasks)
    if spec.feature_distill is not None:
        modules.append(registry.FEATURE_DISTILLERS[spec.feature_distill.distiller].target)
    if replay is not None:
        inputs[roles.REPLAY] = replay
    if statistics is not None:
        inputs[roles.HEAD] = statistics
        modules.append(registry.REPLAY_POLICIES[params.replay.policy].target)
    packages = TRAIN_PACKAGES + registry.backbone_packages(params.model.backbone)
    runtime = params.runtime
    local = Local(
        save_every_epochs=runtime.save_every_epochs,
        processes=runtime.processes,
        hosts=runtime.hosts,
        live=runtime.live,
        live_accuracy=runtime.live_accuracy,
    )
    code = Code(tuple(modules), packages)
    return draft.node(
        Kind.STEP,
        title,
        spec=spec,
        inputs=inputs,
        code=code,
        identities=data.train_identities(tasks),
        local=local,
    )


def _common(
    params: Params,
    method: str,
    distilled: VariantParams | None,
    replays: bool,
    prototypes: bool,
) -> StepSpec:
    """What the steps of a method have in common, of those with the same switches (``distilled``,
    None without a prior step) and with or without a replay shard or ``prototypes``; seed, tasks and
    classes are to be set. Parameters without an effect are at their defaults
    (`kaizen.plan.effective`).
    """
    spec = StepSpec(
        method=method,
        seed=0,
        tasks=[],
        num_classes=0,
        ssl=getattr(params.ssl, method, None),
        model=narrowed(params.model, NetworkParams),
        image=narrowed(params.image, ImageParams),
        augment=params.augment,
        train=narrowed(params.train, OptimisationParams),
        stem_padding_2=params.reference_compat.stem_padding_2,
    )
    if method == registry.SUPERVISED:
        # The classifier's loss is the only one: it has to reach the encoder.
        spec = replace(spec, train=replace(spec.train, classifier_gradient=True))
    if params.reference_compat.simsiam_predictor_warmup and registry.METHODS[method].static_heads:
        spec = replace(spec, static_warmup=True)
    if distilled is not None:
        spec = _distilled(spec, params, distilled)
    if replays:
        spec = replace(
            spec,
            replay_batch_size=params.train.replay_batch_size,
            longest_loader=params.reference_compat.epoch_length,
        )
    if prototypes:
        heads = effective_heads(params.heads, [])
        spec = replace(
            spec,
            replay_batch_size=params.train.replay_batch_size,
            prototypes=narrowed(heads, PrototypesSpec),
        )
    return effective(spec)


def variant_switches(params: Params, name: str) -> VariantParams:
    """The switches of a variant: those written in params, else the built-in ones."""
    return params.variants[name] if name in params.variants else VARIANTS[name]


def _growing(
    spec: StepSpec, classes: Sequence[Sequence[int]], prior: Node[StepSpec] | None
) -> StepSpec:
    """The step of a classifier that has logits for the classes seen so far only."""
    before: list[int] = []
    if prior is not None:
        before = prior.spec.logits or list(range(prior.spec.num_classes))
    new = [label for task in spec.tasks for label in classes[task] if label not in before]
    logits = before + new
    return replace(
        spec,
        # Classes that are numbered as they arrive have their own logits.
        logits=None if logits == list(range(len(logits))) else logits,
        num_classes=len(logits),
        new_logits=len(new) if prior else None,
    )


def _distilled(spec: StepSpec, params: Params, switches: VariantParams) -> StepSpec:
    """The step with what it distils from the prior one."""
    changes: dict[str, Any] = {}
    if switches.feature_distill:
        changes["feature_distill"] = _feature_distill(params, spec.method)
    if switches.classifier_distill:
        changes["classifier_distill"] = params.distill.classifier
    if changes:
        changes["teacher_train_mode"] = params.reference_compat.teacher_train_mode
    return replace(spec, **changes)


def _separated(spec: StepSpec, classes: Sequence[Sequence[int]]) -> StepSpec:
    """The step with the labels whose logits its classifier's losses tell apart; with the default
    where either part is empty, or both are all logits, as then nothing is told apart.
    """
    soft = spec.classifier_distill
    if soft is None or soft.logits == "all":
        return spec
    own = sorted({label for task in spec.tasks for label in classes[task]})
    old = sorted({label for labels in classes[: spec.tasks[0]] for label in labels})
    if not own or not old or len(own) == len(old) == spec.num_classes:
        return replace(spec, classifier_distill=replace(soft, logits="all"))
    return replace(spec, old_labels=old, task_labels=own)


def _feature_distill(params: Params, method: str) -> FeatureDistillParams:
    """The feature distillation of a method: distiller and weight resolved, the other distillers'
    own parameters at their defaults, as they have no effect.
    """
    feature = params.distill.feature
    chosen = feature.distiller
    if chosen == "auto":
        chosen = registry.SSL_METHODS[method].distiller
    weight = feature.weight
    if weight is None:
        weight = registry.FEATURE_DISTILLERS[chosen].weight
    defaults = FeatureDistillParams()
    others = registry.FEATURE_DISTILLERS.keys() - {chosen}
    unread = {name: getattr(defaults, name) for name in others if hasattr(defaults, name)}
    return replace(feature, distiller=chosen, weight=weight, **unread)
