"""The `evaluation` and `reference` nodes: a run's accuracy matrices, the specialists' and a random network's.

One job evaluates all steps of a run, as starting a process costs more than evaluating a small model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kaizen.data.augment import evaluation_transform
from kaizen.data.decode import load_shard
from kaizen.evaluation.metrics import READERS
from kaizen.evaluation.readers import linear_probe, nearest_neighbours
from kaizen.files import write_json
from kaizen.models.continual import FeatureClassifier, build_feature_classifier, load_weights, read_checkpoint
from kaizen.params import EvaluationParams, ImageParams, ModelParams, from_dict
from kaizen.store import Store
from kaizen.training.device import Compute, choose_compute
from kaizen.training.progress import Reporter


@dataclass(frozen=True)
class Images:
    """The decoded images of one shard: uint8 [N, C, H, W] and labels int64 [N], -1 where absent."""

    images: Tensor
    labels: Tensor


def run_evaluation(spec: dict[str, Any], store: Store, building: Path, reporter: Reporter) -> dict[str, Any]:
    """Write ``accuracy.json``: for an evaluation a T x T matrix per reader, row t after step t, column i on task i;
    for references the specialists' accuracies S_i and the random network's R_i.

    Returns the environment for the record.
    """
    params = spec["params"]
    compute = choose_compute(params["device"], params["precision"], params["threads"])
    evaluator = Evaluator(spec, store, compute)
    steps = sorted(role for role in spec["inputs"] if role.startswith("step-"))
    result: dict[str, Any] = {}
    if spec["kind"] == "evaluation":
        rows = []
        for number, role in enumerate(steps):
            rows.append(evaluator.accuracies(evaluator.load(role)))
            reporter.amount(number + 1, len(steps), "steps evaluated")
        # A model trained jointly on all tasks stands for every step: the upper bound.
        if len(rows) == 1:
            rows *= len(params["tasks"])
        result["matrices"] = {reader: [row[reader] for row in rows] for reader in READERS}
    else:
        result["random_network"] = {
            reader: values
            for reader, values in evaluator.accuracies(evaluator.untrained()).items()
            if reader != "classifier"
        }
        specialists = []
        if len(steps) == len(params["tasks"]):
            for task, role in enumerate(steps):
                every = evaluator.accuracies(evaluator.load(role))
                specialists.append({reader: every[reader][task] for reader in READERS})
                reporter.amount(task + 1, len(steps), "specialists evaluated")
        result["specialists"] = (
            {reader: [values[reader] for values in specialists] for reader in READERS} if specialists else None
        )
    write_json(building / "accuracy.json", result)
    return compute.describe()


class Evaluator:
    """Reads the shards once and measures model after model on them."""

    def __init__(self, spec: dict[str, Any], store: Store, compute: Compute) -> None:
        """Decode the training rows that probe and kNN learn from, and all test rows."""
        self.spec, self.store, self.compute = spec, store, compute
        self.params = from_dict(EvaluationParams, spec["params"]["evaluation"])
        self.first = min(role for role in spec["inputs"] if role.startswith("step-"))
        self.classes = spec["params"]["num_classes"]
        self.image = from_dict(ImageParams, self._step_params(self.first)["image"])
        tasks = range(len(spec["params"]["tasks"]))
        train = [self._shard(task, "train", self.params.probe_fraction) for task in tasks]
        self.tests = [self._shard(task, "test", 1.0) for task in tasks]
        images, labels = torch.cat([part.images for part in train]), torch.cat([part.labels for part in train])
        labelled = labels >= 0
        self.train = Images(images[labelled], labels[labelled])

    def _shard(self, task: int, part: str, fraction: float) -> Images:
        key = self.spec["inputs"]["shards"]["key"]
        path = self.store.open_file("shards", key, f"task-{task:02d}.{part}.parquet")
        images, labels = load_shard(path, self.image, fraction)
        return Images(torch.from_numpy(images), torch.from_numpy(labels))

    def load(self, role: str) -> FeatureClassifier:
        """The model of a step, from its verified checkpoint."""
        path = self.store.open_file("step", self.spec["inputs"][role]["key"], "model.safetensors")
        model = self.untrained(role)
        load_weights(model, read_checkpoint(path), path)
        return model

    def untrained(self, role: str | None = None) -> FeatureClassifier:
        """The network of a step (the first one) with its initial weights."""
        step = self._step_params(role or self.first)
        model = from_dict(ModelParams, step["model"])
        image, classes = self.image, step["num_classes"]
        built = build_feature_classifier(
            model, image.channels, classes, step["seed"], step["stem_padding_2"], image.size
        )
        built.labels = step.get("logits")
        return self.compute.place(built).eval()

    def _step_params(self, role: str) -> dict[str, Any]:
        params: dict[str, Any] = self.store.read_record("step", self.spec["inputs"][role]["key"])["params"]
        return params

    @torch.no_grad()
    def features(self, model: FeatureClassifier, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [N, F] and logits float32 [N, K] of uint8 images [N, C, H, W].

        A class that a growing classifier has no logit for yet has the logit -inf.
        """
        features, logits = [], []
        for batch in images.split(self.params.batch_size):
            inputs = evaluation_transform(batch.to(self.compute.device), self.image)
            with self.compute.autocast():
                output = model.encoder(inputs.contiguous(memory_format=torch.channels_last))
                logits.append(model.classifier(output).float())
            features.append(output.float())
        known = torch.cat(logits)
        if model.labels is None:
            return torch.cat(features), known
        every = torch.full((len(known), self.classes), float("-inf"), device=known.device)
        every[:, model.labels] = known
        return torch.cat(features), every

    def accuracies(self, model: FeatureClassifier) -> dict[str, list[float | None]]:
        """Accuracy on every task's test images per reader, arg max over all classes of the stream.

        None where probe and kNN have no labelled image to learn from.
        """
        classes = self.classes
        device = self.compute.device
        tests = [self.features(model, part.images) for part in self.tests]
        labels = [part.labels.to(device) for part in self.tests]
        result: dict[str, list[float | None]] = {
            "classifier": [_accuracy(logits.argmax(dim=1), y) for (_, logits), y in zip(tests, labels, strict=True)]
        }
        if not len(self.train.labels):
            return result | {"linear_probe": [None] * len(tests), "knn": [None] * len(tests)}
        bank, _ = self.features(model, self.train.images)
        known = self.train.labels.to(device)
        together = torch.cat([features for features, _ in tests])
        sizes = [len(y) for y in labels]
        for reader, predict in (("linear_probe", linear_probe), ("knn", nearest_neighbours)):
            predicted = predict(bank, known, together, classes, self.params).split(sizes)
            result[reader] = [_accuracy(p, y) for p, y in zip(predicted, labels, strict=True)]
        return result


def _accuracy(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()
