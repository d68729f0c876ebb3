"""Parameters are read, checked and merged."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad_values import BAD
from conftest import REPOSITORY, make_params

from kaizen.errors import KaizenError
from kaizen.params import (
    DatasetParams,
    Params,
    ReplayParams,
    SimCLRParams,
    VariantParams,
    from_dict,
    merge,
)
from kaizen.params.messages import known_keys
from kaizen.params.reading import read_yaml
from kaizen.params.validation import load_params, validate


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_is_refused_by_name_with_the_fix(case: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(KaizenError) as caught:
        load_params(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert [word for word in words if word not in message] == [], message
    assert caught.value.exit_code == 2
    assert "\n" not in message and "<unicode string>" not in message


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(KaizenError) as caught:
        validate({"train": {"epochs": 0, "lr": "x"}, "splt": {}})
    message = str(caught.value)
    assert message.startswith("params.yaml: 3 problems\n")
    assert [word for word in ("train.epochs", "train.lr", "splt") if word not in message] == []
    with pytest.raises(KaizenError, match="2 problems") as caught:
        validate({"grid": {"seeds": [1, 1]}, "dataset": {"path": "x"}})
    assert "grid.seeds" in str(caught.value)
    assert "dataset.path" in str(caught.value)


def test_every_section_knows_its_keys() -> None:
    """What an unknown key is compared with: the keys of its own section, wherever that is."""
    assert known_keys([]) == [field.name for field in dataclasses.fields(Params)]
    assert known_keys(["ssl", "simclr"]) == ["projector_hidden", "projector_out", "temperature"]
    assert known_keys(["distill", "feature", "prototype"]) == ["temperature"]
    switches = ["feature_distill", "classifier_distill", "replay", "joint", "self_supervised"]
    assert known_keys(["variants", "mine"]) == switches


def test_values_that_are_no_json_are_refused() -> None:
    circular: list[Any] = []
    circular.append(circular)
    cases: tuple[dict[Any, Any], ...] = (
        {datetime.date(2020, 1, 1): 3},
        {"grid": {"seeds": circular}},
    )
    for values in cases:
        with pytest.raises(KaizenError, match=r"params\.yaml: .*write plain mappings"):
            validate(values)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, ["does not exist", "--params"]),
        (lambda path: path.mkdir(), ["cannot be read", "directory"]),
        (lambda path: path.write_bytes(b"train: {epochs: \xff}"), ["cannot be read", "utf-8"]),
        (lambda path: path.write_bytes(b"train: {epochs: \x00}"), ["not valid YAML"]),
    ],
    ids=["missing", "a folder", "not text", "a zero byte"],
)
def test_a_file_that_cannot_be_read_is_named(make: Any, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    make(path)
    with pytest.raises(KaizenError) as caught:
        load_params(path)
    assert str(caught.value).startswith(str(path))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_bad_overlay_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {epochs: 3}")
    (tmp_path / "b.yaml").write_text("train: {warmup_epochs: 4}")
    with pytest.raises(KaizenError, match=r"a\.yaml \+ .*b\.yaml: train\.warmup_epochs"):
        load_params(tmp_path / "a.yaml", [tmp_path / "b.yaml"])


def test_whole_numbers_may_stand_for_others() -> None:
    params = validate(
        {"train": {"lr": 1, "min_lr": 0}, "replay": {"proportion": [0, 1]}, "image": {"std": [1]}}
    )
    proportions = params.replay.proportion
    assert proportions is not None
    values = (params.train.lr, params.train.min_lr, *proportions, *params.image.std)
    assert values == (1.0, 0.0, 0.0, 1.0, 1.0)
    assert {type(value) for value in values} == {float}


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("# nothing yet\n")
    assert load_params(path) == Params() == validate({})


def test_overlays_merge_mappings_and_replace_all_else(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "train: {epochs: 7, lr: 0.5}\ngrid: {seeds: [1, 2, 3]}\nreplay: {memory: null}\n"
    )
    (tmp_path / "b.yaml").write_text("train: {lr: 0.25}\ngrid: {seeds: [4]}\n")
    (tmp_path / "c.yaml").write_text(
        "train: {lr: 0.125, momentum: 0.5}\nreplay: {proportion: null, memory: [10]}\n"
    )
    params = load_params(tmp_path / "a.yaml", [tmp_path / "b.yaml", tmp_path / "c.yaml"])
    assert (params.train.epochs, params.train.lr, params.train.momentum) == (7, 0.125, 0.5)
    assert params.grid.seeds == [4]
    assert params.replay == ReplayParams(proportion=None, memory=[10])


def test_merge_leaves_what_it_merges_alone() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merge(base, {"a": {"c": {"f": 4}}, "e": {"g": 5}}) == {
        "a": {"b": 1, "c": {"d": 2, "f": 4}},
        "e": {"g": 5},
    }
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_yaml_anchors_may_be_merged(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "variants:\n  one: &one {replay: false, feature_distill: false}\n  two: {<<: *one, replay: "
        "true}\n"
    )
    assert read_yaml(path)["variants"]["two"] == {"feature_distill": False, "replay": True}
    assert load_params(path).variants["two"] == VariantParams(feature_distill=False)


def test_from_dict_rebuilds_what_asdict_takes_apart() -> None:
    params = make_params(
        {
            "variants.mine": {"replay": False},
            "grid.variants": ["mine"],
            "image.load_size": 20,
            "replay.proportion": None,
            "replay.memory": [10, 20],
            "ssl.simclr.temperature": 0.5,
        }
    )
    rebuilt = from_dict(Params, dataclasses.asdict(params))
    assert rebuilt == params
    assert rebuilt.variants["mine"] == VariantParams(replay=False)
    assert rebuilt.ssl.simclr == SimCLRParams(temperature=0.5)
    assert validate(dataclasses.asdict(params)) == params


def test_from_dict_refuses_an_unknown_key() -> None:
    with pytest.raises(TypeError, match="colour"):
        from_dict(DatasetParams, {"source": "digits", "colour": 1})


def test_defaults_are_not_shared() -> None:
    one = validate({})
    one.grid.seeds.append(7)
    assert validate({}).grid.seeds == [0] == Params().grid.seeds


def keys(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return {prefix}
    return {prefix}.union(
        *(keys(value, f"{prefix}.{key}".lstrip(".")) for key, value in values.items())
    )


def test_params_yaml_shows_every_key() -> None:
    written = read_yaml(REPOSITORY / "params.yaml")
    defaults = dataclasses.asdict(Params())
    assert keys(written | {"variants": {}, "per_method": {}}) == keys(defaults)
    assert isinstance(load_params(REPOSITORY / "params.yaml"), Params)


def test_dvc_watches_every_section_that_changes_a_result() -> None:
    stage = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["experiment"]
    assert stage["params"] == [{"params.yaml": None}], (
        "the file as a whole, whatever sections it has"
    )
