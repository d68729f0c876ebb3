"""Folding batch norms changes no function, and a teacher is folded where it is in eval mode."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from ssl_models import METHODS, random_views, small_model
from torch import Tensor, nn

from kaizen.compute import memory
from kaizen.models.backbone import build_backbone
from kaizen.models.folded import fold_batch_norms
from kaizen.params import ModelParams
from kaizen.training.student import ContinualModel, frozen_copy

Module = TypeVar("Module", bound=nn.Module)


def lived_in(module: Module) -> Module:
    """In float64, each batch norm with scales, shifts and running statistics of its own."""
    generator = torch.Generator().manual_seed(3)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 2.0, generator=generator)
    return module.double().eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("backbone", ["small_resnet", "resnet18", "resnet50"])
def test_a_backbone_without_its_norms_is_the_same_function(backbone: str) -> None:
    network = lived_in(build_backbone(ModelParams(backbone=backbone, width=4), 3))
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    assert norms(network) > 0
    assert norms(folded) == 0
    torch.testing.assert_close(folded(images), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_teacher_projects_as_the_model_that_it_was(method: str) -> None:
    model: ContinualModel = lived_in(small_model(method))
    teacher = frozen_copy(model, train_mode=False)
    view = random_views()[0].double()
    features = model.encoder(view)
    found: Tensor = teacher.encoder(view)
    torch.testing.assert_close(found, features, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        teacher.ssl.project(found), model.ssl.project(features), rtol=1e-9, atol=1e-9
    )
    assert norms(teacher.encoder) == 0
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_teacher_in_train_mode_keeps_its_norms() -> None:
    model = small_model("byol")
    assert norms(frozen_copy(model, train_mode=True).encoder) == norms(model.encoder)


def test_norms_that_follow_nothing_stay() -> None:
    strange = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU())
    bare = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    for module in (strange, bare):
        fold_batch_norms(module)
        assert norms(module) == 1


def test_freed_memory_is_kept_by_glibc_and_by_no_other_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert memory.keep_freed_memory()
    memory.keep_freed_memory.cache_clear()
    monkeypatch.setattr("kaizen.compute.memory.ctypes.CDLL", lambda _: object())
    assert not memory.keep_freed_memory()
    memory.keep_freed_memory.cache_clear()


def test_the_heap_asks_for_huge_pages() -> None:
    """In a process of its own, whose heap is as every job's at its start."""
    if not Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("this system has no huge pages to give")
    code = (
        "from kaizen.compute.memory import keep_freed_memory as keep; assert keep()\n"
        "print(open('/proc/self/smaps').read())"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    # madvise parts the heap: what lies before the first huge page is a mapping of its own.
    heaps = found.stdout.decode().split("[heap]")[1:]
    flags = [heap.partition("VmFlags:")[2].splitlines()[0].split() for heap in heaps]
    assert any("hg" in of_heap for of_heap in flags)
