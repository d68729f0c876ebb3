"""What every SSL method keeps to, and what is particular to each."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ssl_models import (
    LATER,
    METHODS,
    copied,
    forward,
    optimizer,
    random_views,
    small_model,
    small_ssl_params,
    update,
)
from torch import nn

from kaizen.params import DINOParams, TrainParams
from kaizen.params.registry import SSL_METHODS
from kaizen.ssl.base import Moment, PrototypeMethod
from kaizen.ssl.dino import clip_each, self_distillation, teacher_temperature_in
from kaizen.ssl.mocov2plus import info_nce
from kaizen.ssl.nnclr import nearest, neighbour_info_nce
from kaizen.ssl.swav import sinkhorn, swapped_prediction
from kaizen.training.groups import parameter_groups
from kaizen.training.student import frozen_copy


def at_epoch(epoch: int) -> Moment:
    return Moment(step=4 * epoch, steps=12, epoch=epoch)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_all_that_is_trained_gets_a_finite_gradient(method: str, precision: torch.dtype) -> None:
    model = small_model(method)
    before = copied(dict(model.ssl.named_buffers()))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        loss, projections = forward(model, random_views(count=7))
    for name, buffer in model.ssl.named_buffers():
        # Batch norm counts its forward passes; what the loss depends on waits for the step.
        assert "running" in name or "num_batches" in name or torch.equal(buffer, before[name]), name
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and loss.ndim == 0
    assert [tuple(z.shape) for z in projections] == [(7, model.ssl.projection_dim)] * 2
    assert all(z.requires_grad for z in projections)
    trained = [
        parameter for group in model.ssl.parameter_groups().values() for _, parameter in group
    ]
    for parameter in [*model.encoder.parameters(), *trained]:
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    assert all(
        p.grad is None for p in model.ssl.parameters() if all(p is not one for one in trained)
    )
    assert max(p.grad.abs().max() for p in model.encoder.parameters()) > 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_the_state_dict_carries_everything(method: str) -> None:
    """Another seed's model with the state loaded goes on as the first one does, bit for bit."""
    first, second = small_model(method, seed=1), small_model(method, seed=2)
    sgd = optimizer(first)
    for step in range(3):
        update(first, sgd, random_views(step), Moment(step, 12, 1))
    state = copied(first.state_dict())
    second.load_state_dict(state)
    other = optimizer(second)
    other.load_state(copied(sgd.state()))
    for step in range(3, 6):
        moment = Moment(step, 12, 1)
        assert torch.equal(
            update(first, sgd, random_views(step), moment),
            update(second, other, random_views(step), moment),
        )
    after = second.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in first.state_dict().items())
    assert any(not torch.equal(value, state[name]) for name, value in after.items())


@pytest.mark.parametrize("method", METHODS)
def test_the_frozen_copy_projects_without_what_only_a_student_needs(method: str) -> None:
    model = small_model(method)
    update(model, optimizer(model), random_views())
    teacher = frozen_copy(copy.deepcopy(model), train_mode=False)
    assert not any(hasattr(teacher.ssl, name) for name in model.ssl.student_only)
    assert not any(
        name.startswith(f"ssl.{part}")
        for part in model.ssl.student_only
        for name in teacher.state_dict()
    )
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    features = torch.randn(5, model.encoder.feature_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        projected = teacher.ssl.project(features)
        # Batch norms are folded into the layers before them, which rounds otherwise.
        torch.testing.assert_close(projected, model.eval().ssl.project(features))
        assert projected.shape == (5, model.ssl.projection_dim)
        if isinstance(teacher.ssl, PrototypeMethod):
            scores = teacher.ssl.prototype_scores(projected)
            assert scores.shape == (5, teacher.ssl.prototype_count)
            torch.testing.assert_close(scores, teacher.ssl.prototype_scores(3 * projected))


@pytest.mark.parametrize("method", METHODS)
def test_projections_are_what_project_returns(method: str) -> None:
    """Of the same batch statistics, in train mode."""
    model = small_model(method)
    features = (torch.randn(6, 16), torch.randn(6, 16))
    output = model.ssl(features, random_views(count=6), LATER)
    for feature, z in zip(features, output.projections, strict=True):
        torch.testing.assert_close(model.ssl.project(feature), z)


def test_only_simsiams_predictor_keeps_its_learning_rate() -> None:
    for method in METHODS:
        static = {
            group.name
            for group in parameter_groups(small_model(method), TrainParams())
            if group.static
        }
        assert static == ({"predictor"} if method == "simsiam" else set())
        # Of few images batches are smaller, and so is the rate.
        rates = {
            size: parameter_groups(small_model(method), TrainParams(lr=1.0), size)[0].lr
            for size in (None, 20, 256)
        }
        assert rates == {None: 32 / 256, 20: 20 / 256, 256: 1.0}
        # The plan knows it without torch.
        assert SSL_METHODS[method].static_heads == bool(static)


def test_simsiams_projections_are_standardised_and_its_loss_is_their_negative_cosine() -> None:
    model = small_model("simsiam")
    output = forward(model, random_views(count=40))
    p = [model.ssl.predictor(z) for z in output.projections]
    for z in output.projections:
        torch.testing.assert_close(z.mean(dim=0), torch.zeros(8), rtol=0, atol=1e-5)
        assert (z.var(dim=0, correction=0) < 1 + 1e-5).all() and (
            z.var(dim=0, correction=0) > 0.9
        ).all()
    cosines = [
        F.cosine_similarity(p[0], output.projections[1]),
        F.cosine_similarity(p[1], output.projections[0]),
    ]
    torch.testing.assert_close(output.loss, -torch.cat(cosines).mean())
    last_norm = model.ssl.projector[-1]
    assert isinstance(last_norm, nn.BatchNorm1d) and not last_norm.affine


def test_mocos_keys_enter_the_other_views_queue_after_the_step() -> None:
    model = small_model("mocov2plus")
    views, queue = random_views(), model.ssl.queue.columns.clone()
    keys = [F.normalize(k, dim=1) for k in copy.deepcopy(model.ssl.momentum)(views)]
    output = forward(model, views)
    q = output.projections
    torch.testing.assert_close(
        output.loss,
        (info_nce(q[0], keys[1], queue[1], 0.2) + info_nce(q[1], keys[0], queue[0], 0.2)) / 2,
    )
    assert torch.equal(model.ssl.queue.columns, queue)
    model.ssl.after_step(LATER, model.encoder)
    for ring, key in zip(model.ssl.queue.columns, keys, strict=True):
        torch.testing.assert_close(ring[:, :7], key.T)
    assert torch.equal(model.ssl.queue.columns[:, :, 7:], queue[:, :, 7:])


def test_nnclr_compares_with_the_nearest_earlier_projection() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(9, 4, generator=generator), dim=1)
    columns = F.normalize(torch.randn(4, 30, generator=generator), dim=0)
    expected = [columns.numpy()[:, int(np.argmax(row @ columns.numpy()))] for row in rows.numpy()]
    np.testing.assert_array_equal(nearest(rows, columns).numpy(), np.stack(expected))

    model = small_model("nnclr")
    views, queue = random_views(), model.ssl.queue.columns[0].clone()
    raw = [model.ssl.projector(model.encoder(view)) for view in views]
    z, p = [F.normalize(one, dim=1) for one in raw], [model.ssl.predictor(one) for one in raw]
    losses = [neighbour_info_nce(nearest(z[i], queue), p[1 - i], 0.2) for i in (0, 1)]
    output = forward(model, views)
    torch.testing.assert_close(output.loss, sum(losses) / 2)
    # The queue is carried into the next task, and holds view 1's projections only.
    model.ssl.after_step(LATER, model.encoder)
    model.ssl.start_task()
    torch.testing.assert_close(model.ssl.queue.columns[0, :, :7], z[0].T)
    assert torch.equal(model.ssl.queue.columns[0, :, 7:], queue[:, 7:])


def test_swavs_queue_joins_the_assignment_from_its_epoch_and_starts_empty_each_task() -> None:
    model = small_model("swav", queue_from_epoch=2)
    update(model, optimizer(model), random_views(1), at_epoch(1))
    views, queue = random_views(2), model.ssl.queue.columns.clone()
    features = [model.encoder(view) for view in views]
    z = [model.ssl.project(feature) for feature in features]
    scores = [model.ssl.prototype_scores(one) for one in z]
    with_queue = [
        torch.cat([s, model.ssl.prototypes(q.T)]) for s, q in zip(scores, queue, strict=True)
    ]
    losses = {}
    for name, rows in {"batch": scores, "queue": with_queue}.items():
        first, second = (sinkhorn(one, 0.05, 3)[:7] for one in rows)
        losses[name] = swapped_prediction((scores[0], scores[1]), (first, second), 0.1)
    assert not torch.isclose(losses["batch"], losses["queue"], rtol=1e-3)
    torch.testing.assert_close(forward(model, views, at_epoch(1)).loss, losses["batch"])
    torch.testing.assert_close(forward(model, views, at_epoch(2)).loss, losses["queue"])
    model.ssl.after_step(at_epoch(2), model.encoder)
    for ring, one in zip(model.ssl.queue.columns, z, strict=True):
        torch.testing.assert_close(ring[:, 7:14], F.normalize(one, dim=1).T)
    model.ssl.start_task()
    assert not model.ssl.queue.columns.any() and model.ssl.queue.position == 0


def test_swav_without_a_queue() -> None:
    model = small_model("swav", queue_size=0, queue_from_epoch=0)
    losses = [update(model, optimizer(model), random_views()) for _ in range(2)]
    assert losses[1] != losses[0] and not any("queue" in name for name in model.state_dict())
    assert not hasattr(frozen_copy(model, train_mode=False).ssl, "queue")


@pytest.mark.parametrize(
    ("method", "parameter"),
    [("swav", "freeze_prototypes_epochs"), ("dino", "freeze_last_layer_epochs")],
)
@pytest.mark.parametrize("lars", [True, False], ids=["lars", "sgd"])
def test_prototypes_rest_in_the_first_epochs_whatever_the_optimiser_remembers(
    method: str, parameter: str, lars: bool
) -> None:
    model = small_model(method, **{parameter: 2})
    sgd = optimizer(model, lars)
    update(model, sgd, random_views(0), at_epoch(2))
    start = copied(model.ssl.prototypes.state_dict())
    assert any(key.startswith("prototypes.") and value.any() for key, value in sgd.state().items())
    for epoch, rests in ((0, True), (1, True), (2, False)):
        projector = copied(model.ssl.projector.state_dict())
        update(model, sgd, random_views(epoch), at_epoch(epoch))
        for name, value in model.ssl.prototypes.state_dict().items():
            assert torch.equal(value, start[name]) is rests, (epoch, name)
        assert not torch.equal(model.ssl.projector[0].weight, projector["0.weight"])


def test_dinos_teacher_temperature_warms_up_by_epoch() -> None:
    params = DINOParams(teacher_temperature_warmup_epochs=5)
    schedule = [*np.linspace(0.04, 0.07, 5), 0.07, 0.07]
    assert [teacher_temperature_in(epoch, params) for epoch in range(7)] == pytest.approx(schedule)
    for warmup, expected in ((0, [0.07, 0.07]), (1, [0.04, 0.07])):
        params = dataclasses.replace(params, teacher_temperature_warmup_epochs=warmup)
        assert [teacher_temperature_in(epoch, params) for epoch in (0, 1)] == expected


def test_dinos_loss_is_against_the_other_views_teacher_and_its_centre_follows_after_the_step() -> (
    None
):
    model = small_model("dino", teacher_temperature_warmup_epochs=3, centre_momentum=0.8)
    views = random_views()
    model.ssl.centre.copy_(torch.randn(6, generator=torch.Generator().manual_seed(1)))
    centre = model.ssl.centre.clone()
    teacher = copy.deepcopy(model.ssl.momentum)(views)
    scores = [model.ssl.prototype_scores(model.ssl.project(model.encoder(view))) for view in views]
    expected = self_distillation((scores[0], scores[1]), teacher, centre, 0.1, 0.055)
    torch.testing.assert_close(forward(model, views, at_epoch(1)).loss, expected)
    assert torch.equal(model.ssl.centre, centre)
    model.ssl.after_step(at_epoch(1), model.encoder)
    mean = np.concatenate([one.numpy() for one in teacher]).mean(axis=0)
    np.testing.assert_allclose(
        model.ssl.centre.numpy(), 0.8 * centre.numpy() + 0.2 * mean, rtol=1e-5, atol=1e-6
    )


def test_dino_clips_each_gradient_of_encoder_and_head_by_itself() -> None:
    parameters = [
        nn.Parameter(torch.zeros(3)),
        nn.Parameter(torch.zeros(2, 2)),
        nn.Parameter(torch.zeros(1)),
    ]
    parameters[0].grad = torch.tensor([3.0, 0.0, 4.0])
    parameters[1].grad = torch.full((2, 2), 0.25)
    clip_each(parameters, 2.0)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([1.2, 0.0, 1.6]))
    assert torch.equal(parameters[1].grad, torch.full((2, 2), 0.25)) and parameters[2].grad is None

    model = small_model("dino", clip_gradient=1e-3)
    forward(model, random_views()).loss.backward()
    trained = [
        *model.encoder.parameters(),
        *model.ssl.projector.parameters(),
        *model.ssl.prototypes.parameters(),
    ]
    before = [parameter.grad.norm().item() for parameter in trained]
    model.ssl.before_update(LATER, model.encoder)
    after = [parameter.grad.norm().item() for parameter in trained]
    assert max(before) > 1e-2
    assert after == pytest.approx([min(norm, 1e-3) for norm in before], rel=1e-2)


def test_dinos_projection_is_the_normalised_bottleneck() -> None:
    model = small_model("dino")
    z = forward(model, random_views()).projections[0]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(7))
    assert small_ssl_params("dino").projector_out == z.shape[1]
    assert model.ssl.prototypes.length is None
