"""What a recording of a step relies on; and on a GPU, that it changes no bit."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from ssl_models import LATER, METHODS, copied, forward, random_views, small_model

from kaizen.compute.device import choose_compute
from kaizen.params import AugmentParams, ImageParams
from kaizen.ssl.base import Moment
from kaizen.training.gradients import Gradients, fastest
from kaizen.training.objective import Objective
from kaizen.views.augment import TwoViewAugment

MOMENTS = [Moment(step, 60, epoch) for epoch in (0, 1, 2) for step in (3, 17)]


@pytest.mark.parametrize("method", METHODS)
def test_the_forward_pass_takes_nothing_of_the_moment_but_its_phase(method: str) -> None:
    model = small_model(method)
    model.ssl.queue = getattr(model.ssl, "queue", None)
    if model.ssl.queue is not None:
        model.ssl.queue.push(*torch.randn(len(model.ssl.queue.columns), 9, 8))
    losses = {}
    for moment in MOMENTS:
        fresh = copy.deepcopy(model)
        losses[moment] = forward(fresh, random_views(), moment).loss
    pairs = list(itertools.combinations(MOMENTS, 2))
    for first, second in pairs:
        same = model.ssl.phase(first) == model.ssl.phase(second)
        assert torch.equal(losses[first], losses[second]) == same, (first, second)
    phases = {model.ssl.phase(moment) for moment in MOMENTS}
    assert (len(phases) > 1) == (method in ("swav", "dino"))


@pytest.mark.parametrize("method", METHODS)
def test_after_a_step_nothing_is_needed_but_what_is_pending(method: str) -> None:
    model = small_model(method)
    forward(model, random_views(1))
    other = copy.deepcopy(model)
    # As a replay: Python sees another batch, or none, and the tensors of this one.
    pending = tuple(tensor.clone() for tensor in model.ssl.pending)
    forward(other, random_views(2))
    other.load_state_dict(model.state_dict())
    other.ssl.pending = pending
    for one in (model, other):
        one.ssl.after_step(LATER, one.encoder)
    state, expected = copied(other.state_dict()), model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    assert model.ssl.pending == ()


def test_a_cpu_computes_operation_by_operation() -> None:
    image = ImageParams(size=8, channels=3, mean=[0.5] * 3, std=[0.25] * 3)
    computed = Gradients(
        small_model("simclr"),
        None,
        Objective(None, None, 1.0, False),
        TwoViewAugment(AugmentParams(), image),
        choose_compute("cpu", "float32", 1),
    )
    assert fastest(computed, lambda _: None) is computed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(
    ("method", "prototypes"), [*((method, False) for method in METHODS), ("simclr", True)]
)
def test_on_a_gpu_a_recording_changes_no_bit(method: str, prototypes: bool) -> None:
    from bench.gpu import same_bits

    assert same_bits(method, prototypes)
