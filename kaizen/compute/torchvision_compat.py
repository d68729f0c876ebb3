"""Make `import torchvision` work where its compiled operators do not fit the installed torch.

The package registry offers torchvision in a CUDA build only. With a CPU build of torch its
compiled library does not load, and the import then fails because torchvision describes operators
(`nms`, `qnms`) that nothing has defined. None of them is used here: declaring their signatures is
enough.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# The definitions are withdrawn when the Library object dies, so it lives as long as the process.
_libraries: list[torch.library.Library] = []


def prepare_torchvision() -> None:
    """Declare torchvision::nms and torchvision::qnms if `import torchvision` would fail without
    them.

    Call it before every import of torchvision. Does nothing (beyond loading torchvision's own
    compiled library, which the import does too) when the two builds match, when torchvision is
    absent, or when it was called before. The declared operators have no implementation: calling one
    raises NotImplementedError, as nothing in this package needs boxes.
    """
    if _libraries or not _missing():
        return
    folder = _torchvision_folder()
    if folder is None or _loads_compiled_operators(folder):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    for signature in _missing():
        library.define(signature)


def _missing() -> list[str]:
    """The signatures that nobody has defined yet, neither torchvision itself nor another user of
    it.
    """
    return [
        signature
        for signature in _SIGNATURES
        if not hasattr(torch.ops.torchvision, signature.partition("(")[0])
    ]


def _torchvision_folder() -> Path | None:
    """The installed package's folder, found without importing it; None when it is not installed."""
    specification = importlib.util.find_spec("torchvision")
    if specification is None or specification.origin is None:
        return None
    return Path(specification.origin).parent


def _loads_compiled_operators(folder: Path) -> bool:
    """Load torchvision's compiled operators as its import would; False when there are none or they
    do not fit. Which operators they are is their version's: 0.26 has no qnms, and asks for none.
    """
    for path in sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]):
        try:
            torch.ops.load_library(str(path))
        except (ImportError, OSError):
            continue
        return True
    return False
