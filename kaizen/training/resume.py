"""The resume state of a step: everything needed to go on as if nothing had happened.

One safetensors file at a key-named path that no rule declares as output, replaced atomically.
Random numbers need no saving, as they are functions of (seed, epoch, batch).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from kaizen.files import atomic_path

FILE = "resume.safetensors"


@dataclass
class Progress:
    """How far a step has come: whole epochs, batches of the epoch after them, its sums, rows of
    history.
    """

    epoch: int = 0
    batch: int = 0
    sums: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    # How many processes shared the step, from its start on; another number after each resumption
    # that changed it.
    processes: list[int] = field(default_factory=list)


def save_resume(
    folder: Path, tensors: dict[str, Tensor], progress: Progress, compute: dict[str, Any]
) -> None:
    """Replace the resume state atomically. ``tensors`` may be on any device; ``compute`` says where
    they were made.
    """
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"step": folder.name, "progress": vars(progress), "compute": compute})
    save_tensors(folder / FILE, tensors, {"state": text, "sha256": digest(tensors, text)})


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file atomically; raises KaizenError where the disk is full or cannot be
    written.

    ``safetensors.torch.save_file`` would report a full disk by an error of its own that has no
    errno.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def has_resume(folder: Path) -> bool:
    """Whether there is a resume state, good or not."""
    return (folder / FILE).exists()


def load_resume(folder: Path, compute: dict[str, Any]) -> tuple[dict[str, Tensor], Progress, str]:
    """Read the resume state: (tensors, progress, "") or ({}, a fresh start, why there is none to
    use).

    A state that is torn, altered, another step's, or was made on another device, CPU or precision
    is set aside, never trusted: mixing it in would change the bits.
    """
    path = folder / FILE
    if not has_resume(folder):
        return {}, Progress(), ""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["state"]
        if digest(tensors, text) != metadata["sha256"]:
            raise ValueError("its content does not match its hash")
        state = json.loads(text)
        if state["step"] != folder.name:
            raise ValueError("it is another step's")
        if state["compute"] != compute:
            raise ValueError("it was saved on another device or precision, or by another CPU")
        return tensors, Progress(**state["progress"]), ""
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        aside = path.with_name(f"{FILE}.refused")
        os.replace(path, aside)
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        return (
            {},
            Progress(),
            f"{path} cannot be used ({reason}); kept as {aside}; the step starts from its "
            "beginning",
        )


def digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 over the state text and every tensor's name, shape, type and bytes, on whatever
    device.
    """
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name}:{list(tensor.shape)}:{tensor.dtype}".encode())
        tensor = tensor.detach().to("cpu").contiguous()
        sha256.update(
            tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        )
    return sha256.hexdigest()
