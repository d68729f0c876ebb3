"""Encoder and classifier, what is deployed and evaluated after every task; and its weights from a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from kaizen.compute.seeding import seeded
from kaizen.compute.seeds import derive_seed
from kaizen.errors import KaizenError
from kaizen.models.backbone import Backbone, build_backbone
from kaizen.models.heads import classifier
from kaizen.params import NetworkParams
from kaizen.plan.specs import StepSpec

_MAKE_AGAIN = "delete its folder and run again"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """All that decides what encoder and classifier look like, and the weights they begin with.

    ``model`` names the backbone and the classifier's hidden layers; ``logits`` is the number of the
    classifier's outputs. ``stem_padding_2``, ``image_size``: see `build_backbone`.
    """

    model: NetworkParams
    channels: int
    logits: int
    seed: int
    stem_padding_2: bool = False
    image_size: int | None = None


def architecture_of(step: StepSpec) -> Architecture:
    """The architecture of a step's network."""
    return Architecture(
        model=step.model,
        channels=step.image.channels,
        logits=step.num_classes,
        seed=step.seed,
        stem_padding_2=step.stem_padding_2,
        image_size=step.image.size,
    )


class FeatureClassifier(nn.Module):
    """Encoder and classifier: what is deployed and evaluated after every task.

    ``labels`` are those that the logits stand for, in order; None: logit i stands for label i.
    """

    labels: list[int] | None = None

    def __init__(self, encoder: Backbone, head: nn.Sequential) -> None:
        """Take an encoder [N, C, H, W] -> [N, F] and a head [N, F] -> [N, K]."""
        super().__init__()
        self.encoder = encoder
        self.classifier = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of normalised images [N, C, H, W], float."""
        logits: Tensor = self.classifier(self.encoder(images))
        return logits

    def predicted(self, logits: Tensor) -> Tensor:
        """The labels of the largest of logits [N, L]: int64 [N]."""
        largest = logits.argmax(dim=1)
        return (
            largest
            if self.labels is None
            else torch.tensor(self.labels, device=largest.device)[largest]
        )


def build_feature_classifier(architecture: Architecture) -> FeatureClassifier:
    """Build encoder and classifier with the seed's initial weights, on the CPU; untrained: the
    random network.
    """
    model, seed = architecture.model, architecture.seed
    with seeded(derive_seed(seed, "encoder")):
        encoder = build_backbone(
            model, architecture.channels, architecture.stem_padding_2, architecture.image_size
        )
    with seeded(derive_seed(seed, "classifier")):
        head = classifier(encoder.feature_dim, model.classifier_hidden, architecture.logits)
    return FeatureClassifier(encoder, head)


def read_checkpoint(path: Path, fix: str = _MAKE_AGAIN) -> dict[str, Tensor]:
    """Read a safetensors file; raises KaizenError that names it and ``fix`` when it is not one."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise KaizenError(f"{path} is not a readable checkpoint ({error}); {fix}") from error


def load_weights(
    model: FeatureClassifier,
    tensors: Mapping[str, Tensor],
    source: Path,
    may_lack: tuple[str, ...] = (),
    new_logits: int = 0,
    *,
    fix: str = _MAKE_AGAIN,
) -> None:
    """Load a checkpoint's tensors by name into ``model``.

    Tensors that the model does not have are left out; those under a prefix of ``may_lack`` may be
    missing. The model's last ``new_logits`` logits are new and keep their weights. Raises
    KaizenError naming the file, the first tensor that is missing or of another shape, and ``fix``.
    """
    state = model.state_dict()
    if new_logits:
        last = f"classifier.{len(model.classifier) - 1}"
        state |= {name: state[name][:-new_logits] for name in (f"{last}.weight", f"{last}.bias")}
    for name, value in state.items():
        if name not in tensors:
            if name.startswith(may_lack):
                continue
            raise KaizenError(
                f"{source} lacks the tensor {name}; it was made with other model parameters or is "
                f"damaged; {fix}"
            )
        if tensors[name].shape != value.shape:
            raise KaizenError(
                f"{source}: tensor {name} has shape {tuple(tensors[name].shape)}, but the "
                f"parameters make it {tuple(value.shape)}; it was made with other model "
                f"parameters; {fix}"
            )
    with torch.no_grad():
        for name, value in state.items():
            if name in tensors:
                value.copy_(tensors[name])
