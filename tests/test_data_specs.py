"""What stands in a job's JSON and what does not: a parameter without effect is not set, and null is
a value.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import make_plan

from kaizen.data.found import Finding, Found, LeftOut
from kaizen.errors import KaizenError
from kaizen.params import LabelsParams
from kaizen.params.typed import UNSET, from_dict, to_dict
from kaizen.plan.data_specs import DataFacts, LabelsSpec
from kaizen.plan.job import read_local
from kaizen.plan.origin import OriginFacts, read_origin
from kaizen.plan.specs import SPECS, read_spec, spec_json
from kaizen.store.node_id import Kind

_ALWAYS = {
    "source",
    "on_corrupt",
    "resize",
    "row_group_mb",
    "compression",
}


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("digits", {"test_fraction", "seed"}),
        ("synthetic", {"seed", "synthetic"}),
        ("stl10", {"unlabelled"}),
        ("cifar10", set()),
        ("tiny_imagenet", {"encoding", "raw_limit", "bit_depth"}),
    ],
)
def test_only_what_a_source_reads_is_set(source: str, own: set[str]) -> None:
    path = {"dataset.path": "/a"} if source == "tiny_imagenet" else {}
    plan = make_plan({"dataset.source": source} | path)
    shards, summary = spec_json(plan.shards[0].spec), spec_json(plan.summary.spec)
    assert shards["dataset"].keys() == _ALWAYS | own
    assert shards["dataset"]["resize"] is None
    assert summary["data"]["dataset"] == {
        name: value for name, value in shards["dataset"].items() if name != "compression"
    }
    assert shards["labels"] == {"fraction": 1.0} and shards["found"] == {} == summary["found"]


def test_the_seed_of_the_labels_is_set_where_there_is_a_choice() -> None:
    assert to_dict(LabelsSpec.of(LabelsParams(0.5, 7))) == {"fraction": 0.5, "seed": 7}
    assert to_dict(LabelsSpec.of(LabelsParams(0.0, 7))) == {"fraction": 0.0}


@pytest.mark.parametrize("kind", [Kind.SHARDS, Kind.SUMMARY])
def test_a_specification_comes_back_from_its_json(kind: Kind) -> None:
    plan = make_plan({"split.by": "data"})
    spec = plan.shards[0].spec if kind is Kind.SHARDS else plan.summary.spec
    params = json.loads(json.dumps(spec_json(spec)))
    found = read_spec(kind, params, "a plan")
    assert isinstance(found, SPECS[kind]) and found == spec
    params["found"] = {"copies": [{"what": "images"}]}
    with pytest.raises(KaizenError, match=r"a plan: params\.found\.copies\.0\.count is missing"):
        read_spec(kind, params, "a plan")


def test_what_a_source_found_comes_back_from_its_json() -> None:
    found = Found(LeftOut([Finding("empty folders", 2, "train/a")], []), [])
    values = {
        "skipped": {
            "train": [{"what": "empty folders", "count": 2, "first": "train/a"}],
            "test": [],
        },
        "copies": [],
    }
    assert to_dict(found) == values and from_dict(Found, values) == found
    assert to_dict(Found()) == {} and from_dict(Found, {}) == Found()


def test_null_is_no_way_not_to_set_a_value() -> None:
    with pytest.raises(TypeError, match=r"labels\.seed must be an integer, not null"):
        from_dict(LabelsSpec, {"fraction": 1.0, "seed": None}, "labels")
    nested = {"dataset": {}, "labels": {"fraction": 1.0, "seed": "UNSET"}}
    with pytest.raises(TypeError):
        from_dict(DataFacts, nested)
    assert not UNSET


def test_of_an_origin_what_is_well_formed_is_believed() -> None:
    told: dict[str, Any] = {
        "commit": "0" * 40,
        "changed": ["kaizen/files.py"],
        "depends": [],
        "params_committed": True,
        "command": "snakemake",
    }
    origin = read_origin(told)
    assert to_dict(origin) == told and origin.has_code()
    assert read_origin(told | {"experiment": "softer"}).experiment == "softer"
    wrong = {"commit": "main", "changed": [1], "depends": "a", "command": 3, "more": 1}
    assert read_origin(wrong | {"params_committed": 1, "experiment": None}) == OriginFacts()
    assert not OriginFacts("0" * 40, depends=None).has_code()


def test_a_job_reads_its_origin_and_refuses_what_is_none() -> None:
    local = read_local({"origin": {"commit": "1" * 40}})
    assert local.origin == OriginFacts(commit="1" * 40)
    assert read_local({}).origin is None and read_local({"origin": None}).origin is None
    with pytest.raises(TypeError, match=r"local\.origin must be a mapping or null, not a text"):
        read_local({"origin": "main"})
