"""YAML files of parameters: the versions of YAML, encodings, and what they disagree on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaizen.errors import KaizenError
from kaizen.params.reading import read_yaml
from kaizen.params.scalars import resolved


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-05", 3e-05),
        ("3E5", 3e5),
        ("1e5", 1e5),
        ("-2.5e+3", -2500.0),
        ("0.00003", 3e-05),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("0x1f", 31),
        ("0o17", 15),
        (".inf", float("inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("simclr", "simclr"),
        ("'010'", "010"),
        ('"yes"', "yes"),
        ("!!str 010", "010"),
        ("n", "n"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("v1.2.3", "v1.2.3"),
    ],
)
def test_numbers_of_yaml_1_2_are_numbers(tmp_path: Path, text: str, value: Any) -> None:
    for form, found in ((f"a: {text}\n", None), (f"a: [{text or 'null'}, 1]\n", 0)):
        read_value = read(tmp_path, form)["a"]
        read_value = read_value if found is None else read_value[found]
        assert read_value == value and type(read_value) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("010", "010 is 8 to one version of YAML and 10 to another; write 8"),
        ("-010", "-010 is -8"),
        ("yes", "yes is true to one version of YAML and a text to another; write true, or 'yes'"),
        ("off", "off is false"),
        ("1_000", "1_000 is 1000"),
        ("1:30", "1:30 is 90"),
        ("0b11", "0b11 is 3"),
        ("2024-01-01", "2024-01-01 is a date to one version of YAML and a text"),
        ("08", ""),
    ],
)
def test_what_two_versions_read_differently_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    if not says:
        # A text to 1.1, as 8 is no octal digit, and a number to 1.2.
        assert read(tmp_path, f"a: {text}\n") == {"a": 8}
        return
    for form, line in ((f"b: 1\na: {text}\n", 2), (f"a:\n- x\n- {text}\n", 3)):
        with pytest.raises(KaizenError) as caught:
            read(tmp_path, form)
        assert str(caught.value).startswith(f"{tmp_path}/params.yaml, line {line}: {says}")


def test_a_key_that_two_versions_read_differently_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KaizenError, match=r"line 1: yes is true to one version"):
        read(tmp_path, "yes: 1\n")


def test_merge_keys_and_anchors_go_on_working(tmp_path: Path) -> None:
    text = "one: &one {lr: 3e-05, epochs: 2}\ntwo:\n  <<: *one\n  epochs: 3\n"
    assert read(tmp_path, text)["two"] == {"lr": 3e-05, "epochs": 3}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xef\xbb\xbftrain: {epochs: 2}\n")
    assert read_yaml(tmp_path / "params.yaml") == {"train": {"epochs": 2}}


def test_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {epochs: 2}\n", encoding="utf-16")
    with pytest.raises(
        KaizenError,
        match=r"params\.yaml cannot be read: it is not UTF-8 .*save it in that encoding",
    ):
        read_yaml(tmp_path / "params.yaml")


def test_texts_of_the_command_line_are_read_as_they_would_be_in_a_file() -> None:
    given = {"train": {"epochs": "3", "lr": "1e-05"}, "grid": ["a", "true"], "split": 4}
    assert resolved(given) == {
        "train": {"epochs": 3, "lr": 1e-05},
        "grid": ["a", True],
        "split": 4,
    }
