"""Parameters -> nodes and keys: a pure function, without torch, files or clocks.

A node's key hashes its kind, the parameters it depends on, the fingerprint of its code and its
inputs' identities, and nothing else (`kaizen.store.node_id.node_key`). The key is part of the
node's path in the store, so a node that exists is right and one that is missing has to be made.
"""

from __future__ import annotations

from collections.abc import Iterator

from kaizen.params import Params, ReplayUnit
from kaizen.params.registry import SUPERVISED
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.draft import Draft, Fingerprint
from kaizen.plan.head_nodes import plan_heads, plan_statistics
from kaizen.plan.nodes import DatasetFacts, Node, Plan, Run, SpecialistSet
from kaizen.plan.point import PROTOTYPES, Point
from kaizen.plan.replay_check import refuse_empty_replay, replays_images
from kaizen.plan.result_nodes import plan_evaluation, plan_rows, plan_summary
from kaizen.plan.specs import HeadSpec, ReplaySpec, StepSpec
from kaizen.plan.step_nodes import plan_step, variant_switches
from kaizen.plan.stream_nodes import StreamNodes
from kaizen.store.node_id import Kind


def build_plan(
    params: Params, facts: DatasetFacts, fingerprint: Fingerprint, ahead: bool = False
) -> Plan:
    """Expand validated parameters into the plan.

    ``fingerprint(modules, packages)`` gives the hash of the code that a node runs. With ``ahead``
    it has the replay shards of a step that is still to come, too, which the newest arrival's
    training images decide; it has them in any case once these were given up.
    Raises KaizenError where the split does not fit the classes, or a replay size comes to no image.
    """
    draft = Draft(params, facts, fingerprint)
    refuse_empty_replay(draft)
    data = StreamNodes(draft) if facts.arrivals else DataNodes(draft)
    given_up = [arrival.replay_retired for arrival in facts.arrivals]
    given_up += [arrival.retired for arrival in facts.arrivals[-1:]]
    ahead = ahead or len(facts.arrivals) in given_up
    runs = tuple(_run(draft, data, point, ahead) for point in grid_points(params))
    seeds = dict.fromkeys((run.point.method, run.point.seed) for run in runs)
    # On a stream that grows they are evaluated again with every arrival, so only where asked for.
    compared = seeds if draft.specialists or not facts.arrivals else {}
    references = tuple(_specialists(draft, data, method, seed) for method, seed in compared)
    summary = plan_summary(draft, data, runs, references)
    return Plan(params, facts, draft.nodes, tuple(data.shards), runs, references, summary)


def grid_points(params: Params) -> Iterator[Point]:
    """The grid: method x variant x replay size x seed; a variant without replay has one size,
    None, and one without SSL one method, `SUPERVISED`, after the others.
    """
    given = params.replay.sizes()
    unit: ReplayUnit = next(iter(given), "proportion")
    sizes: list[float | None] = [*given.get(unit, [])]
    replayed: ReplayUnit = unit
    if not replays_images(params):
        replayed, sizes = PROTOTYPES, [None]
    for method in (*params.grid.methods, SUPERVISED):
        for variant in params.grid.variants:
            switches = variant_switches(params, variant)
            if switches.self_supervised is (method == SUPERVISED):
                continue
            for size in sizes if switches.replay else [None]:
                for seed in params.grid.seeds:
                    of_point = replayed if switches.replay else unit
                    yield Point(method, variant, size, of_point, seed)


def _run(draft: Draft, data: DataNodes, point: Point, ahead: bool) -> Run:
    """A point's steps, replay shards and evaluation; with ``ahead`` the next step's replay shard
    too.
    """
    switches = variant_switches(draft.params, point.variant)
    name = f"{point.label} · seed {point.seed}"
    method, seed = point.method, point.seed
    steps: list[Node[StepSpec]] = []
    replays: list[Node[ReplaySpec]] = []
    statistics: list[Node[HeadSpec]] = []
    if switches.joint:
        tasks = range(len(draft.tasks))
        steps.append(
            plan_step(
                draft,
                data,
                f"all tasks · {name}",
                method=method,
                seed=seed,
                tasks=tasks,
                switches=switches,
            )
        )
    else:
        for task in range(len(draft.tasks)):
            replay = data.replay(point, steps, replays) if task > 0 and point.replay_size else None
            title = f"step {task} · {name}" if task else f"step 0 · {method} · seed {seed}"
            prior = steps[-1] if steps else None
            if prior is not None and point.prototypes:
                statistics.append(plan_statistics(draft, data, name, steps, statistics))
            steps.append(
                plan_step(
                    draft,
                    data,
                    title,
                    method=method,
                    seed=seed,
                    tasks=(task,),
                    switches=switches,
                    prior=prior,
                    replay=replay,
                    statistics=statistics[-1] if statistics else None,
                )
            )
            replays += [replay] if replay else []
        if ahead and point.replay_size:
            replays.append(data.replay(point, steps, replays))
        if draft.facts.arrivals and point.prototypes:
            # The next step's, while the newest arrival's training images are there.
            statistics.append(plan_statistics(draft, data, name, steps, statistics))
    kept = tuple(replay for replay in replays if not replay.given_up)
    heads = plan_heads(draft, data, name, steps)
    if isinstance(data, StreamNodes):
        evaluations = plan_rows(draft, data, name, steps, replays, heads)
    else:
        title = f"evaluation · {name}"
        evaluations = [plan_evaluation(draft, data, Kind.EVALUATION, title, steps, heads)]
    return Run(point, tuple(steps), kept, tuple(evaluations), tuple(heads), tuple(statistics))


def _specialists(draft: Draft, data: DataNodes, method: str, seed: int) -> SpecialistSet:
    """Specialists and a random network; without specialists, step 0 alone stands for the network's
    shape.
    """
    tasks = range(len(draft.tasks)) if draft.specialists else range(1)
    name = f"{method} · seed {seed}"
    steps = tuple(
        plan_step(
            draft,
            data,
            f"specialist {task} · {name}" if task else f"step 0 · {name}",
            method=method,
            seed=seed,
            tasks=(task,),
        )
        for task in tasks
    )
    title = f"specialists' evaluation · {name}"
    evaluation = plan_evaluation(draft, data, Kind.REFERENCE, title, steps)
    return SpecialistSet(method, seed, steps, evaluation)
