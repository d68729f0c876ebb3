"""The joint loss of Kaizen: L = L_FE^CT + lambda_f L_FE^KD + L_C^CT + lambda_c L_C^KD.

`kaizen.training.terms` names the terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from kaizen.compute import distributed
from kaizen.compute.device import Compute
from kaizen.data.schema import UNLABELLED
from kaizen.distill.soft_label import soft_label_distillation
from kaizen.models.fused_norms import encoded
from kaizen.ssl.base import Moment
from kaizen.training.classification import cross_entropy_sum
from kaizen.training.student import ContinualModel
from kaizen.training.terms import TERMS

if TYPE_CHECKING:
    from kaizen.training.prototypes import Prototypes

Value = TypeVar("Value", float, Tensor)


@torch.no_grad()
def _features(teacher: ContinualModel, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The frozen teacher's features [N, F] of two views, without gradient.

    On a GPU in one pass, which halves the launches: where no row's features depend on the others,
    as in eval mode, and no other process has a part of the rows. On CPUs it gains nothing.
    """
    if teacher.training or distributed.count() > 1 or not views[0].is_cuda:
        return teacher.encoder(views[0]), teacher.encoder(views[1])
    first, second = teacher.encoder(torch.cat(views)).chunk(2)
    return first, second


def _appended(views: tuple[Tensor, Tensor], rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Features [N, F] of two views, with pseudo-features [R, F] of each after them."""
    return torch.cat([views[0], rows[0]]), torch.cat([views[1], rows[1]])


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
    # Where the classifier's losses tell old classes from the task's: the logits of either, int64
    # [O] and [T], and how many rows of a batch, the first ones, are the task's.
    old_logits: Tensor | None = None
    task_logits: Tensor | None = None
    task_rows: int = 0
    # Pseudo-features that follow a batch's rows in the classifier's terms; they need a teacher.
    prototypes: Prototypes | None = None

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each of `TERMS` in L, in their order; 0 for one that is left out."""
        return {
            "L_FE_CT": 1.0,
            "L_FE_KD": self.feature_weight or 0.0,
            "L_C_CT": 1.0,
            "L_C_KD": self.classifier_weight or 0.0,
        }

    def total(self, terms: Mapping[str, Value]) -> Value:
        """L, the weighted sum of the terms by their names: of a batch's tensors [] with gradient,
        or of numbers.
        """
        weighted = [weight * terms[name] for name, weight in self.weights.items()]
        total = weighted[0]
        for term in weighted[1:]:
            total = total + term
        return total

    def __call__(
        self,
        student: ContinualModel,
        teacher: ContinualModel | None,
        views: tuple[Tensor, Tensor],
        labels: Tensor,
        *,
        compute: Compute,
        moment: Moment,
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch of task and replay rows.

        ``views`` are float32 [N, C, H, W], ``labels`` int64 [N] with -1 where absent; every row
        takes part in every term but L_C^CT, which unlabelled rows skip. Pseudo-features are rows of
        the classifier's two terms alone. Returns (L, a scalar with
        gradient; the four unweighted terms, float32 [4] without, in the order of `TERMS`).
        """
        with compute.autocast():
            features = encoded(student.encoder, views)
            ssl = student.ssl(features, views, moment)
            # The reference trains the classifier on detached features (fidelity.md §6).
            seen = (
                features
                if self.classifier_gradient
                else (features[0].detach(), features[1].detach())
            )
            old = None
            if self.prototypes is not None and teacher is not None:
                old = _features(teacher, views)
                drawn, mapped = self.prototypes(old, features)
                seen = _appended(seen, mapped)
                labels = torch.cat([labels, self.prototypes.labels])
            logits = [student.classifier(view) for view in seen]
            supervised = cross_entropy_sum(
                [self._own_classes(view) for view in logits], self._targets(labels)
            )
            feature_kd = classifier_kd = torch.zeros((), device=labels.device)
            if teacher is not None:
                old = old or _features(teacher, views)
                if self.feature_weight is not None and student.distiller is not None:
                    with torch.no_grad():
                        targets = (
                            student.distiller.targets(teacher.ssl, old[0]),
                            student.distiller.targets(teacher.ssl, old[1]),
                        )
                    feature_kd = student.distiller(ssl.projections, targets)
                if self.classifier_weight is not None:
                    if self.prototypes is not None:
                        old = _appended(old, drawn)
                    with torch.no_grad():
                        soft = [teacher.classifier(view) for view in old]
                    # A classifier that grew has its new logits last; the teacher knows the first
                    # ones.
                    known = [view[:, : soft[0].shape[1]] for view in logits]
                    if self.old_logits is not None:
                        known = [view[:, self.old_logits] for view in known]
                        soft = [view[:, self.old_logits] for view in soft]
                    classifier_kd = soft_label_distillation(
                        known, soft, self.classifier_temperature
                    )
            terms = {
                "L_FE_CT": ssl.loss,
                "L_FE_KD": feature_kd,
                "L_C_CT": supervised,
                "L_C_KD": classifier_kd,
            }
            total = self.total(terms)
        return total, torch.stack([terms[name].detach() for name in TERMS])

    def _own_classes(self, logits: Tensor) -> Tensor:
        """Logits [N, L], of the task's rows minus infinity but for the task's classes, where these
        are told apart: so their softmax moves no other class.
        """
        if self.task_logits is None:
            return logits
        others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        others[self.task_logits] = False
        own = logits[: self.task_rows].masked_fill(others, -torch.inf)
        return torch.cat([own, logits[self.task_rows :]])

    def _targets(self, labels: Tensor) -> Tensor:
        """The logits that labels [N] stand for; -1 stays."""
        if self.logit_of_label is None:
            return labels
        return torch.where(labels == UNLABELLED, labels, self.logit_of_label[labels.clamp(min=0)])
