"""Plain scalars of YAML, as version 1.2 reads them; where version 1.1 reads another value, refused.

PyYAML and Snakemake read YAML 1.1, DVC writes and reads 1.2. To 1.1 `3e-05` is a text and `010` is
eight; to 1.2 they are a number and ten. What both must agree on is written in a way that they do.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from kaizen.errors import KaizenError

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NOT_A_NUMBER = re.compile(r"\.(nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def plain_scalar(text: str) -> Any:
    """The value of an unquoted scalar by YAML 1.2's core schema: null, boolean, number or text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "").lower())
    return float("nan") if _NOT_A_NUMBER.fullmatch(text) else text


def agreed_scalar(text: str, by_version_1_1: Any, where: str) -> Any:
    """The value of an unquoted scalar, where YAML 1.1 reads it as ``by_version_1_1``.

    A number of YAML 1.2 that is only a text to 1.1 is that number. Raises KaizenError naming
    ``where`` for whatever else the two versions read differently.
    """
    value = plain_scalar(text)
    if type(value) is type(by_version_1_1) and _same(value, by_version_1_1):
        return value
    if isinstance(by_version_1_1, str) and isinstance(value, int | float):
        return value
    raise KaizenError(
        f"{where}: {text} is {_shown(by_version_1_1)} to one version of YAML and {_shown(value)} "
        f"to another; write {_clear(by_version_1_1)}, or '{text}' in quotes for the text"
    )


def resolved(value: Any) -> Any:
    """A value whose texts came from unquoted scalars, as of `snakemake --config`, each read as
    YAML 1.2 has it.
    """
    if isinstance(value, dict):
        return {name: resolved(item) for name, item in value.items()}
    if isinstance(value, list):
        return [resolved(item) for item in value]
    return plain_scalar(value) if isinstance(value, str) else value


def _same(one: Any, other: Any) -> bool:
    # NaN is unequal to itself.
    return bool(one == other or (one != one and other != other))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return "a text"
    if isinstance(value, datetime.date):
        return "a date"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _clear(value: Any) -> str:
    """How the value of version 1.1 is written for both."""
    return _shown(value) if isinstance(value, bool | int | float) else "what you mean"
