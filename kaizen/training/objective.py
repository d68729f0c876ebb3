"""The joint loss of Kaizen: L = L_FE^CT + lambda_f L_FE^KD + L_C^CT + lambda_c L_C^KD.

The names are the paper's: FE feature extractor, C classifier, CT current task, KD knowledge distillation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kaizen.distill.soft_label import soft_label_distillation
from kaizen.models.continual import ContinualModel
from kaizen.training.classification import cross_entropy_sum
from kaizen.training.device import Compute

TERMS = ("L_FE_CT", "L_FE_KD", "L_C_CT", "L_C_KD")

TERM_NAMES = {
    "L_FE_CT": "self-supervised loss",
    "L_FE_KD": "feature distillation",
    "L_C_CT": "classifier cross-entropy",
    "L_C_KD": "classifier distillation",
}


@dataclass(frozen=True)
class Objective:
    """Which terms a step has, and their weights; a weight of None leaves the term out and logs it as 0."""

    feature_weight: float | None
    classifier_weight: float | None
    classifier_temperature: float
    classifier_gradient: bool

    def __call__(
        self,
        student: ContinualModel,
        teacher: ContinualModel | None,
        views: tuple[Tensor, Tensor],
        labels: Tensor,
        compute: Compute,
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch of task and replay rows.

        ``views`` are float32 [N, C, H, W], ``labels`` int64 [N] with -1 where absent; every row takes part in
        every term but L_C^CT, which unlabelled rows skip. Returns (L, a scalar with gradient; the four
        unweighted terms, float32 [4] without, in the order of `TERMS`).
        """
        with compute.autocast():
            features = (student.encoder(views[0]), student.encoder(views[1]))
            ssl = student.ssl(features, views)
            # The reference trains the classifier on detached features (fidelity.md §6).
            seen = features if self.classifier_gradient else (features[0].detach(), features[1].detach())
            logits = [student.classifier(view) for view in seen]
            supervised = cross_entropy_sum(logits, labels)
            zero = torch.zeros((), device=labels.device)
            feature_kd = classifier_kd = zero
            total = ssl.loss + supervised
            if teacher is not None:
                with torch.no_grad():
                    old = (teacher.encoder(views[0]), teacher.encoder(views[1]))
                if self.feature_weight is not None and student.distiller is not None:
                    with torch.no_grad():
                        frozen = (teacher.ssl.project(old[0]), teacher.ssl.project(old[1]))
                    feature_kd = student.distiller(ssl.projections, frozen)
                    total = total + self.feature_weight * feature_kd
                if self.classifier_weight is not None:
                    with torch.no_grad():
                        targets = [teacher.classifier(view) for view in old]
                    classifier_kd = soft_label_distillation(logits, targets, self.classifier_temperature)
                    total = total + self.classifier_weight * classifier_kd
        terms = torch.stack([ssl.loss.detach(), feature_kd.detach(), supervised.detach(), classifier_kd.detach()])
        return total, terms
