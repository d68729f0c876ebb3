"""Which of a student's parameters the optimiser moves at which rate and decay."""

from __future__ import annotations

from kaizen.params import OptimisationParams
from kaizen.training.optim import ParameterGroup
from kaizen.training.schedule import scaled_lr
from kaizen.training.student import ContinualModel


def parameter_groups(
    student: ContinualModel, train: OptimisationParams, batch_size: int | None = None
) -> list[ParameterGroup]:
    """The optimiser's groups (fidelity.md §3): only ``lr`` scales with the batch, and the
    classifier has no decay.

    The batch is the one that is trained with, ``batch_size``: of few images it is smaller than
    train.batch_size, which counts where none is given.
    """
    lr = scaled_lr(train.lr, batch_size or train.batch_size)
    groups = [
        ParameterGroup("encoder", list(student.encoder.named_parameters()), lr, train.weight_decay)
    ]
    for name, parameters in student.ssl.parameter_groups().items():
        groups.append(
            ParameterGroup(
                name, parameters, lr, train.weight_decay, name in student.ssl.static_heads
            )
        )
    if student.distiller is not None:
        parameters = list(student.distiller.named_parameters())
        factor = student.distiller.lr_factor
        groups.append(ParameterGroup("distiller", parameters, lr * factor, train.weight_decay))
    groups.append(
        ParameterGroup(
            "classifier", list(student.classifier.named_parameters()), train.classifier_lr, 0.0
        )
    )
    return groups
