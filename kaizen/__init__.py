"""Kaizen: self-supervised continual learning as a versioned, resumable workflow.

`kaizen.load(FOLDER)` loads a trained model, `kaizen.load("model.onnx")` an exported one.
"""

from kaizen.bytecode import load_by_hash

# In the place of typing's: whoever imports the package pays for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from kaizen.inference.loading import load as load

__version__ = "0.1.0"

load_by_hash()

# A type checker knows `load` from above, and no other names: a `Model`, of whose methods an
# `ExportedModel` has those of `kaizen.inference.answering`.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """`load`, when it is first asked for; of a folder it imports torch."""
        if name != "load":
            raise AttributeError(f"module 'kaizen' has no attribute {name!r}")
        from kaizen.inference.opening import load

        return load
