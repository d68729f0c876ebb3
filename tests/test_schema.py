from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import yaml
from conftest import REPOSITORY

from kaizen.params import Params
from kaizen.params.validation import json_schema

PATH = "workflow/schemas/params.schema.json"


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for owner, definition in ({"Params": schema} | schema["$defs"]).items():
        for name, value in definition["properties"].items():
            yield f"{owner}.{name}", value


def test_the_schema_in_the_repository_is_current() -> None:
    stored = json.loads((REPOSITORY / PATH).read_text(encoding="utf-8"))
    assert stored == json_schema(), "run `kaizen schema`"


def test_params_yaml_tells_editors_where_the_schema_is() -> None:
    assert f"# yaml-language-server: $schema={PATH}\n" in (REPOSITORY / "params.yaml").read_text(
        encoding="utf-8"
    )


def test_every_key_is_described() -> None:
    schema = json_schema()
    described = dict(properties(schema))
    for name, value in described.items():
        target = schema["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value
        text = target.get("description", "")
        # A dataclass without a docstring gets its signature as one.
        assert text, name
        assert not text.startswith(f"{name}("), name
    assert "Params.train" in described
    assert "SimCLRParams.temperature" in described


def test_unknown_keys_are_errors_in_editors_too() -> None:
    schema = json_schema()
    assert all(
        definition["additionalProperties"] is False
        for definition in (schema, *schema["$defs"].values())
    )


def test_the_schema_has_every_section_and_bounds() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(Params)}
    train = schema["$defs"]["TrainParams"]["properties"]
    assert train["epochs"]["minimum"] == 1
    assert train["momentum"]["exclusiveMaximum"] == 1
    assert train["optimizer"]["enum"] == ["sgd", "lars"]
    written = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    assert set(written) <= set(schema["properties"])
