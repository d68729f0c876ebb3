"""The adapter to timm, against a stand-in for the package: the real one is an optional extra."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from conftest import FACTS, make_params, make_plan
from project import make_project
from torch import Tensor, nn

from kaizen.compute.seeding import seeded
from kaizen.errors import KaizenError
from kaizen.models.backbone import TimmBackbone, build_backbone
from kaizen.params import ModelParams
from kaizen.plan.build import build_plan


class Convolutional(nn.Module):
    """As timm's convolutional networks: for images of any size, pooled features without classes."""

    def __init__(self, in_chans: int, num_classes: int) -> None:
        super().__init__()
        assert num_classes == 0
        self.stem = nn.Conv2d(in_chans, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.0)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.drop(self.norm(self.stem(images)).relu().mean(dim=(2, 3)))
        return features


class Dropping(Convolutional):
    def __init__(self, in_chans: int, num_classes: int) -> None:
        super().__init__(in_chans, num_classes)
        self.drop = nn.Dropout(0.2)


class Transformer(nn.Module):
    """As timm's vision transformers: built for one size."""

    def __init__(self, in_chans: int, num_classes: int, img_size: int = 224) -> None:
        super().__init__()
        assert num_classes == 0
        if img_size % 4:
            raise ValueError(f"{img_size} is not a multiple of the patches' size")
        self.size = img_size
        self.patches = nn.Conv2d(in_chans, 10, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, (img_size // 4) ** 2, 10))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == (self.size, self.size), (
            "the input's size does not match the model"
        )
        patches: Tensor = self.patches(images).flatten(2).transpose(1, 2)
        return (patches + self.position).mean(dim=1)


class Unpooled(Convolutional):
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.stem(images)
        return maps


MODELS: dict[str, type[nn.Module]] = {
    "tiny_conv": Convolutional,
    "tiny_vit": Transformer,
    "unpooled": Unpooled,
    "dropping": Dropping,
}


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A module named timm with these models; returns the arguments of every model made."""
    made: list[dict[str, Any]] = []

    def create_model(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
        assert pretrained is False
        made.append({"name": name, **arguments})
        return MODELS[name](**arguments)

    module = ModuleType("timm")
    vars(module).update(
        __version__="9.9",
        create_model=create_model,
        is_model=MODELS.__contains__,
        list_models=lambda: list(MODELS),
        get_pretrained_cfg=lambda name: {
            "tiny_conv": SimpleNamespace(fixed_input_size=False),
            "tiny_vit": SimpleNamespace(fixed_input_size=True),
        }.get(name),
    )
    monkeypatch.setitem(sys.modules, "timm", module)
    return made


@pytest.mark.parametrize(
    ("name", "features", "sized"), [("tiny_conv", 6, {}), ("tiny_vit", 10, {"img_size": 12})]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_of_timm_is_a_backbone(
    timm: list[dict[str, Any]], name: str, features: int, sized: dict[str, int], channels: int
) -> None:
    backbone = build_backbone(ModelParams(backbone=f"timm/{name}"), channels, image_size=12)
    assert timm == [{"name": name, "num_classes": 0, "in_chans": channels, **sized}]
    assert isinstance(backbone, TimmBackbone) and backbone.training
    assert backbone.feature_dim == features
    assert backbone(torch.rand(3, channels, 12, 12)).shape == (3, features)


def test_the_seed_decides_the_weights_and_the_trial_leaves_no_trace(
    timm: list[dict[str, Any]],
) -> None:
    def build(seed: int) -> dict[str, Tensor]:
        with seeded(seed):
            return build_backbone(
                ModelParams(backbone="timm/tiny_conv"), 1, image_size=8
            ).state_dict()

    one, same, other = build(1), build(1), build(2)
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one["network.stem.weight"], other["network.stem.weight"])
    assert one["network.norm.num_batches_tracked"] == 0
    assert torch.equal(one["network.norm.running_mean"], torch.zeros(6))


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("tiny_cnv", 8, ["timm 9.9 has no model tiny_cnv", "did you mean timm/tiny_conv?"]),
        ("zzz", 8, ["has no model zzz", "timm.list_models()"]),
        (
            "tiny_vit",
            10,
            ["timm/tiny_vit does not take images of 3x10x10", "multiple", "change image.size"],
        ),
        ("tiny_conv", 2, ["timm/tiny_conv does not take images of 3x2x2", "change image.size"]),
        ("dropping", 8, ["draws random numbers", "dropout", "choose another backbone"]),
        ("unpooled", 8, ["gives (6, 6, 6) for an image", "choose another backbone"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    timm: list[dict[str, Any]], name: str, size: int, words: list[str]
) -> None:
    with pytest.raises(KaizenError) as caught:
        build_backbone(ModelParams(backbone=f"timm/{name}"), 3, image_size=size)
    message = str(caught.value)
    assert message.startswith("model.backbone: ") and "\n" not in message
    assert [word for word in words if word not in message] == [], message


def test_without_timm_the_fix_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        KaizenError, match=r"model\.backbone: timm/resnet26d needs .*pip install timm"
    ):
        build_backbone(ModelParams(backbone="timm/resnet26d"), 3, image_size=8)
    project = make_project(tmp_path / "project", {"model.backbone": "timm/resnet26d"})
    outcome = project.kaizen("run")
    assert outcome.code != 0
    assert "pip install timm" in outcome.output and "Traceback" not in outcome.output


@pytest.mark.parametrize("name", ["tiny_conv", "tiny_vit"])
def test_an_experiment_with_a_model_of_timm(
    timm: list[dict[str, Any]], tmp_path: Path, name: str
) -> None:
    project = make_project(
        tmp_path / "project", {"model.backbone": f"timm/{name}", "grid.variants": ["kaizen"]}
    )
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    (folder,) = project.root.glob("results/models/simclr-kaizen-*/step-01")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    assert tensors["classifier.0.weight"].shape[1] == (6 if name == "tiny_conv" else 10)
    assert any(tensor.startswith("encoder.network.") for tensor in tensors)
    assert min(pq.read_table(folder / "history.parquet").to_pydict()["L_FE_KD"]) > 0


def test_the_version_of_a_backbones_package_is_part_of_its_steps_code() -> None:
    packages: dict[str, set[tuple[str, ...]]] = {}
    for backbone in ("small_resnet", "resnet18", "timm/resnet26d"):
        asked: set[tuple[str, ...]] = set()

        def fingerprint(
            modules: tuple[str, ...], names: tuple[str, ...], asked: set[tuple[str, ...]] = asked
        ) -> str:
            if "kaizen.training.step" in modules:
                asked.add(names)
            return f"{modules} {names}"

        build_plan(make_params({"model.backbone": backbone}), FACTS, fingerprint)
        packages[backbone] = asked
    common = ("numpy", "pillow", "torch")
    assert packages == {
        "small_resnet": {common},
        "resnet18": {common},
        "timm/resnet26d": {(*common, "timm")},
    }
    one, two = (
        make_plan({"model.backbone": f"timm/{name}"}) for name in ("resnet26d", "resnet26t")
    )
    assert one.runs[0].steps[0].key != two.runs[0].steps[0].key
