"""From JSON to typed dataclasses, checked against their type hints; needs no pydantic.

For what a program of ours wrote: specifications of jobs, parameters that were checked before. What
a person wrote goes through `kaizen.params.validation`, whose messages name the fix.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from kaizen.files import shortened

T = TypeVar("T")


class Unset(enum.Enum):
    """The type of `UNSET`, the default of a field that JSON need not have; null is a value."""

    UNSET = enum.auto()

    def __bool__(self) -> Literal[False]:
        """False, so that ``value or another`` takes another."""
        return False


UNSET = Unset.UNSET

_hints = functools.cache(typing.get_type_hints)


def from_dict(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Build a dataclass, nested ones included, from JSON.

    Raises TypeError that names the place where a key is unknown or missing, or a value has another
    type than the class says: such JSON did not come from this version.
    """
    any_kind = typing.cast(Any, kind)
    hints = _hints(any_kind)
    fields = {field.name: field for field in dataclasses.fields(any_kind)}
    unknown = values.keys() - fields.keys()
    if unknown:
        raise TypeError(f"{_at(path, min(unknown))} is unknown")
    for name, field in fields.items():
        if name not in values and _is_required(field):
            raise TypeError(f"{_at(path, name)} is missing")
    return kind(**{name: _build(hints[name], values[name], _at(path, name)) for name in values})


def to_dict(value: Any, json_of: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """The JSON of a dataclass as `from_dict` takes it, without the fields that are not set.

    A field is not set where it is `UNSET`, or None and its class gives it that default. Of nested
    classes, which hold parameters, a None is there: a default that changes must change keys.
    ``json_of`` is `as_json`, or a `Shared` that remembers it of the fields that are dataclasses.
    """
    json_of = json_of or as_json
    return {
        field.name: json_of(item)
        for field in dataclasses.fields(value)
        if (item := getattr(value, field.name)) is not UNSET
        and (field.default is not None or item is not None)
    }


class Shared:
    """`as_json` that does the work once for each dataclass that several others share.

    What it gives is shared too: to be read, never to be changed.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        # By identity, as parameters hold lists and cannot be hashed. The object is kept beside its
        # JSON, so that no other one gets its identity.
        self._known: dict[int, tuple[Any, Any]] = {}

    def __call__(self, value: Any) -> Any:
        """As `as_json`."""
        if not dataclasses.is_dataclass(value):
            return as_json(value)
        if id(value) not in self._known:
            self._known[id(value)] = (value, as_json(value))
        return self._known[id(value)][1]


def as_json(value: Any) -> Any:
    """Nested dataclasses, tuples and enumerations as JSON has them; fields that are `UNSET` are
    left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: as_json(item) for name, item in items.items() if item is not UNSET}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return str(value) if isinstance(value, enum.StrEnum) else value


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _at(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _build(hint: Any, value: Any, path: str) -> Any:
    """Turn a JSON value into what its type hint names."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin is typing.Annotated:
        return _build(typing.get_args(hint)[0], value, path)
    if origin in (typing.Union, types.UnionType):
        return _build_one_of(typing.get_args(hint), value, path)
    if origin is not None:
        return _build_generic(hint, value, path)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return from_dict(typing.cast(type, hint), value, path)
        if isinstance(value, typing.cast(type, hint)):
            return value
    elif isinstance(hint, type):
        return _build_plain(hint, value, path)
    raise TypeError(f"{path} must be {_name(hint)}, not {_shown(value)}")


def _build_generic(hint: Any, value: Any, path: str) -> Any:
    """A value of a choice of literals, a list, a tuple or a mapping."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
    elif origin in (list, tuple):
        if isinstance(value, list | tuple):
            items = [_build(arguments[0], item, _at(path, i)) for i, item in enumerate(value)]
            return tuple(items) if origin is tuple else items
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {k: _build(arguments[1], item, _at(path, k)) for k, item in value.items()}
    raise TypeError(f"{path} must be {_name(hint)}, not {_shown(value)}")


def _build_one_of(hints: tuple[Any, ...], value: Any, path: str) -> Any:
    """The value as the first of several types that takes it; one that it has exactly goes first."""
    # No JSON is `UNSET`.
    hints = tuple(hint for hint in hints if hint is not Unset)
    if len(hints) == 1:
        return _build(hints[0], value, path)
    problem: TypeError | None = None
    for hint in sorted(hints, key=lambda hint: hint is not type(value)):
        try:
            return _build(hint, value, path)
        except TypeError as error:
            # The message of a nested class is more exact than the choice of types.
            problem = problem or (error if isinstance(value, Mapping) else None)
    names = " or ".join(_name(hint) for hint in hints)
    raise problem or TypeError(f"{path} must be {names}, not {_shown(value)}")


def _build_plain(hint: type, value: Any, path: str) -> Any:
    if issubclass(hint, enum.StrEnum) and isinstance(value, str):
        try:
            return hint(value)
        except ValueError:
            raise TypeError(f"{path} must be one of {', '.join(hint)}, not {value!r}") from None
    # JSON has one kind of number; a boolean is none.
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint or (hint is type(None) and value is None):
        return value
    raise TypeError(f"{path} must be {_name(hint)}, not {_shown(value)}")


def _name(hint: Any) -> str:
    names = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}
    names |= {type(None): "null"}
    if typing.get_origin(hint) is typing.Annotated:
        return _name(typing.get_args(hint)[0])
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if isinstance(typing.get_origin(hint), type):
        return "a list" if typing.get_origin(hint) in (list, tuple) else "a mapping"
    return names.get(hint, "a mapping" if dataclasses.is_dataclass(hint) else str(hint))


def type_name(value: Any) -> str:
    """What a value read from JSON or YAML is, in words: "a mapping", "a list", "null"."""
    if isinstance(value, Mapping | list | tuple):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    if isinstance(value, bool | str | int | float | None):
        return _name(type(value))
    return f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    # In JSON's words, not in Python's.
    words = {None: "null", True: "true", False: "false"}
    plain = value is None or isinstance(value, bool)
    return words[value] if plain else shortened(repr(value))
