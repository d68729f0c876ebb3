"""An ONNX file's protobuf, read without the package onnx: its metadata, and that it is whole in
itself. Nothing here is built from what the file says but texts of bounded length.
"""

from __future__ import annotations

from collections.abc import Iterator

_MOST_DEPTH, _MOST_FIELDS, _MOST_TEXT = 16, 1 << 22, 1 << 26
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# By message: the fields that are looked into, and as what. The numbers are onnx.proto's.
_INNER = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_METADATA = 14
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of an ONNX model; raises ValueError with the reason where the bytes are no
    model, or where one of its tensors lies in another file.
    """
    view = memoryview(data)
    _check(view, "model", 0, _MOST_FIELDS)
    found: dict[str, str] = {}
    for number, kind, value in _fields(view):
        if number == _METADATA and kind == _BYTES and isinstance(value, memoryview):
            name, text = _pair(value)
            if name in found:
                raise ValueError(f"its metadata have {name[:40]!r} twice")
            found[name] = text
    return found


def _pair(message: memoryview) -> tuple[str, str]:
    """A name and a text."""
    parts = {1: "", 2: ""}
    for number, _, value in _fields(message):
        if number in parts and isinstance(value, memoryview):
            if len(value) > _MOST_TEXT:
                raise ValueError("its metadata are too long")
            parts[number] = bytes(value).decode("utf-8")
    return parts[1], parts[2]


def _check(message: memoryview, kind: str, depth: int, most: int) -> int:
    """Go through a message and all in it, of at most so many fields; returns how many more there
    may be, and raises ValueError where a tensor is elsewhere.
    """
    if depth > _MOST_DEPTH:
        raise ValueError("it is nested too deep")
    for number, wire, value in _fields(message):
        most -= 1
        if most < 0:
            raise ValueError(f"it has more than {_MOST_FIELDS} fields")
        if kind == "tensor" and (
            number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
        ):
            raise ValueError("a tensor of it lies in another file")
        inner = _INNER[kind].get(number)
        if inner is None:
            continue
        if wire != _BYTES or not isinstance(value, memoryview):
            raise ValueError("it is no ONNX model")
        most = _check(value, inner, depth + 1, most)
    return most


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """The fields of a message: number, wire type, value."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        value: memoryview | int
        if wire == _VARINT:
            value, place = _varint(message, place)
        elif wire in (_FIXED64, _FIXED32, _BYTES):
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
            if wire == _BYTES:
                length, place = _varint(message, place)
            if length > len(message) - place:
                raise ValueError("it is cut off, or no ONNX model")
            value, place = message[place : place + length], place + length
        else:
            raise ValueError("it is no ONNX model")
        if not number:
            raise ValueError("it is no ONNX model")
        yield number, wire, value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it is cut off, or no ONNX model")
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("it is no ONNX model")
