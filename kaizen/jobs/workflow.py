"""What the Snakefile and the command line share: parameters, plan, store and published tree in one
place.

Imports neither torch nor Snakemake.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.data.sources import open_source
from kaizen.data.tracking import tracked_by_dvc
from kaizen.errors import KaizenError
from kaizen.files import canonical_json, write_json, write_text
from kaizen.params import DatasetParams, Params
from kaizen.params.validation import load_params, read_yaml, validate
from kaizen.plan.build import build_plan
from kaizen.plan.fingerprint import code_fingerprint
from kaizen.plan.nodes import DatasetFacts, Node, Plan
from kaizen.provenance.origin import Origin
from kaizen.store.garbage import register
from kaizen.store.publish import MANIFEST, is_published, take_back
from kaizen.store.store import Store, default_store, main_checkout

# Linux takes 128 KiB per argument, and quoting lengthens the text.
MAX_ARGUMENT = 64 * 1024


def dataset_facts(dataset: DatasetParams, root: Path) -> DatasetFacts:
    """Names and checksums of the raw data, remembered under .kaizen by size and times.

    Raises KaizenError where the data are absent or badly laid out.
    """
    try:
        source = open_source(dataset)
    except KaizenError as error:
        folder = Path(dataset.path).expanduser() if dataset.path else None
        tracked = tracked_by_dvc(folder) if folder and not folder.exists() else None
        if tracked is None:
            raise
        file = os.path.relpath(tracked.file)
        raise KaizenError(
            f"dataset.path: {folder} is not here, and the plan needs its checksums. {file} tracks "
            "it: "
            f"`dvc checkout {file}` takes it from DVC's cache, `dvc pull {file}` from the remote"
        ) from error
    cache = main_checkout(root) / ".kaizen" / "checksums"
    classes, domains = source.checksums(cache), source.domain_checksums(cache)
    return DatasetFacts(
        tuple(source.classes),
        tuple(classes["train"]),
        tuple(classes["test"]),
        tuple(source.domains),
        tuple(domains["train"]),
        tuple(domains["test"]),
        tuple(source.train_counts()),
    )


@dataclass
class Workflow:
    """An experiment in a checkout: its plan, its store, and what is still missing."""

    params: Params
    plan: Plan
    store: Store
    root: Path
    edges: bool = False
    only: Node | None = None

    @classmethod
    def from_params(cls, params: Params, root: Path) -> Workflow:
        """Plan an experiment in the checkout ``root`` and take back finished nodes that the store
        lacks.
        """
        plan = build_plan(params, dataset_facts(params.dataset, root), code_fingerprint)
        workflow = cls(params, plan, Store(default_store(root)), root)
        workflow.store.follow_sharing()
        take_back(plan, workflow.store, root)
        return workflow

    @classmethod
    def from_files(cls, path: Path, overlays: Sequence[Path], root: Path) -> Workflow:
        """As `from_params`, from params.yaml and overlays."""
        return cls.from_params(load_params(path, overlays), root)

    def register(self) -> None:
        """Record in the store that this checkout needs the plan's nodes, so that no one
        collects them.
        """
        nodes = [(node.kind, node.key) for node in self.plan.nodes.values()]
        register(self.store, self.root.absolute(), self.plan.key, nodes)

    def done(self, node: Node) -> bool:
        """Whether a node is finished."""
        return self.store.has(node.kind, node.key)

    def missing(self) -> list[Node]:
        """Nodes that have to be made, in an order in which they can be."""
        return [node for node in self.plan.nodes.values() if not self.done(node)]

    def receipt(self, node: Node) -> str:
        """What Snakemake declares as a job's output: a file in this checkout that says that the
        node is finished.

        Not the node itself: before a job, and after a failed one, Snakemake deletes its output, and
        in a store that several workflows share it may be another one's by then.
        """
        return f".kaizen/receipts/{node.kind}/{node.key}.json"

    def sort_out_receipts(self) -> None:
        """Remove receipts of nodes that the store lacks; with edges shown, give every finished node
        one.
        """
        for node in self.plan.nodes.values():
            path = self.root / self.receipt(node)
            if self.edges and self.done(node):
                write_json(path, {"kind": node.kind, "key": node.key})
                # All of one age, so that none looks newer than what was made from it.
                os.utime(path, (0, 0))
            elif path.exists() and not self.done(node):
                path.unlink(missing_ok=True)

    def node(self, wildcards: Any) -> Node:
        """The node that a rule's key wildcard names."""
        return self.plan.nodes[wildcards.key]

    def inputs(self, wildcards: Any) -> list[str]:
        """A rule's input: nothing when the node is finished, so that nothing can make it stale."""
        node = self.node(wildcards)
        if self.done(node) and not self.edges:
            return []
        return [
            self.receipt(parent)
            for parent in node.inputs.values()
            if self.edges or not self.done(parent)
        ]

    @functools.cached_property
    def origin(self) -> Origin:
        """The checkout and command that this was planned by."""
        return Origin(self.root, self.params)

    def specification(self, node: Node) -> dict[str, Any]:
        """What the job of a node receives: its `Node.spec` with its origin."""
        spec = node.spec()
        return spec | {"local": spec["local"] | self.origin.local(node)}

    def spec(self, wildcards: Any) -> str:
        """A rule's parameters as one canonical JSON string: Snakemake compares several as an
        unordered set.

        A specification too long for a command line (the summary of a large grid) goes to a file in
        the store, and the string is "@" and its path.
        """
        node = self.node(wildcards)
        text = canonical_json(self.specification(node))
        if len(text) < MAX_ARGUMENT:
            return text
        path = self.store.root / ".specs" / f"{node.kind}-{node.key}.json"
        # One that an earlier plan left has the same key, but perhaps another origin.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
        return f"@{path}"

    def title(self, wildcards: Any) -> str:
        """What a job does, for Snakemake's log."""
        return self.node(wildcards).title

    def pattern(self, kind: str) -> str:
        """A rule's output: the receipt of the node whose key the wildcard is."""
        return f".kaizen/receipts/{kind}/{{key}}.json"

    # Of the two below Snakemake would take braces for wildcards if they were plain texts.

    def store_root(self, wildcards: Any) -> str:
        """The store's folder."""
        return str(self.store.root)

    def values(self, wildcards: Any) -> str:
        """The parameters as canonical JSON, for the job that publishes."""
        return canonical_json(dataclasses.asdict(self.params))

    def marker(self, name: str) -> str:
        """The file, in this checkout, that the job which publishes makes at its end."""
        return f".kaizen/published/{name}.json"

    def targets(self) -> list[str]:
        """The receipts that publishing needs; a finished node needs no job."""
        nodes = self.plan.nodes.values() if self.edges else self.missing()
        return [self.receipt(node) for node in nodes]

    def publication(self) -> list[str]:
        """The marker that publishing makes, of a name never used before; the manifest when the tree
        is this plan's.

        Where one node is asked for, its receipt alone.
        """
        if self.only is not None:
            return [self.receipt(self.only)]
        # The last one reads every record: not for a plan that has something to run.
        if not self.edges and not self.missing() and is_published(self.plan, self.store, self.root):
            return [MANIFEST]
        return [self.marker(f"{self.plan.key}-{time.time_ns()}-{os.getpid()}")]


def use_this_environment(checkout: str) -> None:
    """Let Snakemake's jobs run this Python and this checkout's code, whether or not its environment
    is activated.
    """
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [checkout, os.environ.get("PYTHONPATH")])
    )


def workflow_of_config(config: Mapping[str, Any], root: Path) -> Workflow:
    """As `Workflow.from_params`, from Snakemake's merged configuration; for the Snakefile.

    Bad parameters end the program with one message and exit code 2, before any job.
    """
    values = dict(config)
    given = root / "params.yaml"
    edges = str(values.pop("edges", "false")).lower() == "true"
    only = str(values.pop("node", ""))
    try:
        if given.is_file():
            # Snakemake's own reading takes the last of two equal keys.
            read_yaml(given)
        workflow = Workflow.from_params(validate(values), root)
        workflow.register()
        workflow.only = _node_named(only, workflow.plan) if only else None
    except KaizenError as error:
        print(f"kaizen: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    workflow.edges = edges
    workflow.sort_out_receipts()
    workflow.origin.tell_jobs()
    return workflow


def _node_named(name: str, plan: Plan) -> Node:
    """The node of a plan that ``name``, <kind>/<key>, stands for; raises KaizenError where there is
    none.
    """
    kind, _, key = name.partition("/")
    node = plan.nodes.get(key)
    if node is None or node.kind != kind:
        raise KaizenError(
            f"--config node={name}: the plan of these parameters has no such node; name one as "
            "<kind>/<key>, as "
            "`kaizen explain` does, with the parameters and the code that it was made with"
        )
    return node
