"""Smaller numbers in an ONNX model: weights and activations of 8 bits, or weights in bfloat16."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kaizen.inference.exported import INPUT, OUTPUTS

Numbers = Literal["int8", "bf16"]
# Smaller tensors stay as they are: constants, scales, biases.
_FEWEST_VALUES = 1024
_BATCH = 32


def in_bfloat16(model: Any) -> None:
    """Store the large float32 weights in bfloat16, rounded to nearest even; a Cast makes float32 of
    them when the file is loaded, so all is computed in float32.
    """
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _FEWEST_VALUES:
            continue
        name, short = tensor.name, f"{tensor.name}_bfloat16"
        tensor.CopyFrom(
            helper.make_tensor(
                short, TensorProto.BFLOAT16, values.shape, _bfloat16(values).tobytes(), raw=True
            )
        )
        casts.append(helper.make_node("Cast", [short], [name], short, to=TensorProto.FLOAT))
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *own])


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper 16 bits of float32, rounded to nearest even: uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16)


def in_int8(model: Any, levels: np.ndarray) -> Any:
    """The model with the encoder's convolutions and matrix products in 8 bits (onnxruntime's static
    quantisation): weights per channel, the ranges of activations from images uint8 [N, C, size,
    size]. The head, a thousandth of the work, stays as it is.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    head = _after(model.graph, OUTPUTS[1])
    kept = [node.name for node in model.graph.node if node.name in head]
    logger = logging.getLogger()
    level = logger.level
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        # It advises to infer shapes beforehand, which the checks afterwards make needless.
        logger.setLevel(logging.ERROR)
        try:
            quantize_static(
                model,
                out,
                _Images(levels),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            logger.setLevel(level)
        return onnx.load(str(out))


def _after(graph: Any, name: str) -> set[str]:
    """The names of the nodes that depend on a tensor. Nodes are in the order of computation."""
    reached, found = {name}, set()
    for node in graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            found.add(node.name)
    return found


class _Images:
    """Levels as onnxruntime's calibration reads them, some at a time."""

    def __init__(self, levels: np.ndarray) -> None:
        self._batches = iter([levels[i : i + _BATCH] for i in range(0, len(levels), _BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while batch := self.get_next():
            yield batch
