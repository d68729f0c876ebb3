"""Batch norm, shortcut and ReLU as one compiled operation: the function in double precision is the
reference, and torch's module by module the mark to reach.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from kaizen.compute.compiled import can_compile, compiler
from kaizen.compute.device import Compute
from kaizen.compute.seeding import seeded
from kaizen.models import norm_relu as module
from kaizen.models.backbone import build_backbone
from kaizen.models.norm_relu import norm_relu
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
    apply = module._NormReLU.apply

    def counted(*arguments: object) -> object:
        calls.append(1)
        return apply(*arguments)  # type: ignore[no-untyped-call]  # torch's

    monkeypatch.setattr(module._NormReLU, "apply", counted)
    return calls


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad(), seeded(1):
        norm.weight.normal_(1.0, 0.3)
        norm.bias.normal_()
    return norm


def maps(*shape: int, seed: int = 0, mean: float = 0.5) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + mean
    return drawn.bfloat16().contiguous(memory_format=torch.channels_last)


def outcome(
    shape: tuple[int, ...], relu: bool, added: bool, dtype: torch.dtype = torch.bfloat16
) -> list[Tensor]:
    """What `NAMES` says, of a batch norm with everything that follows it."""
    norm = norm_of(shape[1]).to(torch.float64 if dtype == torch.float64 else torch.float32)
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
    shape: tuple[int, ...],
    relu: bool,
    added: bool,
    called: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = outcome(shape, relu, added)
    assert called and found[0].dtype == found[1].dtype == torch.bfloat16
    again = outcome(shape, relu, added)
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))
    exact = outcome(shape, relu, added, torch.float64)
    used = len(called)
    monkeypatch.setattr(module, "can_compile", lambda: False)
    modules = outcome(shape, relu, added)
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


@pytest.mark.parametrize(
    "why", ["eval", "float32", "kind", "statistics", "layout", "threads", "numba", "weights"]
)
def test_everything_else_is_done_module_by_module(
    why: str, called: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    norm, x, relu = norm_of(16), maps(4, 16, 8, 8), nn.ReLU()
    if why == "eval":
        norm.eval()
    elif why == "float32":
        x = x.float()
    elif why == "kind":
        norm.__class__ = type("Other", (nn.BatchNorm2d,), {})
    elif why == "statistics":
        norm.momentum = None
    elif why == "layout":
        x = x.contiguous()
    elif why == "threads":
        torch.set_num_threads(2)
    elif why == "numba":
        monkeypatch.setattr(module, "can_compile", lambda: False)
    else:
        norm.double()
        x = x.double()
    expected = copy.deepcopy(norm)(x).relu()
    assert torch.equal(norm_relu(norm, relu, x), expected)
    assert not called


@pytest.mark.parametrize("name", ["small_resnet", "resnet18", "resnet50"])
def test_the_residual_networks_use_it_for_every_batch_norm(name: str, called: list[int]) -> None:
    with seeded(0):
        network = build_backbone(NetworkParams(backbone=name, width=8), 3).train()
    network = COMPUTE.place(network)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with COMPUTE.autocast():
        features = network(images.contiguous(memory_format=torch.channels_last))
    features.float().square().sum().backward()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(called) == len(norms) > 6
    assert all(norm.num_batches_tracked == 1 for norm in norms)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_record_names_the_compiler() -> None:
    assert COMPUTE.describe()["numba"] == compiler() != "none"
