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
        losses = []
        for student, teacher in zip(student_logits, teacher_logits, strict=True):
            s, t = widened(student), widened(teacher).detach()
            if temperature != 1:
                # Under high temperatures the two softmaxes are nearly uniform and differ by less
                # than float32 resolves, and the square of a low one is below its smallest number.
                s, t = s.double() / temperature, t.double() / temperature
            losses.append(F.cross_entropy(s, torch.softmax(t, dim=1)))
        loss = torch.stack(losses).mean() * temperature**2
        return loss.to(widened(student_logits[0]).dtype)
