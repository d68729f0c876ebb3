"""What the rules of the Snakefile ask: a job's files, its specification, what is to be published.

The Snakemake that a user starts has the plan (`PlannedRules`). One that a cluster's job starts
reads the same Snakefile, for one node: its specification is in the store, so that it need not plan
a whole grid again (`JobRules`). Imports no Snakemake.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.files import canonical_json, explain_write_errors, sha256_text, write_json
from kaizen.jobs.given import read_given, spec_file
from kaizen.jobs.shown import Shown, shown_files
from kaizen.jobs.workflow import Workflow
from kaizen.page.current import is_current
from kaizen.params import Params
from kaizen.plan.job import Job
from kaizen.plan.memory import images_of_tasks, job_memory_mb
from kaizen.plan.nodes import Node
from kaizen.plan.specs import Spec
from kaizen.store.arguments import in_file
from kaizen.store.layout import MANIFEST
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.publish import is_published
from kaizen.store.store import Store, names_in

_RECEIPTS = ".kaizen/receipts"


def receipt(node: NodeId) -> str:
    """What Snakemake declares as a job's output: a file in this checkout that says that the node is
    finished.

    Not the node itself: before a job, and after a failed one, Snakemake deletes its output, and in
    a store that several workflows share it may be another one's by then.
    """
    return f"{_RECEIPTS}/{node}.json"


def pattern(kind: str) -> str:
    """A rule's output: the receipt of the node whose key the wildcard is."""
    return f"{_RECEIPTS}/{kind}/{{key}}.json"


class WhenNeeded(str):
    """A text that is an argument of a job's command, and that ``make`` is called for whenever such
    a command is put together.

    Snakemake asks for the parameters of all jobs as it looks at the graph; commands are put
    together for jobs that are about to run.
    """

    make: Callable[[], object]

    def __new__(cls, text: str, make: Callable[[], object]) -> WhenNeeded:
        """The text, with what makes it true."""
        new = super().__new__(cls, text)
        new.make = make
        return new

    def __format__(self, specification: str) -> str:
        self.make()
        return super().__format__(specification)


@dataclass
class PlannedRules(Workflow):
    """A workflow as the rules ask for it; ``edges`` lets finished nodes keep their inputs, ``only``
    is the one node that was asked for. ``is_dry`` says whether nothing is to be written.
    """

    edges: bool = False
    only: Node[Spec] | None = None
    is_dry: Callable[[], bool] = lambda: False

    @functools.cached_property
    def _finished(self) -> set[NodeId]:
        """What was finished when Snakemake began to ask: its graph is drawn once."""
        return self.all_done()

    def sort_out_receipts(self) -> None:
        """Remove receipts of nodes that the store lacks; with edges shown, give every finished node
        one.
        """
        missing = self.missing()
        for kind, nodes in itertools.groupby(missing, key=lambda node: node.kind):
            there = names_in(self.root / _RECEIPTS / kind)
            for node in nodes:
                path = self.root / receipt(node.id)
                if path.name in there:
                    with explain_write_errors(path):
                        path.unlink(missing_ok=True)
        if self.edges:
            for done in self.all_done():
                path = self.root / receipt(done)
                write_json(path, done.to_json())
                # All of one age, so that none looks newer than what was made from it.
                os.utime(path, (0, 0))

    def inputs(self, wildcards: Any) -> list[str]:
        """A rule's input: nothing when the node is finished, so that nothing can make it stale."""
        node = self.plan.nodes[wildcards.key]
        parents = (parent.id for parent in node.inputs.values())
        return _inputs(node.id, parents, self._finished.__contains__, self.edges)

    def spec(self, wildcards: Any) -> str:
        """A rule's parameters: "@" and the path of a file that holds them as canonical JSON, see
        `kaizen.jobs.given`; written for the jobs that Snakemake runs, when it does.
        """
        node = self.plan.nodes[wildcards.key]
        path = spec_file(self.store.root, node.id)

        def write() -> None:
            # Snakemake puts commands together once more for its own records, when the job is done.
            if not self.is_dry() and not self.store.has(node.id):
                # One that an earlier plan left has the same key, but perhaps another origin.
                in_file(canonical_json(self.job(node).to_json()), path)

        return WhenNeeded(f"@{path}", write)

    def title(self, wildcards: Any) -> str:
        """What a job does, for Snakemake's log."""
        return self.plan.nodes[wildcards.key].title

    def memory_mb(self, wildcards: Any) -> int:
        """What a job asks the cluster for."""
        return job_memory_mb(
            self.plan.nodes[wildcards.key].spec, self.params.runtime, images_of_tasks(self.plan)
        )

    def targets(self) -> list[str]:
        """The receipts that publishing needs; a finished node needs no job."""
        nodes = self.plan.nodes.values() if self.edges else self.missing()
        return [receipt(node.id) for node in nodes]

    @functools.cached_property
    def _up_to_date(self) -> bool:
        """Whether all is made and published; reads no record where something is to be made."""
        if self.missing() or not is_published(self.layout, self.store, self.root):
            return False
        return is_current(self.root)

    def shown(self) -> list[Shown]:
        """What `snakemake --report` shows: of a published plan its page, figures, tables, cards."""
        return shown_files(self.root) if self.only is None and self._up_to_date else []

    def publication(self) -> list[str]:
        """The marker that publishing makes, of a name never used before; the manifest when the tree
        is this plan's.

        Where one node is asked for, its receipt alone.
        """
        if self.only is not None:
            return [receipt(self.only.id)]
        if not self.edges and self._up_to_date:
            return [MANIFEST]
        return [marker(f"{self.plan.key}-{time.time_ns()}-{os.getpid()}")]


class JobRules:
    """What the Snakemake that a cluster's job starts is told of its node, and of no other.

    ``plan`` plans the whole, for a node whose specification is not in the store: another workflow
    finished it meanwhile, and removed it.
    """

    def __init__(
        self, params: Params, store: Store, plan: Callable[[], PlannedRules], edges: bool = False
    ) -> None:
        """Read nothing yet."""
        self.params, self.store, self.edges = params, store, edges
        self.is_dry = lambda: False
        self._planned = functools.cache(plan)
        self._job = functools.cache(self._read)

    def _read(self, key: str) -> Job[Any] | None:
        for kind in Kind:
            job = read_given(self.store, NodeId(kind, key))
            if job is not None:
                return job
        return None

    def inputs(self, wildcards: Any) -> list[str]:
        """See `PlannedRules.inputs`."""
        job = self._job(wildcards.key)
        if job is None:
            return self._planned().inputs(wildcards)
        return _inputs(job.id, job.inputs.values(), self.store.has, self.edges)

    def spec(self, wildcards: Any) -> str:
        """See `PlannedRules.spec`; what the first Snakemake wrote is not written again."""
        job = self._job(wildcards.key)
        if job is None:
            return self._planned().spec(wildcards)
        return f"@{spec_file(self.store.root, job.id)}"

    def title(self, wildcards: Any) -> str:
        """See `PlannedRules.title`."""
        job = self._job(wildcards.key)
        return self._planned().title(wildcards) if job is None else job.title

    def memory_mb(self, wildcards: Any) -> int:
        """See `PlannedRules.memory_mb`; the first Snakemake has asked already."""
        job = self._job(wildcards.key)
        if job is None:
            return self._planned().memory_mb(wildcards)
        return job_memory_mb(job.spec, self.params.runtime, None)

    def targets(self) -> list[str]:
        """None: the first Snakemake publishes."""
        return []

    def publication(self) -> list[str]:
        """A marker that nobody asks a job for."""
        return [marker("by-the-first-snakemake")]

    def shown(self) -> list[Shown]:
        """None: the first Snakemake makes the report."""
        return []


Rules = PlannedRules | JobRules


# Of the two below Snakemake would take braces for wildcards if they were plain texts.


def store_root(rules: Rules) -> Callable[[Any], str]:
    """The store's folder."""
    return lambda wildcards: str(rules.store.root)


def values(rules: Rules, root: Path) -> Callable[[Any], str]:
    """For the job that publishes: "@" and a file of this checkout with the parameters as canonical
    JSON.
    """

    def argument(wildcards: Any) -> str:
        text = canonical_json(dataclasses.asdict(rules.params))
        path = root / ".kaizen" / "params" / f"{sha256_text(text)}.json"
        return WhenNeeded(f"@{path}", lambda: None if rules.is_dry() else in_file(text, path))

    return argument


def marker(name: str) -> str:
    """The file, in this checkout, that the job which publishes makes at its end."""
    return f".kaizen/published/{name}.json"


def _inputs(
    node: NodeId, parents: Iterable[NodeId], done: Callable[[NodeId], bool], edges: bool
) -> list[str]:
    if done(node) and not edges:
        return []
    return [receipt(parent) for parent in parents if edges or not done(parent)]
