"""Backbones, heads, seeding, precision and the registry."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
from ssl_models import Features
from torch import nn

from kaizen.compute.precision import full_precision, widened
from kaizen.compute.seeding import seeded
from kaizen.compute.torchvision_compat import prepare_torchvision
from kaizen.distill.base import FeatureDistiller
from kaizen.distill.contrastive import ContrastiveDistiller
from kaizen.models.backbone import Backbone, BasicBlock, build_backbone
from kaizen.models.heads import Layer, classifier, mlp
from kaizen.models.resnet import RESNETS
from kaizen.params import FeatureDistillParams, ModelParams, SimCLRParams, registry
from kaizen.ssl.base import SSLMethod
from kaizen.ssl.simclr import SimCLR

ROOT = Path(__file__).parents[1]


TORCHVISION = importlib.util.find_spec("torchvision") is not None
needs_torchvision = pytest.mark.skipif(not TORCHVISION, reason="torchvision is not installed")


def _python(code: str) -> str:
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@needs_torchvision
def test_torchvision_imports_after_prepare() -> None:
    code = (
        "from kaizen.compute.torchvision_compat import prepare_torchvision as p\n"
        "p(); p()\n"
        "import gc; gc.collect()\n"
        "import torch, torchvision\n"
        "from torchvision.transforms.v2 import functional\n"
        "p()\n"
        "m = torchvision.models.resnet18()\n"
        "print(m(torch.zeros(1, 3, 64, 64)).shape[1], hasattr(torch.ops.torchvision, 'nms'))"
    )
    assert _python(code) == "1000 True"


def test_prepare_leaves_existing_operators_alone() -> None:
    code = (
        "import torch\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "for name in ('nms', 'qnms'):\n"
        "    library.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "library.impl('nms', lambda dets, scores, t: scores + t, 'CPU')\n"
        "import kaizen.compute.torchvision_compat as c\n"
        "c.prepare_torchvision()\n"
        "print(len(c._libraries), torch.ops.torchvision.nms(torch.zeros(1, 4), torch.ones(1), "
        "0.5).item())"
    )
    assert _python(code) == "0 1.5"


def test_small_resnet_does_not_import_torchvision() -> None:
    code = (
        "import sys\n"
        "from kaizen.models.backbone import build_backbone\n"
        "from kaizen.params import ModelParams\n"
        "build_backbone(ModelParams(), 1)\n"
        "print('torchvision' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    assert _python(code) == "False False"


@pytest.mark.parametrize(("channels", "width", "side"), [(1, 16, 16), (3, 4, 9), (3, 8, 32)])
def test_small_resnet_shapes_and_size(channels: int, width: int, side: int) -> None:
    backbone = build_backbone(ModelParams(width=width), channels)
    features = backbone(torch.rand(3, channels, side, side))
    assert backbone.feature_dim == 4 * width
    assert features.shape == (3, 4 * width)
    assert features.dtype == torch.float32
    w = width
    stem = 9 * channels * w + 2 * w
    stage1 = 2 * (9 * w * w + 2 * w)
    # first convolution, second convolution, shortcut, three batch norms
    stage2 = 9 * w * 2 * w + 9 * 2 * w * 2 * w + w * 2 * w + 3 * 2 * 2 * w
    stage3 = 9 * 2 * w * 4 * w + 9 * 4 * w * 4 * w + 2 * w * 4 * w + 3 * 2 * 4 * w
    assert _count(backbone) == stem + stage1 + stage2 + stage3


def test_basic_block_is_conv_bn_relu_conv_bn_plus_shortcut() -> None:
    with seeded(3):
        block = BasicBlock(2, 4, stride=2).double().eval()
        x = torch.randn(2, 2, 7, 7, dtype=torch.float64)
    for norm in [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]:
        assert norm.running_mean is not None
        norm.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    conv = nn.functional.conv2d

    def normalised(t: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, var = norm.running_mean[None, :, None, None], norm.running_var[None, :, None, None]
        return (t - mean) / (var + norm.eps).sqrt() * norm.weight[None, :, None, None] + norm.bias[
            None, :, None, None
        ]

    hidden = normalised(conv(x, block.conv1.weight, stride=2, padding=1), block.bn1).clamp(min=0)
    shortcut = block.shortcut
    assert isinstance(shortcut, nn.Sequential)
    narrow, last = shortcut
    assert isinstance(narrow, nn.Conv2d) and isinstance(last, nn.BatchNorm2d)
    side = normalised(conv(x, narrow.weight, stride=2), last)
    expected = (normalised(conv(hidden, block.conv2.weight, padding=1), block.bn2) + side).clamp(
        min=0
    )
    torch.testing.assert_close(block(x), expected)


@needs_torchvision
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_is_torchvisions_to_the_bit(name: str) -> None:
    """Names, order and values of the weights, what is drawn for them, and what comes out."""
    prepare_torchvision()
    from torchvision.models import get_model

    with seeded(3):
        ours, drawn = RESNETS[name](), torch.rand(4)
    with seeded(3):
        theirs, also_drawn = get_model(name, weights=None), torch.rand(4)
    assert torch.equal(drawn, also_drawn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [key for key, _ in ours.named_modules()] == [key for key, _ in theirs.named_modules()]
    for own, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(own, other)
    images = torch.rand(2, 3, 33, 33)
    for network in (ours, theirs):
        network(images).square().sum().backward()
    assert torch.equal(ours(images), theirs(images))
    gradients = [[p.grad for p in network.parameters()] for network in (ours, theirs)]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("name", "stem", "padding_2", "channels", "side", "map_side", "parameters"),
    [
        # torchvision's published sizes, less the classification layer, plus the difference of the
        # stem.
        ("resnet18", "cifar", True, 3, 32, 34, 11689512 - 513000 - 9408 + 1728),
        ("resnet18", "cifar", False, 1, 32, 32, 11689512 - 513000 - 9408 + 576),
        ("resnet18", "imagenet", True, 3, 64, 32, 11689512 - 513000),
        ("resnet50", "imagenet", False, 1, 64, 32, 25557032 - 2049000 - 9408 + 3136),
    ],
)
def test_torchvision_resnets(
    name: str,
    stem: Literal["cifar", "imagenet"],
    padding_2: bool,
    channels: int,
    side: int,
    map_side: int,
    parameters: int,
) -> None:
    model = ModelParams(backbone=name, stem=stem)
    backbone = build_backbone(model, channels, stem_padding_2=padding_2).eval()
    network = backbone.network
    assert isinstance(network, nn.Module)
    images = torch.rand(1, channels, side, side)
    assert network.get_submodule("conv1")(images).shape[2:] == (map_side, map_side)
    assert _count(backbone) == parameters
    features = backbone(images)
    assert features.shape == (1, backbone.feature_dim)
    assert backbone.feature_dim == {"resnet18": 512, "resnet50": 2048}[name]
    blocks = [m for m in network.modules() if type(m).__name__ in ("BasicBlock", "Bottleneck")]
    last_norm = "bn2" if name == "resnet18" else "bn3"
    # zero_init_residual is off
    assert all(b.get_submodule(last_norm).state_dict()["weight"].eq(1).all() for b in blocks)


def test_seeded_is_reproducible_and_leaves_the_global_state() -> None:
    def build(seed: int) -> Backbone:
        with seeded(seed):
            return build_backbone(ModelParams(width=4), 1)

    before = torch.random.get_rng_state()
    one, same = build(7), build(7)
    torch.testing.assert_close(dict(one.state_dict()), dict(same.state_dict()), rtol=0, atol=0)
    other = build(8).state_dict()
    assert not torch.equal(one.state_dict()["stem.0.weight"], other["stem.0.weight"])
    with pytest.raises(RuntimeError, match="inside"), seeded(1):
        torch.rand(3)
        raise RuntimeError("inside")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_small_resnet_initialisation_is_he_normal_by_fan_out() -> None:
    with seeded(0):
        backbone = build_backbone(ModelParams(width=64), 3)
    weights = [m.weight for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    for weight in weights:
        fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_mlp_follows_its_layers() -> None:
    net = mlp(
        Layer(5, 7, batch_norm=True, relu=True, bias=False),
        Layer(7, 3, batch_norm=False, relu=False),
    )
    assert [type(m) for m in net] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert net[0].bias is None
    assert net[3].bias is not None
    assert net(torch.rand(4, 5)).shape == (4, 3)


@pytest.mark.parametrize(("hidden", "kinds"), [([], "L"), ([1000], "LRL"), ([6, 5], "LRLRL")])
def test_classifier(hidden: list[int], kinds: str) -> None:
    net = classifier(512, hidden, 100)
    assert "".join({nn.Linear: "L", nn.ReLU: "R"}[type(m)] for m in net) == kinds
    assert net(torch.rand(2, 512)).shape == (2, 100)
    widths = [512, *hidden, 100]
    assert _count(net) == sum((a + 1) * b for a, b in itertools.pairwise(widths))


def test_simclr_and_distiller_heads() -> None:
    """The heads of fidelity.md §4 and §5, with the paper's sizes."""
    method = SimCLR(SimCLRParams(projector_hidden=4096, projector_out=256), Features(512))
    assert method.projection_dim == 256
    assert [type(m) for m in method.projector] == [nn.Linear, nn.ReLU, nn.Linear]
    assert _count(method) == 513 * 4096 + 4097 * 256
    groups = method.parameter_groups()
    assert {head: [name for name, _ in members] for head, members in groups.items()} == {
        "projector": ["0.weight", "0.bias", "2.weight", "2.bias"]
    }
    assert groups["projector"][0][1] is method.projector[0].weight
    method.projector[0].weight.requires_grad_(False)
    assert [name for name, _ in method.parameter_groups()["projector"]] == [
        "0.bias",
        "2.weight",
        "2.bias",
    ]

    distiller = ContrastiveDistiller(FeatureDistillParams(predictor_hidden=2048), method)
    assert [type(m) for m in distiller.predictor.children()] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
    ]
    assert _count(distiller) == 257 * 2048 + 2 * 2048 + 2049 * 256


def test_full_precision_and_widened() -> None:
    a = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with full_precision("cpu"):
            assert (a @ a).dtype == torch.float32
    for given, expected in [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert widened(a.to(given)).dtype == expected


def test_registry_targets_load_and_the_registry_needs_no_torch() -> None:
    for method in registry.SSL_METHODS.values():
        assert issubclass(registry.load(method.target), SSLMethod)
        assert registry.load(method.target).__module__ == registry.module_of(method.target)
        assert method.distiller in registry.FEATURE_DISTILLERS
    for distiller in registry.FEATURE_DISTILLERS.values():
        assert issubclass(registry.load(distiller.target), FeatureDistiller)
    assert registry.module_of("kaizen.ssl.simclr:SimCLR") == "kaizen.ssl.simclr"
    assert _python("import sys, kaizen.params.registry; print('torch' in sys.modules)") == "False"


def test_prepare_torchvision_is_idempotent_here() -> None:
    prepare_torchvision()
    prepare_torchvision()
    assert not TORCHVISION or hasattr(torch.ops.torchvision, "nms")
