"""Numbers that are not finite: the term where they began is named, and nothing that holds them is
saved.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors
from project import Project

from faults.table import Fault, of_kind
from faults.warm import Warm
from kaizen.store.node_id import NodeId

# Three batches an epoch, two epochs; the state is saved after each epoch but the last.
SECOND_EPOCH, LAST_OF_FIRST, LAST = 4, 2, 5
WHERE = {
    "NaN in the gradient of the encoder": ("gradient of encoder.WEIGHT", SECOND_EPOCH - 1),
    "NaN in the gradient of the classifier": ("gradient of classifier.0.weight", SECOND_EPOCH - 1),
    "NaN in the weights by the first epoch's last update": (
        "gradient of encoder.WEIGHT",
        LAST_OF_FIRST,
    ),
    "NaN in the weights by the step's very last update": ("gradient of encoder.WEIGHT", LAST),
    "NaN in a buffer": ("buffer encoder.BUFFER", LAST),
}


@pytest.mark.parametrize("fault", of_kind("Numbers"), ids=lambda fault: fault.name)
def test_numbers_that_are_not_finite(
    fault: Fault, finished: Project, warm: Warm, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    nodes = project.nodes()
    # Kaizen's step 1, the only one with all four terms, is made again.
    step = next(
        key
        for key in project.keys("step")
        if "classifier_distill" in project.store.read_record(NodeId.of("step", key)).params
    )
    with safetensors.safe_open(
        project.store.folder(NodeId.of("step", step)) / "model.safetensors", "pt"
    ) as file:
        names = [
            name.removeprefix("encoder.")
            for name in sorted(file.keys())
            if name.startswith("encoder.")
        ]
    weight, buffer = (
        min(n for n in names if n.endswith("weight")),
        min(n for n in names if n.endswith("running_var")),
    )
    shutil.rmtree(project.store.folder(NodeId.of("step", step)))
    shutil.rmtree(project.root / "results")

    value, _, term = fault.name.partition(" in ")
    where, batch = WHERE.get(fault.name, (term, SECOND_EPOCH))
    where = where.replace("WEIGHT", weight).replace("BUFFER", buffer)
    inject = {
        "not_finite": {"where": where, "value": "nan" if value == "NaN" else "inf", "batch": batch}
    }
    outcome = warm.kaizen(project, "run", inject=inject)
    fault.check(outcome)
    without = {node: digest for node, digest in nodes.items() if node != NodeId.of("step", step)}
    assert project.nodes() == without and project.leftovers() == []

    state = project.store.work_folder(NodeId.of("step", step)) / "resume.safetensors"
    assert state.exists() == (batch != LAST_OF_FIRST)
    if state.exists():
        with safetensors.safe_open(state, "pt") as file:
            assert json.loads(file.metadata()["state"])["progress"]["epoch"] == 1
            assert all(file.get_tensor(name).isfinite().all() for name in sorted(file.keys()))
    # With the cause gone, the same command goes on to the same bytes.
    outcome = warm.kaizen(project, "run")
    assert outcome.code == 0, outcome.output
    assert ("resumes at epoch 2" in outcome.output) == (batch != LAST_OF_FIRST)
    assert project.nodes() == nodes
