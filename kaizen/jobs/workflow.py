"""What the Snakefile (`kaizen.jobs.rules`) and the command line share: parameters, plan, store and
published tree in one place.

Imports neither torch nor Snakemake.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kaizen.data.looks import describe, refuse_loss_of_colour
from kaizen.data.sources.base import Source
from kaizen.data.sources.present import holds_images
from kaizen.errors import KaizenError
from kaizen.files import canonical_json, counted, sha256_text, tell
from kaizen.jobs.foresight import no_gpu_note, refuse_early
from kaizen.jobs.raw_data import (
    dataset_facts,
    newest_arrival,
    not_appended,
    open_data,
    stream_facts,
)
from kaizen.params import Params
from kaizen.params.registry import STREAM
from kaizen.params.validation import load_params
from kaizen.plan.build import build_plan
from kaizen.plan.fingerprint import PACKAGE, code_fingerprint, installed_version
from kaizen.plan.job import Job
from kaizen.plan.layout import layout_of
from kaizen.plan.nodes import Node, Plan
from kaizen.plan.replay_check import lost_classes
from kaizen.plan.specs import Spec
from kaizen.plan.stream_nodes import lacks
from kaizen.provenance.origin import Origin
from kaizen.store.layout import Layout, check_places
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.places import default_store, main_checkout
from kaizen.store.registrations import register
from kaizen.store.store import Store
from kaizen.store.take_back import take_back


@dataclass
class Workflow:
    """An experiment in a checkout: its plan, its store, and what is still missing."""

    params: Params
    plan: Plan
    store: Store
    root: Path
    source: Source | None = None
    # Finished nodes that the store lacks, but would take back; see `look_at_store`.
    at_hand: frozenset[NodeId] = frozenset()

    @classmethod
    def from_params(cls, params: Params, root: Path) -> Self:
        """Plan an experiment in the checkout ``root``; changes nothing there and in the store.

        Raises KaizenError where the parameters, the data, or the places of either are wrong.
        """
        store = Store(default_store(root))
        raw = Path(params.dataset.path).expanduser().absolute() if params.dataset.path else None
        check_places(root, store.root, raw)
        source: Source | None
        if params.dataset.source == STREAM:
            facts = stream_facts(params.dataset, root)
            source = newest_arrival(params.dataset, facts, root)
        else:
            source = open_data(params.dataset)
            facts = dataset_facts(params.dataset, root, source)
        if source is not None:
            refuse_loss_of_colour(source, params.image)
        refuse_early(params, facts, source)
        plan = build_plan(params, facts, code_fingerprint)
        return cls(params, plan, store, root, source=source)

    @classmethod
    def from_files(cls, path: Path, overlays: Sequence[Path], root: Path) -> Self:
        """As `from_params`, from params.yaml and overlays."""
        return cls.from_params(load_params(path, overlays), root)

    @functools.cached_property
    def layout(self) -> Layout:
        """Where the plan's nodes are published."""
        return layout_of(self.plan)

    def prepare_store(self) -> None:
        """Make files as the store is shared, and take back finished nodes that it lacks."""
        self.store.follow_sharing()
        take_back(self.layout.nodes, self.store, self.root)

    def look_at_store(self) -> None:
        """Count as done what `prepare_store` would take back, and change nothing."""
        nodes = take_back(self.layout.nodes, self.store, self.root, really=False)
        self.at_hand = frozenset(nodes)

    def unseen(self) -> dict[str, Any]:
        """What results depend on and DVC does not see, wherever it lies: a hash over the raw images
        and names of classes, the versions of the packages that count for some node, and, of a
        project without code of its own, a hash over that of all nodes.
        """
        facts = canonical_json(self.plan.facts.to_json())
        names = {name for node in self.plan.nodes.values() for name in node.local.code.packages}
        versions = {name: installed_version(name) for name in sorted(names)}
        found: dict[str, Any] = {"images": sha256_text(facts), "packages": versions}
        if not (self.root / PACKAGE).is_dir():
            codes = sorted({node.code_hash for node in self.plan.nodes.values()})
            found["code"] = sha256_text(canonical_json(codes))
        return found

    def describe(self) -> list[str]:
        """For `kaizen check`: what is in the images, seen, left out and not replayed, as lines."""
        facts = self.plan.facts
        lines = []
        if facts.arrivals:
            newest = "" if self.source is None else "; of the newest that is still there:"
            lines.append(f"the stream has {counted(len(facts.arrivals), 'arrival')}{newest}")
        if self.source is not None:
            cache = main_checkout(self.root) / ".kaizen" / "checksums"
            found = self.source.found(cache) if facts.arrivals else facts.found
            lines += describe(self.source, self.params.image, found)
        for name in not_appended(self.params.dataset, facts, self.root):
            lines.append(f"{name} is not in the stream yet: `kaizen append {shlex.quote(name)}`")
        notes = [*lost_classes(self.params, facts), no_gpu_note(self.params.train.device)]
        return lines + [note for note in notes if note]

    def refuse_absent_gpu(self) -> None:
        """End the program, with exit code 2, where jobs are to compute on a GPU that this machine
        does not show; for a Snakemake that runs its jobs here, before the first.
        """
        note = no_gpu_note(self.params.train.device)
        if note and any(node.kind is not Kind.SHARDS for node in self.missing()):
            tell(note)
            raise SystemExit(2)

    def refuse_lost(self) -> None:
        """Raise KaizenError where something has to be made from images of an arrival that are gone
        or were given up, and naming it; a plan can still be looked at.
        """
        for node in self.missing():
            if retired := lacks(node):
                raise KaizenError(
                    f"{node.title} cannot be made again: it is made from {retired.title}, whose "
                    "training images were retired; take back the parameters and the code that it "
                    "was made with, or its files (`dvc pull`)"
                )
            if self.plan.facts.arrivals and node.kind is Kind.SHARDS and node.local.path:
                place = Path(os.path.abspath(self.root / node.local.path))
                if not holds_images(place):
                    raise KaizenError(
                        f"{node.title}: {place} is gone, and its shards are neither in the store "
                        "nor among the published files; put the folder back, or get the shards "
                        "(`dvc pull`)"
                    )

    def register(self, firm: bool = True) -> None:
        """Record in the store that this checkout needs the plan's nodes, so that no one collects
        them; ``firm`` where they are to be made, see `kaizen.store.registrations`.
        """
        register(self.store, self.root.absolute(), self.plan.key, self.layout.nodes, firm)

    def done(self, node: Node[Spec]) -> bool:
        """Whether a node is finished."""
        return self.store.has(node.id) or node.id in self.at_hand

    def all_done(self) -> set[NodeId]:
        """The plan's finished nodes, as `done` says of each; see `Store.finished`."""
        return self.store.finished(node.id for node in self.plan.nodes.values()) | self.at_hand

    def missing(self) -> list[Node[Spec]]:
        """Nodes that have to be made, in an order in which they can be."""
        done = self.all_done()
        return [node for node in self.plan.nodes.values() if node.id not in done]

    @functools.cached_property
    def origin(self) -> Origin:
        """The checkout and command that this was planned by."""
        return Origin(self.root, self.params)

    def job(self, node: Node[Spec]) -> Job[Spec]:
        """What the job of a node receives, with its origin."""
        return self.origin.job(node)
