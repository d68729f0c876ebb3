"""The plan as it is being made: what its parts share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from kaizen.data.split import Stream, make_stream
from kaizen.params import Params, for_method
from kaizen.params.registry import SUPERVISED
from kaizen.params.typed import Shared
from kaizen.plan import roles
from kaizen.plan.job import Code, Local
from kaizen.plan.nodes import DatasetFacts, Node
from kaizen.plan.specs import ComputeSpec, Spec, StepSpec, spec_json
from kaizen.store.node_id import Kind, NodeId, node_key

# The hash of the code that a node runs, from its entry modules and packages.
Fingerprint = Callable[[tuple[str, ...], tuple[str, ...]], str]

DATA_PACKAGES = ("numpy", "pillow")
TRAIN_PACKAGES = ("numpy", "pillow", "torch")

# The function that makes a kind of node counts for it; how a job is started and locked does not.
MAKER = "kaizen.jobs.makers#_{}"

S = TypeVar("S", bound=Spec)


def stream_of(params: Params, facts: DatasetFacts) -> Stream:
    """The tasks: those that arrived, or what the dataset is divided into; raises KaizenError where
    the split does not fit its classes.
    """
    if facts.arrivals:
        return Stream("arrival", [arrival.labels for arrival in facts.arrivals], [])
    return make_stream(params.split, facts.classes, facts.domains)


class Draft:
    """Parameters, facts and stream of a plan, and its nodes, each key once: runs share them."""

    def __init__(self, params: Params, facts: DatasetFacts, fingerprint: Fingerprint) -> None:
        """Divide the classes into tasks; raises KaizenError where the split does not fit them."""
        self.params = params
        self.facts = facts
        # A grid asks for the same few again and again, and each reads sources and packages'
        # metadata.
        self.fingerprint = functools.cache(fingerprint)
        self.stream = stream_of(params, facts)
        self.tasks = self.stream.classes
        self.of_method = {
            method: for_method(params, method) for method in (*params.grid.methods, SUPERVISED)
        }
        self.nodes: dict[str, Node[Spec]] = {}
        # Specifications that differ in seed and tasks only, and the JSON of what they share: a
        # grid has few, however many nodes.
        self.step_specs: dict[Hashable, StepSpec] = {}
        self._json_of = Shared()
        specialists = params.grid.specialists
        self.specialists = not facts.arrivals if specialists is None else specialists

    def node(
        self,
        kind: Kind,
        title: str,
        *,
        spec: S,
        inputs: Mapping[str, Node[Spec]],
        code: Code,
        identities: Mapping[str, str],
        local: Local | None = None,
    ) -> Node[S]:
        """Make a node, or return the one of the same key.

        Its key holds its inputs' keys, but of `shards` only ``identities``: those of the tasks
        that it reads.
        """
        prior = {role: node.key for role, node in inputs.items() if node.kind is not Kind.SHARDS}
        identities = prior | dict(identities)
        code = Code((*code.modules, MAKER.format(kind)), code.packages)
        code_hash = self.fingerprint(code.modules, code.packages)
        key = node_key(kind, spec_json(spec, self._json_of), code_hash, identities)
        if key not in self.nodes:
            local = replace(local or Local(), code=code)
            node_id = NodeId(kind, key)
            self.nodes[key] = Node(node_id, title, code_hash, spec, inputs, identities, local)
        # Of one key, so of one kind and specification.
        found: Node[S] = self.nodes[key]  # type: ignore[assignment]
        return found


def step_inputs(steps: Sequence[Node[StepSpec]]) -> dict[str, Node[Spec]]:
    """The models of a run's steps, by their roles."""
    return {roles.step_role(task): node for task, node in enumerate(steps)}


def compute_of(steps: Sequence[Node[StepSpec]]) -> ComputeSpec:
    """Where and how a job that uses these steps' models computes: as they did."""
    return steps[0].spec.compute
