"""The models of a run's steps, and the features and logits that they compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kaizen.compute.device import Compute
from kaizen.models.feature_classifier import FeatureClassifier, load_weights, read_checkpoint
from kaizen.models.trained import CHECKPOINT, untrained_model
from kaizen.params import ImageParams, from_dict
from kaizen.store.store import Store
from kaizen.views.augment import evaluation_transform


class StepModels:
    """Loads the models of a node's inputs step-00, step-01, …; ``image`` is what their networks
    see.
    """

    def __init__(
        self, inputs: dict[str, Any], store: Store, compute: Compute, batch_size: int
    ) -> None:
        """Read the parameters from the first step's record; ``batch_size`` is that of a forward
        pass.
        """
        self.inputs, self.store, self.compute, self.batch_size = inputs, store, compute, batch_size
        self.first = min(role for role in inputs if role.startswith("step-"))
        self.image = from_dict(ImageParams, self._params(self.first)["image"])

    def load(self, role: str) -> FeatureClassifier:
        """The model of a step, from its verified checkpoint."""
        path = self.store.open_file("step", self.inputs[role]["key"], CHECKPOINT)
        model = self.untrained(role)
        load_weights(model, read_checkpoint(path), path)
        return model

    def untrained(self, role: str | None = None) -> FeatureClassifier:
        """The network of a step, the first by default, with its initial weights."""
        return self.compute.place(untrained_model(self._params(role or self.first))).eval()

    def _params(self, role: str) -> dict[str, Any]:
        params: dict[str, Any] = self.store.read_record("step", self.inputs[role]["key"])["params"]
        return params

    @torch.no_grad()
    def features(self, model: FeatureClassifier, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [N, F] and the model's logits float32 [N, L] of uint8 images [N, C, H,
        W].
        """
        features, logits = [], []
        for batch in images.split(self.batch_size):
            inputs = evaluation_transform(batch.to(self.compute.device), self.image)
            with self.compute.autocast():
                output = model.encoder(inputs.contiguous(memory_format=torch.channels_last))
                logits.append(model.classifier(output).float())
            features.append(output.float())
        return torch.cat(features), torch.cat(logits)
