"""bench/search.py: what it trains for each method and rate, and which rate it takes."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from conftest import REPOSITORY

from kaizen.params import for_method
from kaizen.params.reading import read_files
from kaizen.params.registry import SUPERVISED
from kaizen.params.validation import validate
from kaizen.plan.build import grid_points


@pytest.fixture(scope="module")
def search() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search", REPOSITORY / "bench" / "search.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", ["simclr", "mocov2plus", "byol", "vicreg", SUPERVISED])
def test_each_method_is_trained_once_on_task_0_at_each_rate(
    search: ModuleType, method: str
) -> None:
    names = ("params.yaml", "presets/tiny-imagenet-100.yaml", "presets/search.yaml")
    values = read_files([REPOSITORY / name for name in names])
    for rate in search.RATES:
        params = validate(search.experiment(values, method, rate))
        (point,) = grid_points(params)
        assert point.method == method
        assert for_method(params, method).train.lr == rate
        assert params.split.tasks == 1 and params.dataset.classes is not None
        assert len(params.dataset.classes) == 20


def test_the_best_rate_is_taken_and_the_smaller_of_equal_ones(search: ModuleType) -> None:
    assert search.best({0.25: 0.3, 0.5: 0.4, 1.0: 0.4, 2.0: None}) == 0.5
    assert search.best({0.25: None, 0.5: None}) is None
