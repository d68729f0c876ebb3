"""A model as a torch.export program, *.pt2: an archive of JSON and plain bytes, without a pickle.

torch.export.save would pickle the example's tensors, so the program is written without an example.
`torch.export.load` reads other people's archives with pickles in them: load only files that you
trust.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch

from kaizen.export.ours import LIST
from kaizen.files import canonical_json
from kaizen.inference.facts import ModelFacts


def program_bytes(program: Any, facts: ModelFacts) -> bytes:
    """The archive of a program of `kaizen.export.network`, with what the model is beside it."""
    program.example_inputs = None
    for node in program.graph.nodes:
        # Paths of this machine.
        node.meta.pop("stack_trace", None)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Of weights whose channels lie last; they are written whole.
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files={LIST: canonical_json(facts.to_json())})
    return file.getvalue()
