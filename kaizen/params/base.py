"""What the parameters' classes are made of: bounded types, documented fields, and their way from
and to JSON.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, dataclass_transform


class Field:
    """Bounds of an annotated type, as pydantic's Field takes them (ge, gt, le, lt, …).

    Not pydantic's own: a job's parameters were checked when they were planned, and it needs neither
    the package nor the tenth of a second of its import.
    """

    def __init__(self, **bounds: Any) -> None:
        """``bounds`` by pydantic's names."""
        self.bounds = bounds

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """What pydantic asks where it builds its checks: those of its own Field."""
        import pydantic

        return handler(Annotated[source, pydantic.Field(**self.bounds)])


# What pydantic refuses in every class: unknown keys, a text for a number, NaN and infinity.
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

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


@dataclass_transform(frozen_default=True)
def parameters(kind: type[T]) -> type[T]:
    """Make a class of parameters: a frozen dataclass, which pydantic checks strictly."""
    kind.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
    return dataclass(frozen=True)(kind)


def doc(default: Any, text: str) -> Any:
    """A field with a default (copied when it is a list or mapping) and a description for the
    schema.
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


def section_class(hint: Any) -> Any:
    """The class of an optional section, from a type hint such as ``Section | None``; any other hint
    as it is.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if dataclasses.is_dataclass(member)]
        return members[0] if members else hint
    return hint
