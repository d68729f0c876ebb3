"""The one model that learns from the stream: encoder, SSL heads, classifier, distillation
predictor.
"""

from __future__ import annotations

import copy

from torch import nn

from kaizen.compute.seeding import seeded
from kaizen.compute.seeds import derive_seed
from kaizen.distill.base import FeatureDistiller
from kaizen.models.backbone import Backbone
from kaizen.models.feature_classifier import (
    Architecture,
    FeatureClassifier,
    build_feature_classifier,
)
from kaizen.models.folded import fold_batch_norms
from kaizen.models.heads import without_last_outputs
from kaizen.params import FeatureDistillParams, registry
from kaizen.ssl.base import SSLMethod


class ContinualModel(FeatureClassifier):
    """The student; its state dict is what a step hands to the next one."""

    def __init__(
        self,
        encoder: Backbone,
        head: nn.Sequential,
        ssl: SSLMethod,
        distiller: FeatureDistiller | None,
    ) -> None:
        """Add the method's heads, and the feature distiller where one is used."""
        super().__init__(encoder, head)
        self.ssl = ssl
        self.distiller = distiller


def build_model(
    architecture: Architecture,
    method: str,
    ssl_params: object,
    feature_distill: FeatureDistillParams | None = None,
) -> ContinualModel:
    """Build the student with its seed's initial weights, on the CPU.

    Each part draws from a seed of its own, so that variants differ in nothing but the parts they
    add.
    """
    base = build_feature_classifier(architecture)
    seed = architecture.seed
    with seeded(derive_seed(seed, "ssl", method)):
        ssl = registry.load(registry.METHODS[method].target)(ssl_params, base.encoder)
    distiller = None
    if feature_distill is not None:
        with seeded(derive_seed(seed, "distiller")):
            target = registry.FEATURE_DISTILLERS[feature_distill.distiller].target
            distiller = registry.load(target)(feature_distill, ssl)
    return ContinualModel(base.encoder, base.classifier, ssl, distiller)


def frozen_copy(model: ContinualModel, train_mode: bool, new_logits: int = 0) -> ContinualModel:
    """The teacher: a copy without gradient, in eval mode unless the reference's train mode is asked
    for.

    In eval mode its batch norms are folded into the layers before them.

    The last ``new_logits`` logits, which a growing classifier got for the present step, are left
    out.

    Only ever made of weights just loaded from the prior step's file (fidelity.md §14.4).
    """
    teacher = copy.deepcopy(model)
    teacher.distiller = None
    if new_logits:
        without_last_outputs(teacher.classifier, new_logits)
    for name in teacher.ssl.student_only:
        delattr(teacher.ssl, name)
    teacher.requires_grad_(False)
    if not train_mode:
        fold_batch_norms(teacher)
    return teacher.train(train_mode)
