"""The models of a run's steps, and the features and logits that they compute."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kaizen.compute.device import Compute
from kaizen.data.names import CHECKPOINT
from kaizen.models.feature_classifier import FeatureClassifier, load_weights, read_checkpoint
from kaizen.models.trained import untrained_model
from kaizen.plan.roles import step_roles
from kaizen.plan.specs import StepSpec, step_spec
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store
from kaizen.views.augment import evaluation_transform


class StepModels:
    """Loads the models of a node's inputs step-00, step-01, …; ``image`` is what their networks
    see.
    """

    def __init__(
        self,
        inputs: Mapping[str, NodeId],
        store: Store,
        compute: Compute,
        batch_size: int,
        test_crop: float = 1.0,
    ) -> None:
        """Read the parameters from the first step's record; ``batch_size`` is that of a forward
        pass, ``test_crop`` the share of each side of an image whose centre is shown.
        """
        self.inputs, self.store, self.compute, self.batch_size = inputs, store, compute, batch_size
        self.test_crop = test_crop
        self.first = step_roles(inputs)[0]
        self.image = self._spec(self.first).image

    @property
    def data_fraction(self) -> float:
        """The share of a task's rows that the first step trained on."""
        return self._spec(self.first).train.data_fraction

    def load(self, role: str) -> FeatureClassifier:
        """The model of a step, from its verified checkpoint."""
        path = self.store.open_file(self.inputs[role], CHECKPOINT)
        model = self.untrained(role)
        load_weights(model, read_checkpoint(path), path)
        return model

    def untrained(self, role: str | None = None) -> FeatureClassifier:
        """The network of a step, the first by default, with its initial weights."""
        return self.compute.place(untrained_model(self._spec(role or self.first))).eval()

    def _spec(self, role: str) -> StepSpec:
        return step_spec(self.store.read_record(self.inputs[role]))

    @torch.no_grad()
    def features(self, model: FeatureClassifier, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [N, F] and the model's logits float32 [N, L] of uint8 images [N, C, H,
        W].
        """
        features, logits = [], []
        for batch in images.split(self.batch_size):
            batch = batch.to(self.compute.device)
            inputs = evaluation_transform(batch, self.image, self.test_crop)
            with self.compute.autocast():
                output = model.encoder(inputs.contiguous(memory_format=torch.channels_last))
                logits.append(model.classifier(output).float())
            features.append(output.float())
        return torch.cat(features), torch.cat(logits)
