"""What the parameters' classes are made of: bounded types, documented fields, and their way from
and to JSON.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, TypeVar

try:
    from pydantic import Field
except (
    ImportError
):  # a training job on a bare GPU machine: its parameters were checked when planned

    def Field(**_: Any) -> Any:  # type: ignore[no-redef]  # noqa: N802
        """Stand in for pydantic's Field: an annotation without effect."""
        return None


# Every class's __pydantic_config__.
STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
# Beyond these a loss divided by it, or its gradient, is no float32 any more.
Temperature = Annotated[float, Field(ge=1e-30, le=1e30)]

T = TypeVar("T")


def doc(text: str, default: Any) -> Any:
    """A dataclass field with a default (copied when it is a list or mapping) and a description for
    the schema.
    """
    metadata = {"description": text}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type) -> Any:
    """A nested section whose own defaults apply when it is absent."""
    return field(default_factory=kind)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``overlay`` over ``base``: mappings merge key by key, anything else replaces."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Build a parameter dataclass, nested ones included, from JSON that was checked before.

    Raises TypeError on an unknown key: such JSON did not come from this version's plan.
    """
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            name: _build(hints[name], value) if name in hints else value
            for name, value in values.items()
        }
    )


def _build(hint: Any, value: Any) -> Any:
    """Turn a mapping into the dataclass that its type hint names; leave everything else as it
    is.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if dataclasses.is_dataclass(member)]
        hint = members[0] if members and value is not None else hint
    if typing.get_origin(hint) is dict:
        return {key: _build(typing.get_args(hint)[1], item) for key, item in value.items()}
    return (
        from_dict(hint, value)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint)
        else value
    )
