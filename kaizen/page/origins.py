"""What `kaizen explain` says of every node of the published plan, once each and bounded in size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import shortened
from kaizen.provenance.explain import explain_subject
from kaizen.provenance.known import Known, KnownNode
from kaizen.provenance.origin import Origin
from kaizen.provenance.present import Present
from kaizen.provenance.show import explanation_lines
from kaizen.provenance.subject import Subject
from kaizen.store.node_id import NodeId

MOST_NODES = 2000  # explained in full; of the others a page says how to ask
_MOST_LETTERS = 1500  # of one line
_MOST_PARENTS = 400  # of one node that are linked


def origins(known: Known, here: Origin) -> dict[str, Any]:
    """``nodes``: key -> kind, title, seconds, ``lines`` (positions in ``texts``), ``parents`` (role
    and key), ``again`` (the commands that make it again) and a ``note``; ``texts`` are label, text
    and style of a line, each once.
    """
    present = Present(here)
    texts: dict[tuple[str, str, str], int] = {}
    nodes: dict[str, Any] = {}
    for number, node in enumerate(_published(known)):
        entry: dict[str, Any] = {"kind": str(node.id.kind), "title": node.title}
        entry["seconds"] = None if node.seconds is None else round(node.seconds, 1)
        speed = node.run_record.get("images_per_second")
        if isinstance(speed, int | float):
            entry["speed"] = round(speed)
        if number < MOST_NODES:
            entry |= _explained(node, known, present, texts)
        nodes[node.id.key] = entry
    return {"nodes": nodes, "texts": [list(line) for line in texts]}


def _explained(
    node: KnownNode, known: Known, present: Present, texts: dict[tuple[str, str, str], int]
) -> dict[str, Any]:
    try:
        found = explain_subject(Subject(node.id, {}), node, known, present, in_plan=True)
    except KaizenError as error:
        return {"note": shortened(str(error), _MOST_LETTERS)}
    lines = [
        (label, shortened(text, _MOST_LETTERS), "" if style == "bold" else style)
        for label, text, style in explanation_lines({**found, "asked": str(node.id)})
    ]
    parents = [[entry["role"], entry["key"]] for entry in found["parents"]]
    return {
        "lines": [texts.setdefault(line, len(texts)) for line in lines],
        "parents": parents[:_MOST_PARENTS],
        "again": [shortened(command, _MOST_LETTERS) for command in found["again"]["commands"]],
        "note": found["again"]["note"] or "",
    }


def _published(known: Known) -> Iterable[KnownNode]:
    """The published nodes, the summary and evaluations first."""
    nodes: dict[NodeId, None] = dict.fromkeys(
        entry.node for _, entry in sorted(known.files.items())
    )
    order = ("summary", "evaluation", "reference", "step", "head", "replay", "shards")
    ranked = sorted(nodes, key=lambda node: (order.index(node.kind), node.key))
    return (found for node in ranked if (found := known.node(node)) is not None)
