"""A model from its folder, or from a run's: whole, right and finite, or refused in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from kaizen.compute.device import resolved
from kaizen.data.names import CHECKPOINT, CONFIG_FILE, HEADS_FILE
from kaizen.errors import KaizenError
from kaizen.evaluation.head_files import read_heads
from kaizen.inference.model import AnalyticHead, Model
from kaizen.inference.places import steps_in
from kaizen.models.config import (
    ModelConfig,
    Preprocessing,
    preprocessing_path,
    read_config,
    read_preprocessing,
)
from kaizen.models.feature_classifier import (
    Architecture,
    FeatureClassifier,
    build_feature_classifier,
    load_weights,
    read_checkpoint,
)
from kaizen.params.registry import TRAINED
from kaizen.store.records import RECORD, read_record

_NAME = "name a model's folder, results/models/<run>/step-NN, or a run's, results/models/<run>"
_COPY = "copy the model's folder again, all of it, or have it made again by `snakemake --cores all`"


def load(
    folder: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    test_crop: float | None = None,
) -> Model:
    """The model of a step's folder, or of the latest step of a run's folder, in eval mode.

    ``precision`` None is the step's own, as in evaluation. ``test_crop`` is for a folder without
    preprocessor_config.json, as one in the store: the share of each side whose centre is shown.
    Raises KaizenError where it is no such folder, where a file is missing, or is not the one of the
    record (node.json) beside it, and where the weights are not finite.
    """
    place = model_folder(Path(folder))
    config = read_config(place / CONFIG_FILE)
    check_record(place, config)
    preprocessing = _preprocessing(place, test_crop)
    compute = resolved(device, precision or config.precision, "device")
    network = _network(config, place)
    path = place / CHECKPOINT
    if not path.is_file():
        raise KaizenError(f"{path} does not exist; {_COPY}")
    load_weights(network, read_checkpoint(path, _COPY), path, fix=_COPY)
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise KaizenError(f"{path}: {name} is not finite; {_COPY}")
    model = Model(compute.place(network.eval()), config, preprocessing, compute)
    if preprocessing.head != TRAINED:
        model.answer_by(_head(place / HEADS_FILE, preprocessing.head))
    return model.eval()


def _head(path: Path, kind: str) -> AnalyticHead:
    """The head ``kind`` of a model, from the file beside it."""
    if not path.is_file():
        raise KaizenError(f"{path} does not exist, and {kind} is the head that answers; {_COPY}")
    found = read_heads(path)
    if kind not in found.heads:
        raise KaizenError(f"{path} has no head {kind}; {_COPY}")
    head = found.heads[kind]
    if not (head.weight.isfinite().all() and head.bias.isfinite().all()):
        raise KaizenError(f"{path}: {kind} is not finite; {_COPY}")
    return AnalyticHead(head, found.projection)


def _network(config: ModelConfig, folder: Path) -> FeatureClassifier:
    """The network that a configuration describes, its weights yet to come."""
    architecture = Architecture(
        model=config.network,
        channels=config.image.channels,
        logits=config.logits,
        seed=0,
        stem_padding_2=config.stem_padding_2,
        image_size=config.image.size,
    )
    try:
        return build_feature_classifier(architecture)
    except KaizenError as error:
        raise KaizenError(f"{folder / CONFIG_FILE}: {error}") from error


def model_folder(folder: Path) -> Path:
    """The folder of a model: the one named, or of a run's the latest step's; raises KaizenError
    where it is neither.
    """
    if not folder.exists():
        raise KaizenError(f"{folder} does not exist; {_NAME}")
    if not folder.is_dir():
        raise KaizenError(f"{folder} is a file; {_NAME}")
    if (folder / CONFIG_FILE).is_file():
        return folder
    if steps := steps_in(folder, exported=False):
        return steps[-1][1]
    if (folder / CHECKPOINT).is_file():
        raise KaizenError(
            f"{folder} has {CHECKPOINT} but no {CONFIG_FILE}: it was made by an earlier version, "
            f"or copied in part; {_COPY}"
        )
    raise KaizenError(f"{folder} has neither {CONFIG_FILE} nor steps (step-00, …); {_NAME}")


def check_record(folder: Path, config: ModelConfig) -> None:
    """Compare a model's files with the hashes of the record beside it, if there is one; raises
    KaizenError where they differ.
    """
    path = folder / RECORD
    if not path.exists():
        return
    record = read_record(path)
    if record is None or record.id.key != config.key:
        raise KaizenError(f"{path} is not the record of this model; {_COPY}")
    for name in (CONFIG_FILE, CHECKPOINT):
        entry = record.files.get(name)
        if entry is None:
            raise KaizenError(f"{path} does not name {name}; {_COPY}")
        if problem := entry.mismatch(folder / name):
            raise KaizenError(f"{folder / name} {problem}; {_COPY}")


def _preprocessing(folder: Path, test_crop: float | None) -> Preprocessing:
    path = preprocessing_path(folder)
    if test_crop is not None and not 0 < test_crop <= 1:
        raise KaizenError(f"test_crop: {test_crop} is no share of an image; above 0, at most 1")
    if path.exists() or test_crop is None:
        found = read_preprocessing(path)
        return found if test_crop is None else dataclasses.replace(found, test_crop=test_crop)
    return Preprocessing(test_crop=test_crop, resize=None, bit_depth=None)
