"""The network that is exported: from levels uint8 [N, C, size, size] to probabilities and features,
all in one graph of torch.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from kaizen.heads.expansion import expanded
from kaizen.inference.model import AnalyticHead, Model
from kaizen.models.folded import fold_batch_norms


class Deployed(nn.Module):
    """Normalisation, encoder and the head that answers of a model; its batch norms are folded.

    On the CPU, float32; an analytic head computes in float64, as it does in the model.
    """

    def __init__(self, model: Model) -> None:
        """Take a copy of a model that lies on the CPU."""
        super().__init__()
        self.encoder: nn.Module = copy.deepcopy(model.encoder).eval()
        fold_batch_norms(self.encoder)
        self.head: nn.Module
        if model.head is None:
            seen = [known.logit for known in model.config.classes]
            self.head = Selected(copy.deepcopy(model.classifier).eval(), seen)
        else:
            labels = [known.label for known in model.config.classes]
            self.head = Scores(model.head, labels)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.scale: Tensor
        self.shift: Tensor
        image = model.config.image
        # Those of `kaizen.views.augment.normalise`.
        scale = [1.0 / (255.0 * deviation) for deviation in image.std]
        shift = [-mean / deviation for mean, deviation in zip(image.mean, image.std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities float32 [N, K] and features float32 [N, F] of levels uint8 [N, C, size,
        size].
        """
        features = self.encoder(images.to(torch.float32) * self.scale + self.shift)
        logits = self.head(features).to(torch.float32)
        return logits.softmax(dim=1), features


class Selected(nn.Module):
    """A trained classifier, and of its logits those of the classes seen so far."""

    def __init__(self, classifier: nn.Module, seen: list[int]) -> None:
        """Take the classifier [N, F] -> [N, L] and the places of K logits."""
        super().__init__()
        self.classifier = classifier
        self.seen: Tensor
        self.register_buffer("seen", torch.tensor(seen))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, K]."""
        logits: Tensor = self.classifier(features).index_select(1, self.seen)
        return logits


class Scores(nn.Module):
    """An analytic head's scores of the classes seen so far, float64 [N, K]; minus infinity for a
    class that it has no image of.
    """

    def __init__(self, head: AnalyticHead, labels: list[int]) -> None:
        """Take the head, and the label of each of K classes."""
        super().__init__()
        places = {label: place for place, label in enumerate(head.labels)}
        none = len(head.labels)
        self.order: Tensor
        self.weight: Tensor
        self.bias: Tensor
        self.projection: Tensor | None
        self.register_buffer("order", torch.tensor([places.get(label, none) for label in labels]))
        weight, bias = head.weight, head.bias
        if any(label not in places for label in labels):
            # One row more, for all classes without an image: minus infinity of any features.
            weight = torch.cat([weight, weight.new_zeros(1, weight.shape[1])])
            bias = torch.cat([bias, bias.new_full((1,), -torch.inf)])
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", bias.clone())
        self.register_buffer("projection", head.projection)

    def forward(self, features: Tensor) -> Tensor:
        """W x + b of what the head sees of features [N, F]."""
        scores = torch.addmm(self.bias, expanded(features, self.projection), self.weight.T)
        return scores.index_select(1, self.order)


def program_of(model: Model) -> Any:
    """The torch.export program of a model on the CPU, for any number of images at a time."""
    image = model.config.image
    # With an example of one image, torch would freeze the batch.
    example = torch.zeros(2, image.channels, image.size, image.size, dtype=torch.uint8)
    shapes = {"images": {0: torch.export.Dim("N", min=1)}}
    with torch.no_grad(), warnings.catch_warnings():
        # What torch's own exporter warns of is about its own code.
        warnings.simplefilter("ignore")
        return torch.export.export(Deployed(model).eval(), (example,), dynamic_shapes=shapes)
