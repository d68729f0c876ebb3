"""Classifier distillation L_C^KD by soft labels (Hinton et al. 2015, arXiv:1503.02531; fidelity.md
§6).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened


def soft_label_distillation(
    student_logits: Sequence[Tensor], teacher_logits: Sequence[Tensor], temperature: float
) -> Tensor:
    """Mean over views of the cross-entropy of the student against the teacher's softmax, all K
    logits.

    Each element of the two sequences is one view's logits [N, K]. Both are divided by
    ``temperature`` and the loss multiplied by its square, which keeps the gradients' size
    (arXiv:1503.02531 §2); the reference is temperature 1, where this has no effect. Returns a
    scalar in float32 (float64 for float64 inputs); no gradient reaches the teacher.
    """
    with full_precision(student_logits[0].device.type):
        losses = [
            F.cross_entropy(
                widened(student) / temperature,
                torch.softmax(widened(teacher).detach() / temperature, dim=1),
            )
            for student, teacher in zip(student_logits, teacher_logits, strict=True)
        ]
        return torch.stack(losses).mean() * temperature**2
