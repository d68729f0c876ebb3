"""A trained model as its users have it: from images of any kind to classes and features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kaizen.compute.device import Compute
from kaizen.heads.base import LinearHead
from kaizen.heads.expansion import expanded
from kaizen.inference.answering import BATCH_SIZE
from kaizen.inference.facts import facts_of
from kaizen.inference.images import Images, OneImage, each_image, numbered_batches, pixels_of
from kaizen.models.config import ModelConfig, Preprocessing
from kaizen.models.feature_classifier import FeatureClassifier
from kaizen.views.augment import evaluation_transform
from kaizen.views.pixels import to_model_input


class Predictions(NamedTuple):
    """What N images were taken for: the names of the most probable classes, str [N], and the
    softmax over all K classes seen so far, float32 [N, K], on the CPU.
    """

    names: list[str]
    probabilities: Tensor


class AnalyticHead(nn.Module):
    """An analytic head (docs/heads.md) as a module: features [N, F] to scores float64 [N, K]."""

    def __init__(self, head: LinearHead, projection: Tensor | None) -> None:
        """Take its weights, and the projection of its random features, if it has any."""
        super().__init__()
        self.labels = head.classes.tolist()
        self.weight: Tensor
        self.bias: Tensor
        self.projection: Tensor | None
        self.register_buffer("weight", head.weight)
        self.register_buffer("bias", head.bias)
        self.register_buffer("projection", projection)

    def forward(self, features: Tensor) -> Tensor:
        """W x + b of what the head sees of ``features``, of its classes in the order of labels."""
        scores: Tensor = torch.addmm(self.bias, expanded(features, self.projection), self.weight.T)
        return scores


class Model(nn.Module):
    """A step's encoder and classifier. ``classes`` are the names of the K classes seen so far, in
    the order of the logits; ``config`` and ``preprocessing`` are what its folder says.

    As an nn.Module it maps normalised images to logits; `predict` and `embed` take images of any
    kind, and compute in the precision that the evaluation computes in.
    """

    def __init__(
        self,
        network: FeatureClassifier,
        config: ModelConfig,
        preprocessing: Preprocessing,
        compute: Compute,
    ) -> None:
        """Take a network in eval mode that lies on the device of ``compute``."""
        super().__init__()
        self.encoder, self.classifier = network.encoder, network.classifier
        self.config, self.preprocessing, self.compute = config, preprocessing, compute
        self.classes = tuple(known.name for known in config.classes)
        seen = [known.logit for known in config.classes]
        self._seen: Tensor
        positions = torch.tensor(seen, device=compute.device)
        self.register_buffer("_seen", positions, persistent=False)
        self._all_seen = seen == list(range(config.logits))
        self.head: AnalyticHead | None = None

    @property
    def key(self) -> str:
        """The key of the step that made the model."""
        return self.config.key

    def facts(self) -> dict[str, Any]:
        """What the model is, as JSON (`kaizen.inference.facts.ModelFacts`)."""
        return facts_of(self.config, self.preprocessing, self.encoder.feature_dim).to_json()

    def identity(self) -> dict[str, str]:
        """What decides the bits of its answers: `digest`, device and precision."""
        return {
            "model": digest(self),
            "device": self.compute.device.type,
            "precision": str(self.compute.dtype),
        }

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of normalised images [N, C, size, size], float, as `prepare` makes them:
        of the K classes seen so far, in the order of ``classes``.
        """
        return self.logits(self.encoder(images))

    def answer_by(self, head: AnalyticHead) -> None:
        """Let an analytic head answer instead of the trained classifier."""
        self.head = head.to(self._seen.device)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [N, K] of features [N, F], of the classes seen so far: those of the classifier, or
        an analytic head's scores, minus infinity for a class that it has no image of.
        """
        if self.head is not None:
            scores: Tensor = self.head(features)
            found = scores.new_full((len(scores), len(self.classes)), -torch.inf)
            places = {known.label: place for place, known in enumerate(self.config.classes)}
            found[:, [places[label] for label in self.head.labels]] = scores
            return found
        logits: Tensor = self.classifier(features)
        return logits if self._all_seen else logits[:, self._seen]

    def prepare(self, images: Images) -> Tensor:
        """What the network sees of images of any kind: float32 [N, C, size, size], normalised, on
        the CPU.

        Decoded, resized, cropped and normalised as in evaluation. Raises KaizenError where
        something is no image.
        """
        image = self.config.image
        prepared = [
            self.prepare_one(one, f"image {number}")
            for number, one in enumerate(each_image(images))
        ]
        empty = torch.empty(0, image.channels, image.size, image.size)
        return torch.stack(prepared) if prepared else empty

    def prepare_one(self, image: OneImage, name: str = "an image") -> Tensor:
        """The same of one image, float32 [C, size, size]; ``name`` is for messages."""
        wanted = self.config.image
        pixels = to_model_input(pixels_of(image, self.preprocessing, name), wanted)
        # torch warns of arrays that must not be written to, as those of a shard are.
        batch = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())[None]
        return evaluation_transform(batch, wanted, self.preprocessing.test_crop)[0]

    def prepare_numpy(self, image: OneImage, name: str = "an image") -> np.ndarray:
        """`prepare_one` as an array, for `answer`."""
        return np.ascontiguousarray(self.prepare_one(image, name).numpy())

    def answer(self, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32 [N, K] and features float32 [N, F] of arrays that `prepare_numpy`
        made, stacked: float32 [N, C, size, size].
        """
        features, logits = self.run(torch.from_numpy(prepared))
        return logits.softmax(dim=1).numpy(), features.numpy()

    def predict(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Predictions:
        """The classes of images: N names, and probabilities float32 [N, K] of the K ``classes``.

        ``images`` are paths, files' bytes, PIL images, arrays or tensors, of any size and mode, one
        or many. Raises KaizenError where one of them is no image.
        """
        found = [self.run(batch)[1] for batch in self._batches(images, batch_size)]
        logits = torch.cat([torch.empty(0, len(self.classes)), *found])
        return Predictions(
            [self.classes[place] for place in logits.argmax(dim=1).tolist()], logits.softmax(dim=1)
        )

    def embed(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Tensor:
        """The features of images, float32 [N, F], on the CPU; images as for `predict`."""
        found = [self.run(batch)[0] for batch in self._batches(images, batch_size)]
        return torch.cat([torch.empty(0, self.encoder.feature_dim), *found])

    @torch.no_grad()
    def run(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [N, F] and logits float32 [N, K] of prepared images, on the CPU; in the
        precision of the evaluation, whatever mode the module is in.
        """
        training = self.training
        self.eval()
        try:
            device = self._seen.device
            inputs = prepared.to(device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(
                device.type,
                dtype=torch.bfloat16,
                enabled=self.compute.dtype == torch.bfloat16,
            ):
                features = self.encoder(inputs)
                logits = self.logits(features)
            return features.float().cpu(), logits.float().cpu()
        finally:
            self.train(training)

    def _batches(self, images: Images, batch_size: int) -> Iterator[Tensor]:
        """Prepared images, ``batch_size`` at a time."""
        for batch in numbered_batches(images, batch_size):
            yield torch.stack([self.prepare_one(one, f"image {number}") for number, one in batch])


def digest(model: Model) -> str:
    """A hash of all that decides what a model answers: weights, classes, how images are shown."""
    found = hashlib.sha256(repr((model.config, model.preprocessing)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
