"""Every SSL method trains through the workflow's nodes, resumes to the bit, and learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
from project import Project, make_project
from ssl_models import METHODS

from kaizen.errors import Interrupted
from kaizen.jobs.make import run_job
from kaizen.plan.job import read_job
from kaizen.store.node_id import NodeId
from kaizen.training.reporter import PlainReporter

SMALL = {"projector_hidden": 12, "projector_out": 8}
CHANGES: dict[str, Any] = {
    "grid.methods": METHODS,
    "grid.variants": ["kaizen", "cassle", "no_distill"],
    "labels.fraction": 0.5,
    "train.epochs": 3,
    # 3 batches of 8 and 4 rows an epoch; queues that a batch of 12 does not divide.
    "ssl": {
        "simclr": SMALL,
        "mocov2plus": SMALL | {"queue_size": 20},
        "byol": SMALL | {"predictor_hidden": 12},
        "vicreg": SMALL,
        "barlow_twins": SMALL,
        "simsiam": SMALL | {"predictor_hidden": 6},
        "nnclr": SMALL | {"predictor_hidden": 12, "queue_size": 20},
        "swav": SMALL
        | {"prototypes": 6, "queue_size": 20, "queue_from_epoch": 1, "freeze_prototypes_epochs": 1},
        "dino": SMALL
        | {"prototypes": 6, "teacher_temperature_warmup_epochs": 2, "freeze_last_layer_epochs": 1},
    },
    "runtime.save_every_epochs": 1,
}


class Nodes:
    """A project's planned nodes, made one by one in this process."""

    def __init__(self, project: Project) -> None:
        self.store = project.store
        planned = project.kaizen("plan", "--json")
        assert planned.code == 0, planned.output
        self.all = json.loads(planned.output)["nodes"]

    def steps(self, method: str) -> list[dict[str, Any]]:
        """The method's steps, earlier tasks first: step 0, and step 1 of each variant."""
        return [
            node
            for node in self.all
            if node["kind"] == "step" and node["params"]["method"] == method
        ]

    def make(self, node: dict[str, Any], stop: bool = False) -> None:
        run_job(
            read_job(node, "the plan"),
            self.store,
            PlainReporter("test", None, None),
            stop=lambda: stop,
        )

    def contents(self, node: dict[str, Any]) -> dict[str, bytes]:
        folder = self.store.folder(NodeId.of(node["kind"], node["key"]))
        return {
            path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"
        }

    def forget(self, node: dict[str, Any]) -> None:
        shutil.rmtree(self.store.folder(NodeId.of(node["kind"], node["key"])))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    """Two tasks, planned for all methods; shards and replay made."""
    root = tmp_path_factory.mktemp("ssl") / "project"
    # Absolute, as the nodes are made from another current folder.
    nodes = Nodes(make_project(root, CHANGES | {"dataset.path": str(root / "images")}))
    for node in nodes.all:
        if node["kind"] in ("shards", "replay"):
            nodes.make(node)
    return nodes


@pytest.mark.parametrize("method", METHODS)
def test_every_variant_trains_and_resumes_to_the_bit_after_a_stop_in_every_batch(
    nodes: Nodes, method: str
) -> None:
    """Stopped after every batch: in and between the epochs that matter to queues, prototypes and
    temperatures.
    """
    first, *seconds = nodes.steps(method)
    assert len(seconds) == 3
    for node in (first, *seconds):
        nodes.make(node)
        folder = nodes.store.folder(NodeId.of("step", node["key"]))
        history = pq.read_table(folder / "history.parquet").to_pydict()
        assert all(np.isfinite(values).all() for values in history.values())
        distils = node["params"].get("feature_distill") is not None
        assert all((value > 0) is distils for value in history["L_FE_KD"])
    (kaizen,) = (node for node in seconds if "replay" in node["inputs"])
    expected = nodes.contents(kaizen)
    nodes.forget(kaizen)
    for _ in range(9):
        with pytest.raises(Interrupted):
            nodes.make(kaizen, stop=True)
    nodes.make(kaizen)
    assert nodes.contents(kaizen) == expected


def test_queues_and_momentum_networks_are_carried_into_the_next_step(nodes: Nodes) -> None:
    """Momentum networks and MoCo's and NNCLR's queues go on from the prior step; SwAV's queue does
    not.
    """
    for method, name, carried in (
        ("mocov2plus", "ssl.queue.position", 20),
        ("nnclr", "ssl.queue.position", 20),
        ("swav", "ssl.queue.position", 0),
        ("dino", "ssl.momentum.encoder.stem.1.num_batches_tracked", None),
    ):
        first, second = (
            nodes.steps(method)[0],
            next(n for n in nodes.steps(method) if "replay" in n["inputs"]),
        )
        values = []
        for node in (first, second):
            nodes.make(node)
            path = nodes.store.folder(NodeId.of("step", node["key"])) / "model.safetensors"
            values.append(int(safetensors.torch.load_file(path)[name]))
        if carried is None:
            # Two views a batch, 9 batches a step.
            assert values == [18, 36]
        else:
            # 9 batches of 8 rows, then 9 of 8 task and 4 replay rows.
            start = values[0] if carried else 0
            assert values == [72 % 20, (start + 108) % 20]


def test_simsiams_predictor_starts_each_task_low_as_in_the_reference(tmp_path: Path) -> None:
    """In the first epoch of a warm-up all other rates are train.warmup_start_lr whatever train.lr
    is; the predictor's is train.lr, or with the switch that low one too.
    """
    heads: dict[tuple[bool, float], dict[str, Any]] = {}
    for low in (False, True):
        for lr in (0.5, 1.0):
            changes = {
                "dataset.path": str(tmp_path / f"{low} {lr}" / "images"),
                "grid.methods": ["simsiam"],
                "grid.variants": ["no_distill"],
                "ssl.simsiam": SMALL | {"predictor_hidden": 6},
                "train": {"epochs": 1, "warmup_epochs": 1, "optimizer": "sgd", "lr": lr},
                "reference_compat.simsiam_predictor_warmup": low,
            }
            nodes = Nodes(make_project(tmp_path / f"{low} {lr}", changes))
            for kind in ("shards", "step"):
                nodes.make(next(node for node in nodes.all if node["kind"] == kind))
            step = next(node for node in nodes.all if node["kind"] == "step")
            assert step["params"].get("static_warmup", False) is low
            tensors = safetensors.torch.load(nodes.contents(step)["model.safetensors"])
            heads[low, lr] = {n: t for n, t in tensors.items() if n.startswith("ssl.predictor.")}
    assert heads[True, 0.5].keys() == heads[True, 1.0].keys() and heads[True, 0.5]
    for name, tensor in heads[True, 0.5].items():
        assert tensor.equal(heads[True, 1.0][name]), name
    assert not all(t.equal(heads[False, 1.0][name]) for name, t in heads[False, 0.5].items())
