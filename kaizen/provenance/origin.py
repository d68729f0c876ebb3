"""What is recorded of how a node was made, besides its result: it differs from run to run and is no
part of a key.

The command that plans adds to each job's ``local`` the commit and what differs from it, as a
compute node may have neither git nor the time to ask it; the job adds where it ran. Both end up in
run.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import resource
import shlex
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import sha256_text
from kaizen.params import Params
from kaizen.params.reading import PARAMS
from kaizen.params.typed import UNSET, to_dict
from kaizen.plan.fingerprint import (
    ROOT,
    files_of,
    fingerprint_with,
    installed_version,
    loaded_otherwise,
)
from kaizen.plan.job import Job
from kaizen.plan.nodes import Node
from kaizen.plan.origin import OriginFacts, read_origin
from kaizen.plan.specs import S, Spec
from kaizen.provenance.git import changed_files, head_commit, is_in_commit, top_of
from kaizen.store.arguments import as_argument, read_argument
from kaizen.store.scheduler import this_slurm_job

# Read by the Snakemake that the cluster's jobs start, which parses the Snakefile again.
_VARIABLE = "KAIZEN_ORIGIN"
# What decides a node's content or whether a plan holds it.
_SOURCES = ("kaizen", "workflow", "Snakefile")


class Origin:
    """The checkout and the command that a plan is made by."""

    def __init__(self, root: Path, params: Params | None) -> None:
        """Look at the checkout that this code lies in; ``root`` is the folder of params.yaml.

        ``params`` are what the plan was made of; None where it was not made here.
        """
        self.facts = _given() or _facts(root, params)
        self._root = root
        self._version = functools.cache(installed_version)
        self._modules: dict[str, frozenset[str]] = {}
        self._found: dict[frozenset[str], OriginFacts] = {}

    def tell_jobs(self) -> None:
        """Let the Snakemake that a cluster's job starts find it in its environment."""
        text = json.dumps(to_dict(self.facts))
        path = self._root / ".kaizen" / "origins" / f"{sha256_text(text)}.json"
        os.environ[_VARIABLE] = as_argument(text, path)

    def job(self, node: Node[S]) -> Job[S]:
        """A node's job, with the ``versions`` of the packages in its key and its ``origin``."""
        return node.job().with_local(
            versions={name: self._version(name) for name in node.local.code.packages},
            origin=self._of(self._modules_up_to(node)),
        )

    def of(self, modules: Iterable[str]) -> OriginFacts:
        """The origin of something made by the code of ``modules``."""
        changed = self.facts.changed
        depends = None if changed is None else sorted(set(changed) & files_of(modules))
        return dataclasses.replace(self.facts, depends=depends)

    def _of(self, modules: frozenset[str]) -> OriginFacts:
        """As `of`; the nodes of a plan have few sets of modules between them."""
        if modules not in self._found:
            self._found[modules] = self.of(modules)
        return self._found[modules]

    def _modules_up_to(self, node: Node[Spec]) -> frozenset[str]:
        """The entry modules of a node and of all that it is made from."""
        if node.key not in self._modules:
            before = (self._modules_up_to(parent) for parent in node.inputs.values())
            self._modules[node.key] = frozenset(node.local.code.modules).union(*before)
        return self._modules[node.key]


def _given() -> OriginFacts | None:
    """What the Snakemake that started this one found; None where this is the first."""
    if "--target-jobs" not in sys.argv or _VARIABLE not in os.environ:
        return None
    facts = read_argument(_VARIABLE, os.environ[_VARIABLE])
    if not isinstance(facts, Mapping):
        raise KaizenError(f"{_VARIABLE} is no mapping; unset it, it is Kaizen's own")
    return read_origin(facts)


def _facts(root: Path, params: Params | None) -> OriginFacts:
    code = ROOT.parent.resolve()
    # An installed package lies in no checkout of its own, also where its environment is a folder of
    # one.
    top = None if "site-packages" in code.parts else top_of(code)
    commit = head_commit(top) if top else None
    changed = None
    committed = False
    if top and commit:
        folder = code.relative_to(top)
        found = changed_files(top, [str(folder / name) for name in (*_SOURCES, PARAMS)])
        if found is not None and not is_in_commit(
            top, commit, (folder / ROOT.name / "__init__.py").as_posix()
        ):
            # A copy of the code in a folder that this repository ignores.
            commit = None
        elif found is not None:
            names = [Path(name).relative_to(folder).as_posix() for name in found]
            changed = [name for name in names if name != PARAMS]
            committed = (
                root.resolve() == code
                and PARAMS not in names
                and is_in_commit(top, commit, (folder / PARAMS).as_posix())
                and _asks_for(root / PARAMS, params)
            )
    return OriginFacts(
        commit=commit,
        changed=changed,
        params_committed=committed,
        command=_command(sys.argv),
        experiment=os.environ.get("DVC_EXP_NAME") or UNSET,
    )


def _asks_for(path: Path, params: Params | None) -> bool:
    """Whether a parameters' file by itself, without overlays, asks for ``params``."""
    from kaizen.params.validation import load_params

    try:
        return path.is_file() and load_params(path) == params
    except KaizenError:
        return False


def _command(argv: Sequence[str]) -> str | None:
    """The command as it was typed; None for what Snakemake starts itself."""
    if "--target-jobs" in argv or not argv:
        return None
    program = Path(argv[0])
    name = program.parent.name if program.stem == "__main__" else program.stem
    return shlex.join([name, *argv[1:]])


def with_origin(jobs: Sequence[Job[Any]], root: Path) -> list[Job[Any]]:
    """Jobs, of which those that say nothing of their origin get this checkout's; for plans that
    `kaizen explain` wrote.
    """
    if all(job.local.origin is not None for job in jobs):
        return list(jobs)
    modules = {module for job in jobs for module in job.local.code.modules}
    here = Origin(root, None).of(modules)
    return [job if job.local.origin is not None else job.with_local(origin=here) for job in jobs]


def process_facts() -> dict[str, Any]:
    """Where this job runs: host, process, number of processes of one step, the cluster's number for
    the job; and the most memory that its process has had so far, in MB.
    """
    facts: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }
    if job := this_slurm_job():
        facts["slurm_job"] = job
    return facts


def with_versions(job: Job[S]) -> Job[S]:
    """The job, with the installed packages' versions where it names none."""
    if job.local.versions is not None:
        return job
    return job.with_local(
        versions={name: installed_version(name) for name in job.local.code.packages}
    )


def check_loaded(job: Job[Any]) -> None:
    """Raise KaizenError where this process runs other code than was hashed for the job's key: some
    module was edited after the plan was made and before it was loaded.
    """
    if modules := loaded_otherwise(job.local.code.modules):
        raise KaizenError(
            f"{job.title}: {', '.join(modules)} changed while it was being made, so what was made "
            "is not the plan's; run the same command again, which plans again"
        )


def check_codes(jobs: Iterable[Job[Any]]) -> None:
    """As `check_code`, for jobs of which many have the same code."""
    checked = set()
    for job in jobs:
        versions = job.local.versions
        packages = tuple(versions.items()) if versions is not None else job.local.code.packages
        if (code := (job.code_hash, job.local.code.modules, packages)) not in checked:
            checked.add(code)
            check_code(job)


def check_code(job: Job[Any]) -> None:
    """Raise KaizenError where the code here is not the code that the job's key stands for.

    Versions of packages are the plan's, where it has any: the record has those that were really
    there. Otherwise they are the installed ones.
    """
    modules, versions = job.local.code.modules, with_versions(job).local.versions or {}
    if not modules:
        raise KaizenError(
            f"{job.title}: its specification does not say which code it needs (local.code); take "
            "it from this version's `kaizen plan --json`"
        )
    # A module that is no longer there is code that was changed.
    with contextlib.suppress(ModuleNotFoundError):
        if fingerprint_with(modules, versions) == job.code_hash:
            return check_loaded(job)
    if job.local.versions is None:
        packages = ", ".join(job.local.code.packages)
        raise KaizenError(
            f"{job.title}: the plan does not name the versions of packages (local.versions), and "
            f"the code in {ROOT} with those installed here ({packages}) is not the plan's; take it "
            "from this version's `kaizen plan --json`"
        )
    commit = job.local.origin.commit if job.local.origin else None
    other = f"; or check out commit {commit[:12]}, which the plan was made with" if commit else ""
    raise KaizenError(
        f"{job.title}: the code in {ROOT}, with the packages' versions that the plan names, is not "
        f"the plan's, it was changed since; run the same command again, which plans again{other}"
    )
