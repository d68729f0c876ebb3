"""Why a node is to be made: what differs from the finished node that is most like it.

Only of nodes whose inputs are all there: the others follow from theirs. Looked at are the newest
finished nodes of each kind, so many at most, whatever the store holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import canonical_json, printable, shortened
from kaizen.jobs.learn import newest
from kaizen.plan.fingerprint import installed_version
from kaizen.plan.nodes import Node
from kaizen.plan.specs import spec_json
from kaizen.provenance.leaves import leaves
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.records import read_record
from kaizen.store.store import Store

# So many finished nodes of a kind are compared with, and so many differences named.
_COMPARED = 50
_NAMED = 3


@dataclass(frozen=True)
class _Finished:
    """A finished node as it is compared: parameters by dotted name, code, what it was made from."""

    params: Mapping[str, str]
    code: str
    identities: Mapping[str, str]
    made: Mapping[str, Any]


class Reasons:
    """Why nodes of a plan are to be made, by what its store has."""

    def __init__(self, store: Store, finished: set[NodeId]) -> None:
        """Read nothing yet; ``finished`` are those of the plan that are."""
        self._store, self._finished = store, finished
        self._of_kind: dict[Kind, list[_Finished]] = {}
        self._versions: dict[str, str] = {}

    def of(self, node: Node[Any]) -> str:
        """What differs, as in "train.lr 2.0 → 1.0"; "" where an input is missing too, and where
        nothing of the kind is finished.
        """
        if any(parent.id not in self._finished for parent in node.inputs.values()):
            return ""
        there = self._there(node.kind)
        if not there:
            return ""
        params = _flat(spec_json(node.spec))
        differences = [self._differences(node, params, one) for one in there]
        nearest = min(differences, key=len)
        shown = ", ".join(nearest[:_NAMED])
        more = len(nearest) - _NAMED
        return printable(f"{shown} and {more} more" if more > 0 else shown)

    def _there(self, kind: Kind) -> list[_Finished]:
        if kind not in self._of_kind:
            found = []
            # The newest last; of equally near ones it is taken.
            for node in reversed(newest(self._store, kind, set(), _COMPARED)):
                try:
                    record = read_record(self._store.record_path(node))
                except KaizenError:
                    continue
                if record is not None and record.id == node:
                    params = _flat(record.params)
                    made = self._store.read_run_record(node) or {}
                    found.append(_Finished(params, record.code_hash, record.identities, made))
            self._of_kind[kind] = found
        return self._of_kind[kind]

    def _differences(
        self, node: Node[Any], params: Mapping[str, str], other: _Finished
    ) -> list[str]:
        found = []
        for name in {**other.params, **params}:
            before, now = other.params.get(name, "not set"), params.get(name, "not set")
            if before != now:
                found.append(f"{name} {_short(before)} → {_short(now)}")
        if node.code_hash != other.code:
            found.append(self._code(node, other.made))
        changed = {
            name
            for name in {**other.identities, **node.identities}
            if other.identities.get(name) != node.identities.get(name)
        }
        roles = sorted(name for name in changed if name in node.inputs)
        if roles:
            found.append(f"another {', '.join(roles[:_NAMED])}")
        if data := len(changed) - len(roles):
            found.append(f"other data ({data} of its parts)")
        return found

    def _code(self, node: Node[Any], made: Mapping[str, Any]) -> str:
        """The packages whose versions differ, or else Kaizen's code."""
        local = made.get("local")
        versions = local.get("versions") if isinstance(local, Mapping) else None
        packages = []
        for name in node.local.code.packages:
            before = versions.get(name) if isinstance(versions, Mapping) else None
            if name not in self._versions:
                self._versions[name] = installed_version(name)
            if isinstance(before, str) and before != self._versions[name]:
                packages.append(f"{name} {_short(before)} → {self._versions[name]}")
        if packages:
            return ", ".join(packages)
        origin = local.get("origin") if isinstance(local, Mapping) else None
        commit = origin.get("commit") if isinstance(origin, Mapping) else None
        return f"code changed since {commit[:12]}" if isinstance(commit, str) else "code changed"


def _flat(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters by dotted name, as JSON."""
    return {name: canonical_json(value) for name, value in leaves(params)}


def _short(text: str) -> str:
    return shortened(text, 40)
