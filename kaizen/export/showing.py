"""The part of an exported graph before the network, in ONNX's own operators: images uint8 [N, C, H,
W] of any size to what evaluation shows of them, uint8 [N, C, size, size].

ONNX's antialiased bicubic resize of 8 bits is Pillow's but for the order of its passes. Images that
have the network's size are taken for prepared and pass as they are.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from kaizen.inference.facts import ModelFacts

_PREFIX = "shown_"


class _Builder:
    """Nodes and constants with names of their own. Lengths are int64 [1]."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def ints(self, *values: int) -> str:
        name = _PREFIX + "_".join(["int", *map(str, values)])
        tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values))
        self.constants[name] = tensor
        return name

    def double(self, value: float) -> str:
        name = f"{_PREFIX}double_{value!r}"
        self.constants[name] = helper.make_tensor(name, TensorProto.DOUBLE, [1], [value])
        return name


def add_showing(graph: Any, facts: ModelFacts, name: str, channels: int) -> None:
    """Put the operators before the graph's own: its input, called ``name``, becomes uint8 [N, C, H,
    W].
    """
    build = _Builder()
    levels = f"{_PREFIX}levels"
    for node in graph.node:
        node.input[:] = [levels if one == name else one for one in node.input]
    last = _shown(build, name, facts)
    build.nodes.append(helper.make_node("Identity", [last], [levels], levels))
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*build.nodes, *own])
    graph.initializer.extend(build.constants.values())
    del graph.input[:]
    shape: list[str | int | None] = ["N", channels, "H", "W"]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    size = facts.image.size
    graph.value_info.append(
        helper.make_tensor_value_info(levels, TensorProto.UINT8, ["N", channels, size, size])
    )


def _shown(build: _Builder, images: str, facts: ModelFacts) -> str:
    """The steps of `kaizen.inference.preparing`, after each other."""
    image, preprocessing = facts.image, facts.preprocessing
    size = build.ints(image.size)
    shape = build.op("Shape", images)
    counts = build.op("Slice", shape, build.ints(0), build.ints(2))
    height = build.op("Slice", shape, build.ints(2), build.ints(3))
    width = build.op("Slice", shape, build.ints(3), build.ints(4))
    sides = (height, width)
    prepared = build.op("And", *(build.op("Equal", side, size) for side in sides))

    def unless(changed: str, side: str) -> str:
        return build.op("Where", prepared, side, changed)

    def resize(image: str, lengths: tuple[str, str]) -> str:
        sizes = build.op("Concat", counts, *lengths, axis=0)
        return build.op(
            "Resize",
            image,
            "",
            "",
            sizes,
            mode="cubic",
            antialias=1,
            cubic_coeff_a=-0.5,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        )

    def to_short_side(sides: tuple[str, str], length: str) -> tuple[str, str]:
        least = build.op("Min", *sides)
        first, second = (build.op("Div", build.op("Mul", side, length), least) for side in sides)
        return first, second

    def cut(image: str, begin: list[str], lengths: list[str]) -> str:
        start = build.op("Concat", *begin, axis=0)
        inside = build.op("Concat", *lengths, axis=0)
        return build.op("Slice", image, start, build.op("Add", start, inside), build.ints(2, 3))

    if preprocessing.resize is not None:
        least = build.op("Min", *sides, build.ints(preprocessing.resize))
        small = to_short_side(sides, least)
        sides = (unless(small[0], sides[0]), unless(small[1], sides[1]))
        images = resize(images, sides)
    if image.load_size is not None:
        side = build.ints(image.load_size)
        large = to_short_side(sides, side)
        sides = (unless(large[0], sides[0]), unless(large[1], sides[1]))
        images = resize(images, sides)
        square = [unless(side, one) for one in sides]
        begin = [
            _halved(build, build.op("Sub", one, to)) for one, to in zip(sides, square, strict=True)
        ]
        images = cut(images, begin, square)
        sides = (square[0], square[1])
    shown = [unless(_share(build, one, preprocessing.test_crop), one) for one in sides]
    begin = [
        build.op("Div", build.op("Sub", one, inside), build.ints(2))
        for one, inside in zip(sides, shown, strict=True)
    ]
    return resize(cut(images, begin, shown), (size, size))


def _halved(build: _Builder, length: str) -> str:
    """round(length / 2) of Python: of two whole numbers that are as near the even one."""
    two = build.ints(2)
    half = build.op("Div", length, two)
    odd = build.op("Mod", length, two)
    return build.op("Add", half, build.op("Mul", odd, build.op("Mod", half, two)))


def _share(build: _Builder, length: str, share: float) -> str:
    """max(1, round(length * share)) of Python."""
    exact = build.op("Cast", length, to=TensorProto.DOUBLE)
    nearest = build.op("Round", build.op("Mul", exact, build.double(share)))
    whole = build.op("Cast", nearest, to=TensorProto.INT64)
    return build.op("Max", whole, build.ints(1))


def checked(model: Any) -> Any:
    """The model, which onnx's checker has looked at."""
    onnx.checker.check_model(model, full_check=False)
    return model
