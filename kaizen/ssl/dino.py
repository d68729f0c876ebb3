"""DINO (Caron et al. 2021, arXiv:2104.14294; fidelity.md §4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.precision import full_precision, unit_rows, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import Layer, mlp
from kaizen.params import DINOParams
from kaizen.ssl.base import Moment, PrototypeMethod, SSLOutput
from kaizen.ssl.momentum import MomentumNetwork
from kaizen.ssl.prototypes import Prototypes

_EPSILON = 1e-6


def self_distillation(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    centre: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of each view's student scores against the other's teacher scores, all [N, K].

    The teacher's are centred by ``centre`` [K], both are divided by their temperature; the mean
    over rows and the two directions (arXiv:2104.14294, eq. 3). No gradient reaches the teacher.
    Returns a scalar; half types are widened to float32 first.
    """
    with full_precision(student[0].device.type):
        losses = [
            F.cross_entropy(
                widened(student[1 - view]) / student_temperature,
                torch.softmax(
                    (widened(teacher[view]).detach() - centre) / teacher_temperature, dim=1
                ),
            )
            for view in (0, 1)
        ]
        return (losses[0] + losses[1]) / 2


def teacher_temperature_in(epoch: int, params: DINOParams) -> float:
    """The teacher's temperature in ``epoch`` of a task: linear over the warm-up's epochs, its last
    one at the end.
    """
    start, final, epochs = (
        params.teacher_temperature_start,
        params.teacher_temperature,
        params.teacher_temperature_warmup_epochs,
    )
    if epoch >= epochs:
        return final
    return start + (final - start) * epoch / max(epochs - 1, 1)


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale down the gradient of every parameter whose norm exceeds ``largest``, each by itself
    (fidelity.md §3).
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, (largest / (norms + _EPSILON)).clamp(max=1).unbind())


class DINO(PrototypeMethod):
    """DINO: the student's scores match the momentum network's, centred and sharpened, of the other
    view.
    """

    student_only = ("momentum", "centre")
    centre: Tensor

    def __init__(self, params: DINOParams, encoder: Backbone) -> None:
        """Build the head (three linear layers under GELU, then prototypes of length 1) and the
        momentum network.
        """
        super().__init__()
        self.params = params
        self.projection_dim = params.projector_out
        self.prototype_count = params.prototypes
        self.projector = mlp(
            Layer(
                encoder.feature_dim, params.projector_hidden, batch_norm=True, relu=False, gelu=True
            ),
            Layer(
                params.projector_hidden,
                params.projector_hidden,
                batch_norm=True,
                relu=False,
                gelu=True,
            ),
            Layer(params.projector_hidden, params.projector_out, batch_norm=False, relu=False),
        )
        for layer in self.projector:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = Prototypes(params.projector_out, params.prototypes, learned_length=False)
        self.momentum = MomentumNetwork(
            encoder, self._head(), params.momentum_base, params.momentum_final
        )
        self.register_buffer("centre", torch.zeros(params.prototypes))

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """Each view's student against the other view's teacher."""
        z1, z2 = self.project(features[0]), self.project(features[1])
        scores = (self.prototypes(z1), self.prototypes(z2))
        teacher_scores = self.momentum(views)
        self.pending = teacher_scores
        temperature = self.phase(moment)
        loss = self_distillation(
            scores, teacher_scores, self.centre, self.params.student_temperature, temperature
        )
        return SSLOutput(loss, (z1, z2))

    def phase(self, moment: Moment) -> float:
        """The teacher's temperature."""
        return teacher_temperature_in(moment.epoch, self.params)

    def project(self, features: Tensor) -> Tensor:
        """Return the normalised bottleneck [N, projection_dim] of features [N, F], which goes into
        the prototypes.
        """
        return unit_rows(self.projector(features))

    def before_update(self, moment: Moment, encoder: nn.Module) -> None:
        """Clip the gradient of each parameter of encoder and head; let the last layer rest in the
        first epochs.

        Encoder and head as in the paper's code; CaSSLe's clips the encoder's only, and by default
        none.
        """
        if moment.epoch < self.params.freeze_last_layer_epochs:
            for parameter in self.prototypes.parameters():
                parameter.grad = None
        if self.params.clip_gradient:
            clip_each(
                itertools.chain(encoder.parameters(), self.parameters()), self.params.clip_gradient
            )

    @torch.no_grad()
    def after_step(self, moment: Moment, encoder: nn.Module) -> None:
        """Move the centre towards the batch's mean score, replay rows too, and let the momentum
        network follow.
        """
        mean = torch.cat(self.pending).mean(dim=0)
        self.centre.lerp_(mean.to(self.centre.dtype), 1 - self.params.centre_momentum)
        self.pending = ()
        self.momentum.follow(encoder, self._head(), moment)

    def _head(self) -> nn.Sequential:
        """Projector and prototypes as one module: features [N, F] to scores [N,
        prototype_count].
        """
        return nn.Sequential(self.projector, self.prototypes)
