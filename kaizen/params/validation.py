"""Checking what a person wrote: params.yaml and overlays, refused before any work.

Every problem is named by its key's path, with the value and the fix, all in one message.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.errors import KaizenError
from kaizen.params import Params, merge
from kaizen.params.checks import impossible_combinations
from kaizen.params.messages import describe, listing, unknown
from kaizen.params.reading import read_files
from kaizen.params.registry import METHODS

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# Sections that may differ between SSL methods: those that a step's training depends on.
_PER_METHOD = ("augment", "distill", "model", "train")


def load_params(path: Path, overlays: Sequence[Path] = ()) -> Params:
    """Read params.yaml, lay the overlays over it (mappings merge, all else replaces), and check the
    result.

    Raises KaizenError naming the file and every wrong key.
    """
    files = [path, *overlays]
    return validate(read_files(files), " + ".join(str(file) for file in files))


def validate(values: Mapping[str, Any], where: str = "params.yaml") -> Params:
    """Check types, bounds, unknown keys and combinations; returns the typed parameters.

    Raises KaizenError that lists every problem with its key's path, the value and the fix.
    """
    try:
        text = json.dumps(values, default=str)
        json.dumps(values, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        wrong = ascii(error.object[error.start])
        raise KaizenError(
            f"{where}: {wrong} in a text is half of a character; write the whole character"
        ) from None
    except (TypeError, ValueError) as error:
        raise KaizenError(
            f"{where}: {error}; write plain mappings, lists, texts and numbers"
        ) from None
    params, problems = _typed(text)
    if params is not None:
        problems = impossible_combinations(params)
        problems += _per_method_problems(params, json.loads(text), problems)
    if params is None or problems:
        raise KaizenError(listing(where, problems))
    return params


@functools.cache
def _adapter() -> TypeAdapter[Params]:
    """What pydantic makes of the parameters' classes, built once: it takes longer than a plan."""
    from pydantic import TypeAdapter

    return TypeAdapter(Params)


def _typed(text: str) -> tuple[Params | None, list[str]]:
    """The parameters of a JSON text, or what is wrong with their names, types and bounds."""
    from pydantic import ValidationError

    try:
        # Strict JSON mode takes 1 for 1.0 but neither "1" for 1 nor 1.5 for an integer.
        return _adapter().validate_json(text), []
    except ValidationError as error:
        # What is neither a list nor a text, where both would do, is reported once: as no list.
        found = [
            p
            for p in error.errors(include_url=False)
            if (p["type"], p["loc"][-1]) != ("string_type", "str")
        ]
        return None, [describe(problem) for problem in _or_a_word(found)]


def _or_a_word(problems: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The problems, that of a value and that of the word it may be instead (auto) as one."""
    words = {
        problem["loc"][:-1]: str(problem["loc"][-1])[len("literal['") : -len("']")]
        for problem in problems
        if str(problem["loc"][-1]).startswith("literal['")
    }
    found: list[Mapping[str, Any]] = []
    for problem in problems:
        word = words.get(problem["loc"][:-1])
        if word is None:
            found.append(problem)
        elif not str(problem["loc"][-1]).startswith("literal['"):
            message = f"{problem['msg']}, or {word}"
            found.append({**problem, "loc": problem["loc"][:-1], "msg": message})
    return found


def _per_method_problems(
    params: Params, values: Mapping[str, Any], common: Sequence[str]
) -> list[str]:
    """What is wrong with `per_method`: each method's parameters are checked as a whole, beyond the
    ``common`` ones.
    """
    problems: list[str] = []
    for method, overlay in params.per_method.items():
        where = f"per_method.{method}"
        if method not in METHODS:
            problems.append(f"{where}: {unknown(method, 'a method', METHODS)}")
        others = overlay.keys() - _PER_METHOD
        if others:
            problems.append(
                f"{where}.{min(others)}: only {', '.join(_PER_METHOD)} can differ between methods; "
                "set it for all"
            )
            continue
        merged, wrong = _typed(json.dumps(merge(values, overlay)))
        wrong += impossible_combinations(merged) if merged is not None else []
        problems += [f"{where}.{problem}" for problem in wrong if problem not in common]
    return problems


def json_schema() -> dict[str, Any]:
    """The JSON Schema of params.yaml, for editors; `kaizen schema` writes it to
    workflow/schemas/.
    """
    schema = _adapter().json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
