"""The joint loss of Kaizen: L = L_FE^CT + lambda_f L_FE^KD + L_C^CT + lambda_c L_C^KD.

The names are the paper's: FE feature extractor, C classifier, CT current task, KD knowledge
distillation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kaizen.compute.device import Compute
from kaizen.distill.soft_label import soft_label_distillation
from kaizen.ssl.base import Moment
from kaizen.training.classification import UNLABELLED, cross_entropy_sum
from kaizen.training.student import ContinualModel

TERMS = ("L_FE_CT", "L_FE_KD", "L_C_CT", "L_C_KD")

TERM_NAMES = {
    "L_FE_CT": "self-supervised loss",
    "L_FE_KD": "feature distillation",
    "L_C_CT": "classifier cross-entropy",
    "L_C_KD": "classifier distillation",
}


@dataclass(frozen=True)
class Objective:
    """Which terms a step has, and their weights; a weight of None leaves the term out and logs it
    as 0.
    """

    feature_weight: float | None
    classifier_weight: float | None
    classifier_temperature: float
    classifier_gradient: bool
    # Of a growing classifier: label -> logit, int64 [K]; None where they are the same.
    logit_of_label: Tensor | None = None

    def __call__(
        self,
        student: ContinualModel,
        teacher: ContinualModel | None,
        views: tuple[Tensor, Tensor],
        labels: Tensor,
        compute: Compute,
        moment: Moment,
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch of task and replay rows.

        ``views`` are float32 [N, C, H, W], ``labels`` int64 [N] with -1 where absent; every row
        takes part in every term but L_C^CT, which unlabelled rows skip. Returns (L, a scalar with
        gradient; the four unweighted terms, float32 [4] without, in the order of `TERMS`).
        """
        with compute.autocast():
            features = (student.encoder(views[0]), student.encoder(views[1]))
            ssl = student.ssl(features, views, moment)
            # The reference trains the classifier on detached features (fidelity.md §6).
            seen = (
                features
                if self.classifier_gradient
                else (features[0].detach(), features[1].detach())
            )
            logits = [student.classifier(view) for view in seen]
            supervised = cross_entropy_sum(logits, self._targets(labels))
            zero = torch.zeros((), device=labels.device)
            feature_kd = classifier_kd = zero
            total = ssl.loss + supervised
            if teacher is not None:
                with torch.no_grad():
                    old = (teacher.encoder(views[0]), teacher.encoder(views[1]))
                if self.feature_weight is not None and student.distiller is not None:
                    with torch.no_grad():
                        targets = (
                            student.distiller.targets(teacher.ssl, old[0]),
                            student.distiller.targets(teacher.ssl, old[1]),
                        )
                    feature_kd = student.distiller(ssl.projections, targets)
                    total = total + self.feature_weight * feature_kd
                if self.classifier_weight is not None:
                    with torch.no_grad():
                        soft = [teacher.classifier(view) for view in old]
                    # A classifier that grew has its new logits last; the teacher knows the first
                    # ones.
                    known = [view[:, : soft[0].shape[1]] for view in logits]
                    classifier_kd = soft_label_distillation(
                        known, soft, self.classifier_temperature
                    )
                    total = total + self.classifier_weight * classifier_kd
        terms = torch.stack(
            [ssl.loss.detach(), feature_kd.detach(), supervised.detach(), classifier_kd.detach()]
        )
        return total, terms

    def _targets(self, labels: Tensor) -> Tensor:
        """The logits that labels [N] stand for; -1 stays."""
        if self.logit_of_label is None:
            return labels
        return torch.where(labels == UNLABELLED, labels, self.logit_of_label[labels.clamp(min=0)])
