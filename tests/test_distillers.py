"""Feature distillers against the reference's golden numbers and against plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ssl_models import Features, Projections
from torch import Tensor, nn

from kaizen.compute.seeding import seeded
from kaizen.distill.base import FeatureDistiller
from kaizen.distill.prototype import PrototypeDistiller
from kaizen.models.feature_classifier import Architecture
from kaizen.params import (
    DecorrelativeDistillParams,
    DINOParams,
    FeatureDistillParams,
    ModelParams,
    PrototypeDistillParams,
    SimCLRParams,
    SwAVParams,
    TrainParams,
    registry,
)
from kaizen.ssl.base import PrototypeMethod, SSLMethod
from kaizen.ssl.dino import DINO
from kaizen.ssl.simclr import SimCLR
from kaizen.ssl.swav import SwAV
from kaizen.training.groups import parameter_groups
from kaizen.training.student import build_model

ROWS, DIM = 12, 6
VIEWWISE = ["predictive", "predictive_mse", "decorrelative"]


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(seed: int) -> tuple[Tensor, Tensor]:
    return random(seed, ROWS, DIM), random(seed + 1, ROWS, DIM)


def build(name: str, hidden: int = 0, dim: int = DIM, **others: Any) -> FeatureDistiller:
    """A distiller for projections of ``dim`` dimensions, in float64."""
    params = FeatureDistillParams(distiller=name, predictor_hidden=hidden, **others)
    with seeded(0):
        distiller: FeatureDistiller = registry.load(registry.FEATURE_DISTILLERS[name].target)(
            params, Projections(dim)
        )
    return distiller.double()


@pytest.mark.parametrize(
    ("name", "result"), [("predictive", "predictive"), ("predictive_mse", "predictive_mse")]
)
def test_predictive_golden(golden: dict[str, Tensor], name: str, result: str) -> None:
    predicted, targets = (
        tuple(golden[f"in/{of}{view}"] for view in (1, 2)) for of in ("p", "teacher_z")
    )
    loss = build(name, dim=16)(predicted, targets)
    torch.testing.assert_close(loss, golden[f"out/feature_distill/{result}"], rtol=1e-6, atol=0)


def test_decorrelative_golden(golden: dict[str, Tensor]) -> None:
    """At the precision of float32, in which the reference's number was computed."""
    predicted, targets = (
        tuple(golden[f"in/{of}{view}"].float() for view in (1, 2)) for of in ("p", "teacher_z")
    )
    constants = DecorrelativeDistillParams(off_diagonal=0.005, scale=0.025)
    loss = build("decorrelative", dim=16, decorrelative=constants).float()(predicted, targets)
    expected = golden["out/feature_distill/decorrelative_lamb0.005_scale0.025"].float()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def plain(name: str, p: np.ndarray, f: np.ndarray) -> float:
    """One view's loss in numpy."""
    if name == "predictive":
        return float(
            np.mean(
                [
                    2 - 2 * a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                    for a, b in zip(p, f, strict=True)
                ]
            )
        )
    if name == "predictive_mse":
        return float(np.mean((p - f) ** 2))
    p, f = ((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5) for x in (p, f))
    weights = np.where(np.eye(p.shape[1]) == 1, 1.0, 0.3)
    return float(0.2 * (weights * (p.T @ f / len(p) - np.eye(p.shape[1])) ** 2).sum())


@pytest.mark.parametrize("name", VIEWWISE)
def test_each_view_is_predicted_by_itself_and_the_losses_are_averaged(name: str) -> None:
    constants = DecorrelativeDistillParams(off_diagonal=0.3, scale=0.2)
    distiller = build(name, hidden=9, decorrelative=constants)
    student, targets = views(1), views(3)
    weights = {
        key: value.clone().numpy() for key, value in distiller.predictor.state_dict().items()
    }
    expected = []
    for z, f in zip(student, targets, strict=True):
        hidden = z.numpy() @ weights["0.weight"].T + weights["0.bias"]
        hidden = np.maximum((hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5), 0)
        expected.append(plain(name, hidden @ weights["3.weight"].T + weights["3.bias"], f.numpy()))
    assert distiller(student, targets).item() == pytest.approx(float(np.mean(expected)), rel=1e-9)


@pytest.mark.parametrize("name", ["contrastive", *VIEWWISE])
def test_no_gradient_reaches_the_teacher_and_half_types_are_widened(name: str) -> None:
    distiller = build(name)
    student, targets = views(5), views(7)
    for tensor in (*student, *targets):
        tensor.requires_grad_()
    distiller(student, targets).backward()
    assert all(z.grad is not None and z.grad.abs().sum() > 0 for z in student)
    assert all(f.grad is None for f in targets)
    half = [tuple(x.detach().to(torch.bfloat16) for x in pair) for pair in (student, targets)]
    wide = [tuple(x.float() for x in pair) for pair in half]
    distiller = distiller.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distiller(*half)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, distiller(*wide))


@pytest.mark.parametrize("name", ["contrastive", *VIEWWISE])
def test_a_hidden_width_of_zero_means_no_predictor(name: str) -> None:
    without, with_one = build(name), build(name, hidden=9)
    assert not list(without.predictor.parameters())
    kinds = [type(module) for module in with_one.predictor.children()]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]


@pytest.mark.parametrize(("weight", "factor"), [(4.0, 1.0), (1.0, 1.0), (0.25, 4.0), (0.0, 1.0)])
def test_the_predictors_rate_makes_up_for_a_small_weight(weight: float, factor: float) -> None:
    """fidelity.md §5: only the predictive distiller has the reference's rule; weight 0 divides
    nothing.
    """
    distillers = {
        name: FeatureDistillParams(distiller=name, weight=weight)
        for name in ("predictive", "predictive_mse")
    }
    rates = {}
    for name, params in distillers.items():
        architecture = Architecture(model=ModelParams(width=4), channels=1, logits=2, seed=0)
        student = build_model(architecture, "simclr", SimCLRParams(), params)
        groups = parameter_groups(student, TrainParams(lr=2.0, batch_size=256))
        rates[name] = {group.name: group.lr for group in groups}
    assert rates["predictive"]["distiller"] == 2.0 * factor
    assert rates["predictive"]["projector"] == rates["predictive_mse"]["distiller"] == 2.0


def prototype_method(name: str, seed: int) -> PrototypeMethod:
    with seeded(seed):
        if name == "swav":
            swav = SwAVParams(projector_hidden=7, projector_out=DIM, prototypes=11, queue_size=4)
            return SwAV(swav, Features(5)).double()
        dino = DINOParams(projector_hidden=7, projector_out=DIM, prototypes=11)
        return DINO(dino, Features(5)).double()


def prototype_distiller(
    method: SSLMethod, hidden: int = 0, temperature: float = 0.3
) -> PrototypeDistiller:
    params = FeatureDistillParams(
        distiller="prototype",
        predictor_hidden=hidden,
        prototype=PrototypeDistillParams(temperature=temperature),
    )
    with seeded(9):
        return PrototypeDistiller(params, method).double()


def unit(rows: np.ndarray) -> np.ndarray:
    unit_rows: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit_rows


def log_softmax(rows: np.ndarray) -> np.ndarray:
    logarithms: np.ndarray = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return logarithms


def weights_of(prototypes: nn.Module) -> np.ndarray:
    """Directions of length 1, times their lengths where these are learned."""
    state = {name: value.numpy() for name, value in prototypes.state_dict().items()}
    weights: np.ndarray = unit(state["direction"]) * state.get("length", 1.0)
    return weights


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_prototype_distillation_against_plain_numpy(name: str) -> None:
    """fidelity.md §5, "knowledge": both sides normalised, the student by its own prototypes, the
    teacher by its own.
    """
    student, teacher = prototype_method(name, 1), prototype_method(name, 2).requires_grad_(False)
    distiller = prototype_distiller(student)
    assert distiller.prototypes.length is not None
    with torch.no_grad():
        distiller.prototypes.length.mul_(1.7)
    features = (random(1, ROWS, 5), random(2, ROWS, 5))
    targets = tuple(distiller.targets(teacher, view) for view in features)
    projections = views(3)
    loss = distiller(projections, targets)
    assert distiller.prototypes.direction.shape == (11, DIM)
    expected = []
    for z, view in zip(projections, features, strict=True):
        ours = unit(z.numpy()) @ weights_of(distiller.prototypes).T / 0.3
        theirs = unit(teacher.project(view).numpy()) @ weights_of(teacher.prototypes).T / 0.3
        expected.append(-(np.exp(log_softmax(theirs)) * log_softmax(ours)).sum(axis=1).mean())
    assert loss.item() == pytest.approx(float(np.mean(expected)), rel=1e-9)


def test_prototype_distillation_trains_the_distillers_prototypes_and_nothing_of_the_teacher() -> (
    None
):
    student, teacher = prototype_method("swav", 1), prototype_method("swav", 2)
    distiller = prototype_distiller(student, hidden=9)
    projections = views(3)
    for z in projections:
        z.requires_grad_()
    distiller(
        projections, tuple(distiller.targets(teacher, view) for view in (random(1, ROWS, 5),) * 2)
    ).backward()
    assert all(
        parameter.grad is None for module in (student, teacher) for parameter in module.parameters()
    )
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in distiller.prototypes.parameters()
    )
    assert all(p.grad is not None for p in distiller.predictor.parameters())
    assert all(z.grad is not None for z in projections)


def test_prototype_distillation_widens_half_types() -> None:
    teacher = prototype_method("swav", 2).float()
    distiller = prototype_distiller(teacher).float()
    half = tuple(z.to(torch.bfloat16) for z in views(3))
    scores = tuple(random(seed, ROWS, 11).to(torch.bfloat16) for seed in (4, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distiller(half, scores)
    assert loss.dtype == torch.float32
    assert torch.equal(
        loss, distiller(tuple(z.float() for z in half), tuple(s.float() for s in scores))
    )


def test_a_student_with_the_teachers_projections_and_prototypes_has_the_least_loss() -> None:
    """The entropy of the teacher's assignment is the least that a cross-entropy against it can
    be.
    """
    teacher = prototype_method("swav", 2)
    distiller = prototype_distiller(teacher)
    distiller.prototypes.load_state_dict(teacher.prototypes.state_dict())
    view = random(1, ROWS, 5)
    targets = (distiller.targets(teacher, view),) * 2
    z = teacher.project(view).detach().requires_grad_()
    loss = distiller((z, z), targets)
    loss.backward()
    log_p = (targets[0] / 0.3).log_softmax(dim=1)
    assert loss.item() == pytest.approx(-(log_p.exp() * log_p).sum(dim=1).mean().item(), rel=1e-9)
    torch.testing.assert_close(z.grad, torch.zeros_like(z), rtol=0, atol=1e-12)


def test_a_method_without_prototypes_has_none_to_distil() -> None:
    simclr = SimCLR(SimCLRParams(projector_hidden=4, projector_out=DIM), Features(5))
    with pytest.raises(TypeError, match="SimCLR has no prototypes"):
        prototype_distiller(simclr)
