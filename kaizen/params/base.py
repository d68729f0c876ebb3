"""What the parameters' classes are made of: bounded types, documented fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

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
