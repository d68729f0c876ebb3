"""Batch norm, shortcut and ReLU as one compiled operation: the function in double precision is the
reference, and torch's module by module the mark to reach.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kaizen.compute.compiled import can_compile, compiler
from kaizen.compute.device import Compute
from kaizen.compute.seeding import seeded
from kaizen.models import cpu_norm
from kaizen.models.backbone import build_backbone
from kaizen.models.fused_norms import encoded, fuse_norms
from kaizen.models.norm_relu import FusedNorm, norm_relu
from kaizen.params import NetworkParams

COMPUTE = Compute(torch.device("cpu"), torch.bfloat16)
NAMES = ("maps", "for x", "for other", "for weight", "for bias", "running mean", "running variance")

pytestmark = pytest.mark.skipif(not can_compile(), reason="numba is not installed")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows whenever the compiled operation is used."""
    calls: list[int] = []
    fused = cpu_norm.fused

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return fused(*arguments)

    monkeypatch.setattr(cpu_norm, "fused", counted)
    return calls


def norm_of(channels: int, kind: type[nn.BatchNorm2d] = FusedNorm) -> nn.BatchNorm2d:
    norm = kind(channels)
    with torch.no_grad(), seeded(1):
        norm.weight.normal_(1.0, 0.3)
        norm.bias.normal_()
    return norm


def maps(*shape: int, seed: int = 0, mean: float = 0.5) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + mean
    return drawn.bfloat16().contiguous(memory_format=torch.channels_last)


def outcome(
    shape: tuple[int, ...],
    relu: bool,
    added: bool,
    dtype: torch.dtype = torch.bfloat16,
    kind: type[nn.BatchNorm2d] = FusedNorm,
) -> list[Tensor]:
    """What `NAMES` says, of a batch norm with everything that follows it."""
    norm = norm_of(shape[1], kind).to(torch.float64 if dtype == torch.float64 else torch.float32)
    x, other = (maps(*shape, seed=seed).to(dtype).requires_grad_() for seed in (1, 2))
    y = norm_relu(norm, nn.ReLU(inplace=True) if relu else None, x, other if added else None)
    y.backward(maps(*shape, seed=3).to(dtype))
    found = (y, x.grad, other.grad, norm.weight.grad, norm.bias.grad)
    everything = [*found, norm.running_mean, norm.running_var]
    return [torch.zeros(1) if part is None else part.detach() for part in everything]


def apart(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """The root mean square of the distances of each."""
    pairs = zip(found, exact, strict=True)
    return [float((one.double() - other).square().mean().sqrt()) for one, other in pairs]


# Channels that fill rows once, several times and not at all; rows in whole blocks and not.
@pytest.mark.parametrize("shape", [(8, 16, 32, 32), (5, 48, 7, 7), (3, 130, 3, 3), (2, 5, 1, 1)])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_nearer_to_double_precision_than_module_by_module(
    shape: tuple[int, ...], relu: bool, added: bool, called: list[int]
) -> None:
    found = outcome(shape, relu, added)
    assert called and found[0].dtype == found[1].dtype == torch.bfloat16
    again = outcome(shape, relu, added)
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))
    used = len(called)
    exact = outcome(shape, relu, added, torch.float64, nn.BatchNorm2d)
    modules = outcome(shape, relu, added, kind=nn.BatchNorm2d)
    assert len(called) == used == 2
    scales = [float(part.abs().max()) + 1e-3 for part in exact]
    for name, ours, theirs, scale in zip(
        NAMES, apart(found, exact), apart(modules, exact), scales, strict=True
    ):
        assert ours <= 1.02 * theirs + 2e-6 * scale, name
        assert ours <= 4e-3 * scale, name


def test_a_large_mean_does_not_cancel() -> None:
    x = maps(16, 8, 16, 16, mean=0.0) * 0.01 + 1.0
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)
    norm = norm_of(8)
    norm.momentum = 1.0
    norm_relu(norm, None, x)
    assert norm.running_mean is not None and norm.running_var is not None
    values = x.double().permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(norm.running_mean.double(), values.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(norm.running_var.double(), values.var(1), rtol=1e-4, atol=0)


def test_what_is_not_a_number_stays_so() -> None:
    x = maps(2, 4, 8, 8)
    x[1, 2, 3, 4] = float("nan")
    y = norm_relu(norm_of(4), nn.ReLU(), x, torch.zeros_like(x))
    assert y[:, 2].isnan().all() and not y[:, [0, 1, 3]].isnan().any()


def test_where_the_relu_cuts_nothing_passes() -> None:
    x, other = maps(4, 16, 8, 8, seed=1).requires_grad_(), maps(4, 16, 8, 8, seed=2)
    other.requires_grad_()
    y = norm_relu(norm_of(16), nn.ReLU(), x, other)
    # A gradient whose channels are not last, as a mean over maps may leave it.
    gradient = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(4)).bfloat16()
    y.backward(gradient)
    assert y.min() == 0 and (y == 0).any()
    assert other.grad is not None
    assert torch.equal(other.grad, torch.where(y > 0, gradient, 0.0))


def test_one_value_a_channel_is_refused_as_by_torch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_relu(norm_of(4), nn.ReLU(), maps(1, 4, 1, 1))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_parts_of_a_batch_are_batches(relu: bool, added: bool, called: list[int]) -> None:
    together, apart = norm_of(24), norm_of(24)
    assert isinstance(together, FusedNorm)
    together.groups = 2
    x, other, gradient = (maps(6, 24, 5, 5, seed=seed) for seed in (1, 2, 3))
    x, other = x.requires_grad_(), other.requires_grad_()
    activation = nn.ReLU() if relu else None
    y = norm_relu(together, activation, x, other if added else None)
    y.backward(gradient)
    outputs = []
    found = [x.grad, other.grad]
    x.grad = other.grad = None
    for half in (slice(0, 3), slice(3, 6)):
        outputs.append(norm_relu(apart, activation, x[half], other[half] if added else None))
        outputs[-1].backward(gradient[half])
    assert len(called) == 3
    assert torch.equal(y, torch.cat(outputs))
    for one, two in zip(found, [x.grad, other.grad], strict=True):
        assert (one is None and two is None) or (
            one is not None and two is not None and torch.equal(one, two)
        )
    for (name, one), two in zip(together.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, msg=name)
    state = apart.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in together.state_dict().items())
    assert together.num_batches_tracked == 2


@pytest.mark.parametrize("why", ["eval", "float32", "momentum", "layout", "double"])
def test_other_maps_are_normalised_by_torch(why: str, called: list[int]) -> None:
    norm, x = norm_of(16), maps(4, 16, 8, 8)
    if why == "eval":
        norm.eval()
    elif why == "float32":
        x = x.float()
    elif why == "momentum":
        norm.momentum = None
    elif why == "layout":
        x = x.contiguous()
    else:
        norm, x = norm.double(), x.double()
    plain = nn.BatchNorm2d(16, momentum=norm.momentum).to(norm.weight.dtype).train(norm.training)
    plain.load_state_dict(norm.state_dict())
    assert torch.equal(norm_relu(norm, nn.ReLU(), x), plain(x).relu())
    assert not called


@pytest.mark.parametrize("why", ["threads", "numba", "float32"])
def test_a_network_stays_torchs_where_nothing_is_compiled(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = COMPUTE
    if why == "threads":
        torch.set_num_threads(2)
    elif why == "numba":
        monkeypatch.setattr(cpu_norm, "can_compile", lambda: False)
    else:
        compute = Compute(torch.device("cpu"), torch.float32)
    network = build_backbone(NetworkParams(), 3)
    fuse_norms(network, compute, pytest.fail)
    assert not any(isinstance(part, FusedNorm) for part in network.modules())


@pytest.mark.parametrize("name", ["small_resnet", "resnet18", "resnet50"])
def test_both_views_in_one_pass_are_two_passes(name: str, called: list[int]) -> None:
    with seeded(0):
        network = build_backbone(NetworkParams(backbone=name, width=8), 3).train()
    network = COMPUTE.place(network)
    plain, exact = copy.deepcopy(network), copy.deepcopy(network).double()
    names = list(network.state_dict())
    fuse_norms(network, COMPUTE, pytest.fail)
    drawn = torch.randn(2, 6, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    views = tuple(view.contiguous(memory_format=torch.channels_last) for view in drawn)
    with COMPUTE.autocast():
        features = encoded(network, (views[0], views[1]))
    sum(part.float().square().sum() for part in features).backward()  # type: ignore[union-attr]
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(called) == len(norms) > 6
    assert all(norm.num_batches_tracked == 2 for norm in norms)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert list(network.state_dict()) == names
    with COMPUTE.autocast():
        modules = [plain(view) for view in views]
    expected = [exact(view.double()) for view in views]
    # As far from double precision as torch's operators are; running statistics have seen one view
    # after the other.
    assert distance(features, expected) <= 1.2 * distance(modules, expected)
    kept = [
        [tensor for key, tensor in one.state_dict().items() if "running" in key]
        for one in (network, plain, exact)
    ]
    assert distance(kept[0], kept[2]) <= 1.2 * distance(kept[1], kept[2])


def test_large_batches_go_view_by_view_on_a_cpu(called: list[int]) -> None:
    with seeded(0):
        network = COMPUTE.place(build_backbone(NetworkParams(width=8), 3).train())
    fuse_norms(network, COMPUTE, pytest.fail)
    images = torch.zeros(171, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with COMPUTE.autocast():
        for rows, passes in ((170, 1), (171, 2)):
            called.clear()
            encoded(network, (images[:rows], images[:rows]))
            assert len(called) == passes * 9


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of all their values together."""
    one, other = (
        torch.cat([part.detach().double().flatten() for part in parts])
        for parts in (found, expected)
    )
    return float(torch.dist(one, other))


def test_a_record_names_the_compiler() -> None:
    assert COMPUTE.describe()["numba"] == compiler() != "none"
