"""A training step as the reference implementation makes it, written from docs/fidelity.md: views by
torchvision on Pillow images one by one, float32, a forward pass for each view, the teacher in train
mode, LARS parameter by parameter over `torch.optim.SGD`.

Without the reference's forward pass for its probe, which favours it. Networks, heads and losses of
the SSL method are those that we train.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.cases import Case
from bench.ours import made_up_rows
from kaizen.models.backbone import build_backbone
from kaizen.models.heads import classifier, two_layers

_TEMPERATURE = 0.2


def pillow_views(case: Case, view: int) -> transforms.Compose:
    """The reference's augmentation of view 0 or 1: a Pillow image to float32 [C, size, size]."""
    augment, image = case.augment, case.image
    jitter = augment.jitter
    steps: list[object] = [
        transforms.RandomResizedCrop(
            image.size,
            scale=tuple(augment.crop_scale),
            ratio=tuple(augment.crop_ratio),
            interpolation=transforms.InterpolationMode.BICUBIC,
        )
    ]
    if jitter.probability:
        strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        steps.append(
            transforms.RandomApply([transforms.ColorJitter(*strengths)], jitter.probability)
        )
    if augment.greyscale:
        steps.append(transforms.RandomGrayscale(augment.greyscale))
    if augment.solarize[view]:
        solarised = transforms.Lambda(lambda pixels: ImageOps.solarize(pixels, 128))
        steps.append(transforms.RandomApply([solarised], augment.solarize[view]))
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip(augment.flip))
    steps += [transforms.ToTensor(), transforms.Normalize(image.mean, image.std)]
    return transforms.Compose(steps)


class PillowViews(Dataset[tuple[Tensor, Tensor, int]]):
    """Two views of each image of an array, as torchvision's CIFAR10 holds them in memory."""

    def __init__(self, case: Case, count: int, seed: int) -> None:
        """``count`` made-up images."""
        rows = made_up_rows(case, count, seed, torch.device("cpu"))
        pixels = rows.images.permute(0, 2, 3, 1).numpy()
        self._pixels: np.ndarray = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        self._labels = rows.labels.tolist()
        self._views = (pillow_views(case, 0), pillow_views(case, 1))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        image = Image.fromarray(self._pixels[index])
        return self._views[0](image), self._views[1](image), self._labels[index]


class _Network(nn.Module):
    """Encoder, SimCLR's projector and the classifier."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.encoder = build_backbone(case.model, case.image.channels)
        features = self.encoder.feature_dim
        self.projector = two_layers(
            features, case.projector_hidden, case.projector_out, batch_norm=False
        )
        self.classifier = classifier(features, case.model.classifier_hidden, case.classes)


def simclr_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """NT-Xent over 2N rows."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    similarity = z @ z.T / _TEMPERATURE
    similarity = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    positives = torch.cat([torch.arange(len(z1), len(z)), torch.arange(len(z1))])
    return F.cross_entropy(similarity, positives)


def contrastive_kd(p1: Tensor, p2: Tensor, f1: Tensor, f2: Tensor) -> Tensor:
    """CaSSLe's contrastive distillation, both directions."""
    p, f = F.normalize(torch.cat([p1, p2]), dim=1), F.normalize(torch.cat([f1, f2]), dim=1)
    logits = p @ f.T / _TEMPERATURE
    own = torch.arange(len(p))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def lars_then_step(optimizer: torch.optim.SGD, eta: float = 0.02) -> None:
    """LARS's scaling of the gradients parameter by parameter, then the optimiser's step."""
    decays = []
    with torch.no_grad():
        for group in optimizer.param_groups:
            decay, lr = group["weight_decay"], group["lr"]
            decays.append(decay)
            group["weight_decay"] = 0.0
            for p in group["params"]:
                if p.grad is None or p.ndim == 1:
                    continue
                p_norm, g_norm = p.norm(), p.grad.norm()
                if p_norm != 0 and g_norm != 0:
                    q = eta * p_norm / (g_norm + decay * p_norm + 1e-8)
                    p.grad = (p.grad + decay * p) * torch.clamp(q / lr, max=1.0)
    optimizer.step()
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay


class ReferenceStep:
    """Batches of SimCLR as the reference trains it: a first step, or with ``later`` Kaizen's."""

    def __init__(self, case: Case, later: bool) -> None:
        """Build network, teacher, optimiser and loaders (in this process: cost per core)."""
        torch.manual_seed(0)
        self.network = _Network(case).train()
        self.predictor: nn.Module | None = None
        self.teacher: _Network | None = None
        parameters = [*self.network.parameters()]
        if later:
            out = case.projector_out
            self.predictor = two_layers(out, case.distill_hidden, out, batch_norm=True)
            parameters += self.predictor.parameters()
            self.teacher = copy.deepcopy(self.network).requires_grad_(False).train()
        self.optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-5)
        self.images = case.batch + (case.replay if later else 0)
        self._task = self._endless(PillowViews(case, case.rows, 1), case.batch)
        self._replay = (
            self._endless(PillowViews(case, max(case.replay * 4, 64), 2), case.replay)
            if later
            else None
        )

    @staticmethod
    def _endless(data: PillowViews, size: int) -> itertools.chain[list[Tensor]]:
        loader = DataLoader(data, batch_size=size, shuffle=True, drop_last=True)
        return itertools.chain.from_iterable(itertools.repeat(loader))

    def __call__(self) -> None:
        """One batch: loader, loss, backward pass, update."""
        first, second, labels = next(self._task)
        if self._replay is not None:
            old = next(self._replay)
            first, second = torch.cat([first, old[0]]), torch.cat([second, old[1]])
            labels = torch.cat([labels, old[2]])
        network = self.network
        h1, h2 = network.encoder(first), network.encoder(second)
        z1, z2 = network.projector(h1), network.projector(h2)
        logits = [network.classifier(h.detach()) for h in (h1, h2)]
        loss = simclr_loss(z1, z2) + sum(F.cross_entropy(view, labels) for view in logits)
        if self.teacher is not None and self.predictor is not None:
            with torch.no_grad():
                f1, f2 = self.teacher.encoder(first), self.teacher.encoder(second)
                old_z = self.teacher.projector(f1), self.teacher.projector(f2)
                soft = [self.teacher.classifier(f).softmax(dim=1) for f in (f1, f2)]
            loss = loss + contrastive_kd(self.predictor(z1), self.predictor(z2), *old_z)
            distilled = [F.cross_entropy(s, t) for s, t in zip(logits, soft, strict=True)]
            loss = loss + 2.0 * sum(distilled) / 2
        self.optimizer.zero_grad()
        loss.backward()
        lars_then_step(self.optimizer)
