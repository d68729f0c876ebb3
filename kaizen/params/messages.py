"""How problems of parameters read: each is its key's path, the value, what is wrong and the fix."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kaizen.files import shortened, yaml_float
from kaizen.params import Params
from kaizen.params.base import section_class
from kaizen.params.scalars import plain_scalar

# pydantic's error types -> what to do about it; the others speak for themselves.
_FIXES = {
    "missing": "add it",
    "list_type": "write a list, as in [1, 2]",
    "dataclass_type": "write a mapping of its keys",
    "string_type": "put it in quotes",
    "bool_type": "write true or false",
}
_POWER_OF_TEN = re.compile(r"([-+]?[0-9]+)(\.[0-9]+)?[eE]([-+]?)([0-9]+)")
# Words that are near to no key, or to the wrong one -> the key that they are likely meant for.
_MEANT = {
    "experiment": "grid",
    "experiments": "grid",
    "method": "grid.methods",
    "seed": "grid.seeds",
    "training": "train",
    "data": "dataset",
}


def listing(where: str, problems: Sequence[str]) -> str:
    """The message about all problems of the file ``where``."""
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return f"{where}: {len(problems)} problems\n" + "\n".join(
        f"  {problem}" for problem in problems
    )


def unknown(name: str, what: str, known: Iterable[str]) -> str:
    """That a name is not known, and the nearest one, or all."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"{name!r} is not {what}; " + (
        f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
    )


def describe(problem: Mapping[str, Any]) -> str:
    """One pydantic error as 'key.path: value: what is wrong; the fix'."""
    path = ".".join(
        str(part) for part in problem["loc"] if not str(part).startswith(("list[", "constrained-"))
    )
    if problem["type"] == "unexpected_keyword_argument":
        known = known_keys(problem["loc"][:-1])
        close = _meant(problem["loc"]) or difflib.get_close_matches(path.split(".")[-1], known, n=1)
        fix = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
        return f"{path}: unknown key; {fix}"
    message = (
        str(problem["msg"]).replace("Input should be", "must be").replace("Input must", "must")
    )
    value = json.dumps(problem["input"], default=str)
    fix = _FIXES.get(problem["type"], "") or _number_meant(problem)
    return f"{path}: {shortened(value)} is not valid: {message}" + (f"; {fix}" if fix else "")


def _number_meant(problem: Mapping[str, Any]) -> str:
    """How the number is written that was likely meant: one in quotes, or a whole one written as a
    fraction; empty where there is none.
    """
    given, is_whole = problem["input"], problem["type"] in ("int_type", "int_from_float")
    if not is_whole and problem["type"] != "float_type":
        return ""
    in_quotes = isinstance(given, str)
    value = plain_scalar(given.strip()) if in_quotes else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return ""
    if is_whole:
        text = str(int(value)) if value == int(value) else ""
    elif in_quotes and (power := _POWER_OF_TEN.fullmatch(given.strip())):
        # As it was given, and so that YAML 1.1 reads a number too.
        digits, point, sign, exponent = power.groups()
        text = f"{digits}{point or '.0'}e{sign or '+'}{exponent}"
    else:
        text = yaml_float(value)
    return text and f"write {text}" + (", without quotes" if in_quotes else "")


def _meant(location: Sequence[str | int]) -> list[str]:
    """What a key at the top is likely meant for: a section of another name, or a key of one."""
    if len(location) != 1:
        return []
    key = str(location[0])
    if key in _MEANT:
        return [_MEANT[key]]
    places = [
        f"{name}.{key}"
        for name, hint in typing.get_type_hints(Params).items()
        if dataclasses.is_dataclass(section_class(hint)) and key in known_keys([name])
    ]
    return [" or ".join(places)] if places else []


def known_keys(location: Sequence[str | int]) -> list[str]:
    """The keys that the section at ``location`` has, by the type hints from `Params` downwards."""
    hint: Any = Params
    for part in location:
        if dataclasses.is_dataclass(hint):
            hint = section_class(typing.get_type_hints(hint)[str(part)])
        else:
            # A mapping by the user's own names, as `variants`: all its values are of one class.
            hint = typing.get_args(hint)[-1]
    return [field.name for field in dataclasses.fields(hint)]
