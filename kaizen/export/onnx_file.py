"""A model as a file of ONNX, in memory: the graph of torch's exporter with what shows an image to
it put before, and metadata that say what the model is.
"""

from __future__ import annotations

import json
import logging
import warnings
from typing import Any

import onnx
import torch

from kaizen.export.showing import add_showing
from kaizen.files import canonical_json
from kaizen.inference.exported import INPUT, METADATA, OUTPUTS
from kaizen.inference.facts import ModelFacts


def onnx_model(program: Any, facts: ModelFacts) -> Any:
    """The ONNX model of a program of `kaizen.export.network`: float32, without metadata."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        # What torch's own exporter warns of is about its own code.
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            made = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        finally:
            logger.setLevel(level)
    if made is None:
        raise RuntimeError("torch gave no program of ONNX")
    model = made.model_proto
    _strip(model)
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "N"
    add_showing(model.graph, facts, INPUT, facts.image.channels)
    onnx.checker.check_model(model)
    return model


def _strip(model: Any) -> None:
    """Take away what the exporter notes of the code, with the paths of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.metadata_props[:]
    # Shapes with the exporter's names for the batch; onnxruntime infers them again.
    del graph.value_info[:]


def file_bytes(model: Any, facts: ModelFacts) -> bytes:
    """The bytes of the file, the same for the same model."""
    model.producer_name, model.producer_version = "kaizen-ssl", facts.kaizen
    model.doc_string = ""
    del model.metadata_props[:]
    texts = {
        # What a stranger's program may look for; the last one is what this code reads.
        "classes": json.dumps(facts.classes, ensure_ascii=False),
        "key": facts.key,
        "lineage": json.dumps(facts.lineage),
        METADATA: canonical_json(facts.to_json()),
    }
    onnx.helper.set_model_props(model, texts)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
