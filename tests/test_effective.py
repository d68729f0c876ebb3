"""A parameter without effect is in no step's key: the whole table of `kaizen.plan.effective`, and a
proof of each row by training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import make_params, make_plan
from project import write_dataset

from kaizen.data.ingest import ingest
from kaizen.data.names import CONFIG_FILE
from kaizen.data.sources.archive import ArchiveSource
from kaizen.data.sources.files import FileSource
from kaizen.files import sha256_file
from kaizen.params import DatasetParams, LabelsParams, SplitParams, SyntheticParams
from kaizen.params.registry import FILE_PARAMETERS, SOURCES, load
from kaizen.plan import step_nodes
from kaizen.plan.effective import HAS_EFFECT, UP_TO_THE_EPOCHS
from kaizen.plan.nodes import Plan
from kaizen.store.locks import Watch
from kaizen.store.store import Store
from kaizen.training.reporter import PlainReporter
from kaizen.training.step import run_step

GREY = {"image.channels": 1, "image.mean": [0.5], "image.std": [0.25]}
COLOUR = {"image.channels": 3, "image.mean": [0.5] * 3, "image.std": [0.25] * 3}
STILL = {f"augment.jitter.{name}": 0.0 for name in ("brightness", "contrast")}
JITTERED = {"augment.jitter.probability": 0.9}
RESNET = {"model.backbone": "resnet18"}
IMAGENET_STEM = RESNET | {"model.stem": "imagenet"}
NO_WARM_UP = {"train.warmup_epochs": 0}

# 2 epochs of 2 batches of a task of 2 classes.
TINY: dict[str, Any] = COLOUR | {
    "dataset.source": "synthetic",
    "dataset.synthetic": {"classes": 10, "train": 6, "test": 1, "size": 8, "channels": 3},
    "image.size": 8,
    "model.width": 4,
    "model.classifier_hidden": [8],
    "grid.variants": ["no_distill"],
    "grid.specialists": False,
    "train.epochs": 2,
    "train.batch_size": 6,
    "train.warmup_epochs": 1,
    "train.precision": "float32",
    "ssl.swav.queue_size": 16,
}


@dataclass(frozen=True)
class Row:
    """A parameter and its place in a step's specification: in the experiment ``idle`` the two
    ``values`` are alike, in the experiment ``active`` they, or ``differ``, are not.
    """

    parameter: str
    place: str
    idle: dict[str, Any]
    active: dict[str, Any]
    values: tuple[Any, Any]
    method: str = "simclr"
    differ: tuple[Any, Any] | None = None
    # Changes of both experiments.
    both: dict[str, Any] = field(default_factory=dict)

    def changes(self, experiment: Mapping[str, Any], value: Any) -> dict[str, Any]:
        """The parameters of one of the experiments, with a value of this one."""
        base: dict[str, Any] = TINY | {"grid.methods": [self.method]} | self.both
        return {**base, **experiment, self.parameter: value}


def same(parameter: str, *rest: Any, **more: Any) -> Row:
    """A row of a parameter whose place has its name."""
    return Row(parameter, parameter, *rest, **more)


ROWS = [
    same("model.width", RESNET, {}, (4, 8)),
    same("model.stem", {}, RESNET, ("cifar", "imagenet")),
    *(
        Row("reference_compat.stem_padding_2", "stem_padding_2", idle, RESNET, (False, True))
        for idle in ({}, IMAGENET_STEM)
    ),
    same("train.lars_eta", {"train.optimizer": "sgd", "train.lr": 0.1}, {}, (0.02, 0.005)),
    same("train.warmup_start_lr", NO_WARM_UP, {}, (0.003, 0.3)),
    same(
        "train.warmup_start_lr",
        NO_WARM_UP,
        {},
        (0.003, 0.3),
        method="simsiam",
        both={"reference_compat.simsiam_predictor_warmup": True},
    ),
    Row(
        "reference_compat.simsiam_predictor_warmup",
        "static_warmup",
        NO_WARM_UP,
        {},
        (False, True),
        method="simsiam",
    ),
    same("train.min_lr", {"train.warmup_epochs": 2}, NO_WARM_UP, (0.0, 0.5)),
    same("train.start_size", {"train.full_size_from": 0.0}, {}, (0.5, 1.0)),
    same("train.full_size_from", {}, {"train.start_size": 0.1}, (0.25, 1.0)),
    same("augment.greyscale", GREY, {}, (0.0, 0.5)),
    same("augment.jitter.probability", GREY | STILL, GREY, (0.0, 0.9)),
    same(
        "augment.jitter.probability",
        STILL | {"augment.jitter.saturation": 0.0, "augment.jitter.hue": 0.0},
        STILL,
        (0.0, 0.9),
    ),
    same("augment.jitter.brightness", {}, JITTERED, (0.4, 0.8)),
    same("augment.jitter.contrast", {}, JITTERED, (0.4, 0.0)),
    *(
        same(f"augment.jitter.{name}", idle, JITTERED, (0.1, 0.4))
        for name in ("saturation", "hue")
        for idle in ({}, GREY | JITTERED)
    ),
    same("augment.blur_sigma", {}, {"augment.blur": [0.0, 0.9]}, ([0.1, 2.0], [0.5, 1.0])),
    same("ssl.swav.queue_from_epoch", {"ssl.swav.queue_size": 0}, {}, (0, 1), method="swav"),
    same("ssl.swav.queue_from_epoch", {}, {}, (2, 15), method="swav", differ=(0, 2)),
    same("ssl.swav.freeze_prototypes_epochs", {}, {}, (2, 7), method="swav", differ=(1, 2)),
    same("ssl.dino.freeze_last_layer_epochs", {}, {}, (2, 7), method="dino", differ=(1, 2)),
    same(
        "ssl.dino.teacher_temperature_start",
        {"ssl.dino.teacher_temperature_warmup_epochs": 0},
        {"ssl.dino.teacher_temperature_warmup_epochs": 2},
        (0.04, 0.02),
        method="dino",
    ),
]


def name_of(row: Row) -> str:
    return f"{row.parameter} {row.idle}"


def steps(plan: Plan) -> list[str]:
    """The keys of all steps."""
    return [step.key for run in plan.runs for step in run.steps]


def test_the_rows_are_those_of_the_table() -> None:
    assert {row.place for row in ROWS} == {*HAS_EFFECT, *UP_TO_THE_EPOCHS}


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_parameter_is_in_the_keys_where_it_has_an_effect(row: Row) -> None:
    alike = [steps(make_plan(row.changes(row.idle, value))) for value in row.values]
    assert alike[0] == alike[1]
    values = row.differ or row.values
    differing = [steps(make_plan(row.changes(row.active, value))) for value in values]
    assert not set(differing[0]) & set(differing[1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that holds the shards of `TINY`."""
    store, plan = Store(tmp_path_factory.mktemp("effective") / "store"), make_plan(TINY)
    params, node = plan.params, plan.shards[0]
    with store.lock(node.id), store.building(node.id) as building:
        ingest(params.dataset, params.split, params.labels, 1, building)
        store.commit(node.job().to_json(), building, {}, {})
    return store


def trained(store: Store, changes: dict[str, Any], folder: Path) -> list[str]:
    """The hashes of what step 0 writes, trained with the parameters as they are given; without
    config.json, which names the key.
    """
    folder.mkdir()
    job = make_plan(changes).runs[0].steps[0].job()
    run_step(job, store, folder, PlainReporter("", None, None), Watch())
    written = sorted(path for path in folder.iterdir() if path.name != CONFIG_FILE)
    return [sha256_file(path) for path in written]


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_training_writes_the_same_bytes_where_it_has_none(
    row: Row, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_nodes, "effective", lambda step: step)
    keys = {steps(make_plan(row.changes(row.idle, value)))[0] for value in row.values}
    assert len(keys) == 2, "without the table, the values would be two steps"
    one, two = (
        trained(store, row.changes(row.idle, value), tmp_path / f"alike {value}")
        for value in row.values
    )
    assert one == two and len(one) == 3
    other, another = (
        trained(store, row.changes(row.active, value), tmp_path / f"differing {value}")
        for value in row.differ or row.values
    )
    assert other != another


# -- the data ------------------------------------------------------------------------------------


def shards(dataset: DatasetParams, out: Path) -> list[str]:
    """The hashes of all that ingestion writes."""
    ingest(dataset, SplitParams(1), LabelsParams(), 1, out)
    return [sha256_file(path) for path in sorted(out.iterdir())]


CHANGED: dict[str, Any] = {"encoding": "file", "raw_limit": 1, "bit_depth": 12}


def test_the_sources_of_files_are_those_that_read_the_parameters_of_files() -> None:
    assert {*CHANGED, "classes"} == set(FILE_PARAMETERS)
    for source in SOURCES.values():
        kind = load(source.target)
        assert issubclass(kind, FileSource) == (set(FILE_PARAMETERS) <= set(source.reads))
        assert issubclass(kind, FileSource | ArchiveSource) == (source.path != "none")


@pytest.mark.parametrize("name", CHANGED)
def test_parameters_of_files_have_no_effect_where_images_are_pixels(
    name: str, tmp_path: Path
) -> None:
    for source in ("digits", "synthetic", "cifar10", "stl10"):
        base = {"dataset.source": source, "grid.variants": ["kaizen"]}
        after = make_plan(base | {f"dataset.{name}": CHANGED[name]})
        assert make_plan(base).key == after.key
    synthetic = SyntheticParams(classes=2, train=2, test=1, size=8)
    one, two = (
        shards(
            DatasetParams(source="synthetic", synthetic=synthetic, **changes),
            tmp_path / str(number),
        )
        for number, changes in enumerate(({}, {name: CHANGED[name]}))
    )
    assert one == two


@pytest.mark.parametrize("encoding", ["raw", "file", "auto"])
def test_the_limit_of_raw_images_matters_where_the_encoding_is_chosen(
    encoding: str, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "images", ("a", "b"), 2, 1)
    values = {"source": "image_folder", "path": str(tmp_path / "images"), "encoding": encoding}
    limits = (1, 16384)
    one, two = (
        shards(
            make_params({"dataset": values | {"raw_limit": limit}}).dataset, tmp_path / f"{limit}"
        )
        for limit in limits
    )
    keys = {make_plan({"dataset": values | {"raw_limit": limit}}).key for limit in limits}
    assert (one != two, len(keys)) == ((True, 2) if encoding == "auto" else (False, 1))
