"""lightly's documented SimCLR, MoCo, BYOL and VICReg recipes, on the networks and head sizes that
we train, with our values of crop and jitter in lightly's own transforms; first steps only, as
lightly has neither teacher nor replay.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    MoCoProjectionHead,
    SimCLRProjectionHead,
)
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.cases import Case
from bench.ours import made_up_rows
from kaizen.models.backbone import build_backbone


class _Views(Dataset[tuple[list[Tensor], int]]):
    """Both views of Pillow images made of an array, by lightly's transform."""

    def __init__(self, case: Case) -> None:
        rows = made_up_rows(case, case.rows, 1, torch.device("cpu"))
        pixels = rows.images.permute(0, 2, 3, 1).numpy()
        self._pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        self._labels = rows.labels.tolist()
        augment, jitter = case.augment, case.augment.jitter
        self._transform = SimCLRTransform(
            input_size=case.image.size,
            cj_prob=jitter.probability,
            cj_strength=1.0,
            cj_bright=jitter.brightness,
            cj_contrast=jitter.contrast,
            cj_sat=jitter.saturation,
            cj_hue=jitter.hue,
            min_scale=augment.crop_scale[0],
            random_gray_scale=augment.greyscale,
            gaussian_blur=0.0,
            hf_prob=augment.flip,
            normalize={"mean": case.image.mean, "std": case.image.std},
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


class _Recipe(nn.Module):
    """Encoder, heads and loss of one method; `loss` is of two views."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.backbone = build_backbone(case.model, case.image.channels)

    def loss(self, views: list[Tensor]) -> Tensor:
        raise NotImplementedError


class _SimCLR(_Recipe):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.head = SimCLRProjectionHead(
            self.backbone.feature_dim, case.projector_hidden, case.projector_out
        )
        self.criterion = NTXentLoss()

    def loss(self, views: list[Tensor]) -> Tensor:
        z = [self.head(self.backbone(view)) for view in views]
        result: Tensor = self.criterion(*z)
        return result


class _MoCo(_Recipe):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.head = MoCoProjectionHead(
            self.backbone.feature_dim, case.projector_hidden, case.projector_out
        )
        self.slow, self.slow_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        deactivate_requires_grad(self.slow)
        deactivate_requires_grad(self.slow_head)
        self.criterion = NTXentLoss(memory_bank_size=(4096, case.projector_out))

    def loss(self, views: list[Tensor]) -> Tensor:
        update_momentum(self.backbone, self.slow, m=0.99)
        update_momentum(self.head, self.slow_head, m=0.99)
        query = self.head(self.backbone(views[0]))
        with torch.no_grad():
            key = self.slow_head(self.slow(views[1]))
        result: Tensor = self.criterion(query, key)
        return result


class _BYOL(_Recipe):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        hidden, out = case.projector_hidden, case.projector_out
        self.head = BYOLProjectionHead(self.backbone.feature_dim, hidden, out)
        self.predictor = BYOLPredictionHead(out, hidden, out)
        self.slow, self.slow_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        deactivate_requires_grad(self.slow)
        deactivate_requires_grad(self.slow_head)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, views: list[Tensor]) -> Tensor:
        update_momentum(self.backbone, self.slow, m=0.99)
        update_momentum(self.head, self.slow_head, m=0.99)
        predicted = [self.predictor(self.head(self.backbone(view))) for view in views]
        with torch.no_grad():
            targets = [self.slow_head(self.slow(view)) for view in views]
        first, second = (
            self.criterion(predicted[0], targets[1]),
            self.criterion(predicted[1], targets[0]),
        )
        result: Tensor = 0.5 * (first + second)
        return result


class _VICReg(_Recipe):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.head = VICRegProjectionHead(
            self.backbone.feature_dim, case.projector_hidden, case.projector_out, num_layers=3
        )
        self.criterion = VICRegLoss()

    def loss(self, views: list[Tensor]) -> Tensor:
        result: Tensor = self.criterion(*(self.head(self.backbone(view)) for view in views))
        return result


_RECIPES: dict[str, Callable[[Case], _Recipe]] = {
    "simclr": _SimCLR,
    "mocov2plus": _MoCo,
    "byol": _BYOL,
    "vicreg": _VICReg,
}


class LightlyStep:
    """Batches of one recipe under SGD; by default the loader is in this process: cost per core."""

    def __init__(self, case: Case, method: str, device: str = "cpu", workers: int = 0) -> None:
        """Build the recipe and its data, which ``workers`` processes load."""
        torch.manual_seed(0)
        self.device = torch.device(device)
        self.recipe = _RECIPES[method](case).to(self.device).train()
        trained = [p for p in self.recipe.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=0.06)
        self.images = case.batch
        loader: Any = DataLoader(
            _Views(case),
            batch_size=case.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        self._batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def __call__(self) -> None:
        """One batch: loader, loss, backward pass, update."""
        views, _ = next(self._batches)
        views = [view.to(self.device, non_blocking=True) for view in views]
        loss = self.recipe.loss(views)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
