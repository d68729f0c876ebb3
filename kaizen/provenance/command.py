"""The command `kaizen explain`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import write_json
from kaizen.params import Params
from kaizen.plan.build import build_plan
from kaizen.plan.fingerprint import code_fingerprint
from kaizen.provenance.again import make_plan
from kaizen.provenance.explain import Lineage, explain
from kaizen.provenance.known import Known
from kaizen.provenance.origin import Origin
from kaizen.provenance.show import print_explanation
from kaizen.provenance.subject import find_subject
from kaizen.store.store import Store, default_store


def explain_command(
    asked: str, params: Path, overlays: Sequence[Path], as_json: bool, plan_file: Path | None
) -> None:
    """Print where ``asked`` comes from, or write the plan that makes it again to ``plan_file``.

    Changes neither store nor published tree. Raises KaizenError where ``asked`` is nothing that
    Kaizen made.
    """
    root = Path.cwd()
    known = Known.at(root, Store(default_store(root)))
    if plan_file is not None:
        subject = find_subject(asked, known)
        node = known.node(subject.kind, subject.key)
        if node is None:
            raise KaizenError(
                f"the record of {subject.kind}/{subject.key} is not here; `dvc pull` may help"
            )
        line = Lineage(node, known)
        write_json(plan_file, make_plan(line.nodes, line.lost))
        print(
            f"{plan_file}: {len(line.nodes)} nodes; `kaizen run --plan {plan_file}` makes what is "
            "missing of them"
        )
        return
    values, planned = _current_plan(params, overlays, root)
    found = explain(asked, known, Origin(root, values), planned)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_explanation(found)


def _current_plan(
    params: Path, overlays: Sequence[Path], root: Path
) -> tuple[Params | None, set[str] | None]:
    """The present parameters and their plan's keys; None where they are wrong, or the raw data is
    not at hand.
    """
    from kaizen.jobs.workflow import dataset_facts
    from kaizen.params.validation import load_params

    values = None
    try:
        values = load_params(params, overlays)
        plan = build_plan(values, dataset_facts(values.dataset, root), code_fingerprint)
        return values, set(plan.nodes)
    except (KaizenError, OSError):
        return values, None
