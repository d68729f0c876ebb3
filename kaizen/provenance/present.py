"""The present code beside that of a node's key: whether it is the same, and what differs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaizen.plan.fingerprint import ROOT, files_of, fingerprint_with, installed_version
from kaizen.plan.origin import OriginFacts
from kaizen.provenance.git import changed_files, top_of
from kaizen.provenance.known import KnownNode
from kaizen.provenance.lineage import Lineage
from kaizen.provenance.origin import Origin


class Present:
    """The present checkout, asked about many nodes; what they have in common is looked up once."""

    def __init__(self, here: Origin) -> None:
        """Look at nothing yet."""
        self._fingerprint = functools.cache(_fingerprint)
        self._installed = functools.cache(installed_version)
        self._of = functools.cache(here.of)

    def origin(self, line: Lineage, in_plan: bool | None) -> OriginFacts | None:
        """This checkout as what a lineage can be made by; None where its code is another."""
        if not all(self._same_code(each) for each in line.nodes.values()):
            return None
        known = (node.local for node in line.nodes.values())
        modules = frozenset(module for local in known if local for module in local.code.modules)
        found = self._of(modules)
        return found if in_plan else dataclasses.replace(found, params_committed=False)

    def code(self, node: KnownNode) -> dict[str, Any]:
        """The fingerprint, whether the present code has it, and what differs."""
        fingerprint = node.record.code_hash
        now, with_old = self._code_now(node, installed=True), self._code_now(node, installed=False)
        gone = _modules_that_are_gone(node)
        versions = (node.local.versions if node.local else None) or {}
        code: dict[str, Any] = {
            "fingerprint": fingerprint,
            "same_now": _is_same(now, fingerprint, gone),
            "sources_same_now": _is_same(with_old, fingerprint, gone),
            "versions": versions,
            "versions_now": {package: self._installed(package) for package in versions},
        }
        if code["sources_same_now"] is False:
            code["changed_since"] = _changed_since(node)
        return code

    def _same_code(self, node: KnownNode) -> bool:
        """Whether the present code and packages are those that the node's key stands for."""
        return self._code_now(node, installed=True) == node.record.code_hash

    def _code_now(self, node: KnownNode, installed: bool) -> str | None:
        """The fingerprint of the present code of a node, with installed or with recorded packages;
        None where it is not known, or a module is gone.
        """
        if node.local is None or node.local.versions is None:
            return None
        versions: Mapping[str, str] = node.local.versions
        if installed:
            versions = {package: self._installed(package) for package in versions}
        return self._fingerprint(tuple(node.local.code.modules), tuple(sorted(versions.items())))


def _fingerprint(modules: tuple[str, ...], versions: tuple[tuple[str, str], ...]) -> str | None:
    try:
        return fingerprint_with(modules, dict(versions))
    except ModuleNotFoundError:
        return None


def _is_same(now: str | None, fingerprint: str, gone: bool) -> bool | None:
    """Whether the code has the recorded fingerprint; not where modules are gone, and None where the
    present one is not known.
    """
    if gone:
        return False
    return None if now is None else now == fingerprint


def _modules_that_are_gone(node: KnownNode) -> bool:
    """Whether the code that the node depended on has modules that are no more."""
    try:
        files_of(node.local.code.modules if node.local else ())
    except ModuleNotFoundError:
        return True
    return False


def _changed_since(node: KnownNode) -> list[str] | None:
    """The sources of a node that differ from its commit; None where git does not know."""
    commit, top = node.origin.commit if node.origin else None, top_of(ROOT.parent)
    if commit is None or top is None:
        return None
    folder = ROOT.parent.resolve().relative_to(top.resolve())
    names = changed_files(top, [str(folder / "kaizen")], commit)
    try:
        needed = files_of(node.local.code.modules if node.local else ())
    except ModuleNotFoundError:
        return None
    if names is None:
        return None
    return sorted({Path(name).relative_to(folder).as_posix() for name in names} & needed)
