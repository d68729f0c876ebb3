"""Residual networks on a GPU: batch norms fused with what follows, both views in one pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from ssl_models import small_model
from torch import Tensor, nn

from kaizen.compute.device import Compute, choose_compute
from kaizen.models import gpu_convolutions
from kaizen.models.backbone import Backbone, build_backbone
from kaizen.models.folded import fold_batch_norms
from kaizen.models.fused_convolutions import fuse_convolutions
from kaizen.models.fused_norms import encoded, fuse_norms
from kaizen.models.norm_relu import FusedNorm
from kaizen.params import ModelParams

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
ON_GPU = Compute(torch.device("cuda"), torch.bfloat16)
BACKBONES = ["small_resnet", "resnet18", "resnet50"]


def network(name: str, channels: int = 3, width: int = 8) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(ModelParams(backbone=name, width=width), channels).train()


def views(channels: int = 3, rows: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    shape = (rows, channels, 16, 16)
    return torch.randn(shape), torch.randn(shape) + 1


def distance(one: Tensor | None, other: Tensor | None) -> float:
    """Relative to the other's length."""
    assert one is not None and other is not None
    return float((one.double().cpu() - other.double().cpu()).norm() / other.double().norm().cpu())


@pytest.fixture
def with_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a GPU that kernels can be compiled for."""
    monkeypatch.setattr(gpu_convolutions, "lacking", lambda: "")


@pytest.mark.parametrize("name", BACKBONES[:2])
def test_both_views_in_one_pass_are_two_passes(name: str, with_kernels: None) -> None:
    # On a CPU, where the modules compute with torch's operators.
    plain = network(name).double()
    fused = copy.deepcopy(plain)
    fuse_norms(fused, ON_GPU, pytest.fail)
    pair = views(rows=2)
    pair = pair[0].double(), pair[1].double()
    expected = plain(pair[0]), plain(pair[1])
    found = encoded(fused, pair)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    for features in (found, expected):
        (features[0].square().sum() + features[1].sum()).backward()
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    # The running statistics too: they have seen one view after the other.
    state = fused.state_dict()
    assert list(state) == list(plain.state_dict())
    for key, tensor in plain.state_dict().items():
        torch.testing.assert_close(state[key], tensor)
    assert any(key.endswith("num_batches_tracked") and value == 2 for key, value in state.items())
    fused.eval(), plain.eval()
    torch.testing.assert_close(encoded(fused, pair)[1], plain(pair[1]))


def test_momentum_networks_are_fused_and_copies_stay_so(with_kernels: None) -> None:
    model = small_model("byol")
    model.encoder = network("small_resnet")
    model.ssl.momentum.encoder = copy.deepcopy(model.encoder)
    fuse_norms(model, ON_GPU, pytest.fail)
    for encoder in (model.encoder, model.ssl.momentum.encoder, copy.deepcopy(model).encoder):
        norms = [part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)]
        assert norms and all(isinstance(part, FusedNorm) for part in norms)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cuda", "float32")])
def test_elsewhere_nothing_changes(device: str, dtype: str, with_kernels: None) -> None:
    plain = network("resnet18")
    kinds = [type(part) for part in plain.modules()]
    fuse_norms(plain, Compute(torch.device(device), getattr(torch, dtype)), pytest.fail)
    assert [type(part) for part in plain.modules()] == kinds


def test_without_kernels_one_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_convolutions, "lacking", lambda: "there is no NVRTC")
    plain = network("resnet18")
    told: list[str] = []
    kinds = [type(part) for part in plain.modules()]
    fuse_norms(plain, ON_GPU, told.append)
    assert [type(part) for part in plain.modules()] == kinds
    assert len(told) == 1 and "slower (there is no NVRTC)" in told[0]


def test_a_record_says_whose_kernels_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    from kaizen.compute import device

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    for reason, kernels in (("", "compiled"), ("there is no NVRTC", "torch")):
        monkeypatch.setattr(device, "lacking", lambda reason=reason: reason)
        assert ON_GPU.describe()["kernels"] == kernels
    assert "kernels" not in Compute(torch.device("cpu"), torch.bfloat16).describe()


# Rows, channels, side; the number of parts with statistics of their own.
SHAPES = [
    (8, 64, 32, 2),
    (6, 8, 1, 2),
    (10, 24, 5, 1),
    (2, 2048, 1, 1),
    (4, 40, 7, 2),
    (2, 512, 4, 1),
]


@GPU
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["alone", "relu", "added"])
def test_kernels_against_double_precision(shape: tuple[int, ...], kind: str) -> None:
    rows, channels, side, groups = shape
    choose_compute("cuda", "bfloat16", 1)
    torch.manual_seed(2)

    def maps(scale: float = 1.0) -> Tensor:
        values = torch.randn(rows, channels, side, side) + scale * torch.randn(1, channels, 1, 1)
        laid = values.cuda().bfloat16().contiguous(memory_format=torch.channels_last)
        return laid.requires_grad_()

    norm = FusedNorm(channels).cuda()
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    norm.groups = groups
    first = norm.state_dict()
    x, other, gradient = maps(3), maps(), maps().detach()
    added = other if kind == "added" else None
    results = []
    for _ in range(2):
        again = copy.deepcopy(norm)
        x.grad = other.grad = None
        y = again.followed(x, added, kind != "alone")
        y.backward(gradient)
        grads = [x.grad, again.weight.grad, again.bias.grad]
        grads += [other.grad] if added is not None else []
        results.append([y.detach(), *grads, again.running_mean, again.running_var])
        assert again.num_batches_tracked == groups
    # The same bits every time.
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
    wide = [tensor.detach().double().requires_grad_() for tensor in (x, other)]
    weight, bias = (p.detach().double().requires_grad_() for p in (norm.weight, norm.bias))
    mean, variance = first["running_mean"].double(), first["running_var"].double()
    parts = [
        F.batch_norm(part, mean, variance, weight, bias, True, 0.1, norm.eps)
        for part in wide[0].chunk(groups)
    ]
    expected = torch.cat(parts)
    expected = expected if added is None else expected + wide[1]
    expected = expected if kind == "alone" else expected.relu()
    expected.backward(gradient.double())
    grads = [wide[0].grad, weight.grad, bias.grad]
    grads += [wide[1].grad] if added is not None else []
    names = ["y", "x", "weight", "bias", "other", "mean", "variance"]
    names = names if added is not None else [name for name in names if name != "other"]
    found = zip(names, results[0], [expected, *grads, mean, variance], strict=True)
    far = {name: distance(one, two) for name, one, two in found}
    # A number is rounded to 8 bits; sums are not. Of two rows the gradient is close to nothing.
    limits = {"weight": 1e-4, "bias": 1e-4, "mean": 1e-5, "variance": 1e-5}
    few = rows * side * side // groups < 4
    assert not [
        n for n, d in far.items() if d > limits.get(n, 4e-3) and not (few and n in "xweight")
    ]


@GPU
def test_what_is_not_a_number_stays_so() -> None:
    choose_compute("cuda", "bfloat16", 1)
    norm = FusedNorm(8).cuda()
    x = torch.randn(4, 8, 2, 2, device="cuda", dtype=torch.bfloat16)
    x[1, 3, 0, 0] = torch.nan
    y = norm.followed(x.requires_grad_(), None, True)
    assert y[:, 3].isnan().all() and not y[:, :3].isnan().any()
    y.sum().backward()
    assert x.grad is not None and x.grad[:, 3].isnan().all()
    assert norm.running_mean is not None and norm.running_mean[3].isnan()


@GPU
@pytest.mark.parametrize(
    ("name", "channels", "width"),
    [*((name, channels, 8) for name in BACKBONES for channels in (1, 3)), ("small_resnet", 3, 5)],
)
def test_a_fused_network_is_the_same_but_for_rounding(name: str, channels: int, width: int) -> None:
    choose_compute("cuda", "bfloat16", 1)
    wide = network(name, channels, width)
    plain, fused = ON_GPU.place(copy.deepcopy(wide)), ON_GPU.place(copy.deepcopy(wide))
    fuse_norms(fused, ON_GPU, pytest.fail)
    pair = views(channels, rows=32)
    on_gpu = tuple(view.cuda().contiguous(memory_format=torch.channels_last) for view in pair)
    with ON_GPU.autocast():
        ours = torch.cat(encoded(fused, on_gpu))  # type: ignore[arg-type]
        theirs = torch.cat([plain(view) for view in on_gpu])
    exact = torch.cat([wide(view) for view in pair])
    for features in (ours, theirs, exact):
        features.double().square().mean().backward()
    # From float32 about as far as torch's own kernels are in bfloat16.
    assert distance(ours, exact) < max(1.5 * distance(theirs, exact), 0.02)
    for (key, one), two, three in zip(
        fused.named_parameters(), plain.parameters(), wide.parameters(), strict=True
    ):
        assert distance(one.grad, three.grad) < max(2 * distance(two.grad, three.grad), 0.1), key
    for key, tensor in wide.named_buffers():
        far = distance(plain.state_dict()[key], tensor)
        assert distance(fused.state_dict()[key], tensor) <= max(2 * far, 0.02), key


@GPU
@pytest.mark.parametrize(
    ("name", "width"), [*((name, 8) for name in BACKBONES), ("small_resnet", 5)]
)
def test_a_frozen_network_is_the_same_but_for_rounding(name: str, width: int) -> None:
    choose_compute("cuda", "bfloat16", 1)
    wide = network(name, width=width)
    with torch.no_grad():
        wide(views(rows=32)[0])
        fold_batch_norms(wide.eval())
        fused = ON_GPU.place(copy.deepcopy(wide))
        plain = ON_GPU.place(copy.deepcopy(wide))
        fuse_convolutions(fused, ON_GPU)
        view = views()[0]
        with ON_GPU.autocast():
            ours, theirs = fused(view.cuda()), plain(view.cuda())
        exact = wide(view)
    assert ours.dtype == theirs.dtype
    assert distance(ours, exact) < max(1.2 * distance(theirs, exact), 0.01)


def test_an_update_that_cannot_be_recorded_is_taken_and_one_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kaizen.training.optim import SGD, ParameterGroup
    from kaizen.training.update import ReplayedUpdate

    def refused(*given: object, **named: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", refused)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    told: list[str] = []
    ends = []
    for recorded in (True, False):
        parameter = nn.Parameter(torch.ones(3, 2))
        optimizer = SGD([ParameterGroup("all", [("w", parameter)], 1.0, 0.1)], 0.9, True, 0.02)
        update = ReplayedUpdate(optimizer, told.append) if recorded else optimizer.step
        parameter.grad = torch.arange(6.0).reshape(3, 2)
        for _ in range(6):
            update({"all": 0.5})
        ends.append(parameter)
    assert torch.equal(*ends)
    assert len(told) == 1 and "slower (operation not permitted" in told[0]


@GPU
def test_a_recorded_update_is_taken_and_follows_its_rates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kaizen.training.optim import SGD, ParameterGroup
    from kaizen.training.update import ReplayedUpdate

    choose_compute("cuda", "bfloat16", 1)
    torch.manual_seed(3)
    start = [torch.randn(16, 8), torch.randn(8)]
    gradients = [torch.randn(16, 8), torch.randn(8)]
    ends, taken = [], []
    for recorded in (True, False):
        parameters = [nn.Parameter(tensor.cuda()) for tensor in start]
        named = [(str(number), one) for number, one in enumerate(parameters)]
        optimizer = SGD([ParameterGroup("all", named, 1.0, 1e-3)], 0.9, True, 0.02)
        update = ReplayedUpdate(optimizer, pytest.fail)
        update.record = recorded
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.cuda()
        count: list[Mapping[str, float]] = []
        step = optimizer.step
        monkeypatch.setattr(
            optimizer,
            "step",
            lambda rates, step=step, count=count: (count.append(rates), step(rates)),
        )
        for rate in (0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3):
            update({"all": rate})
            for parameter in parameters:
                parameter.grad.mul_(0.9)  # type: ignore[union-attr]
        # One gradient is dropped, as of a head that rests.
        parameters[1].grad = None
        for _ in range(4):
            update({"all": 0.3})
        taken.append(len(count))
        ends.append([*parameters, *optimizer.state().values()])
    assert all(torch.equal(one, two) for one, two in zip(*ends, strict=True))
    assert taken[1] == 12 and taken[0] < 12
