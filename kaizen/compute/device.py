"""The device and precision of a step, chosen once when it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kaizen.compute.compiled import compiler
from kaizen.compute.cpu import cpu_facts
from kaizen.compute.kernels import lacking
from kaizen.compute.memory import keep_freed_memory
from kaizen.errors import KaizenError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """Where and in which precision a job computes."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        """A context in which forward passes run in ``dtype``; losses and normalisation leave it for
        float32.
        """
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16
        )

    def place(self, module: Module) -> Module:
        """Move a module to the device, convolutions in channels-last, in which they were measured
        faster.
        """
        moved: Module = module.to(self.device)
        # torch's types know `memory_format` of tensors only.
        moved = moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved

    def describe(self) -> dict[str, Any]:
        """What a node's record says of it."""
        name, kernels = "cpu", ""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        if self.device.type == "cuda" and self.dtype == torch.bfloat16:
            kernels = "torch" if lacking() else "compiled"
        return {
            "device": self.device.type,
            "device_name": name,
            "precision": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "numba": compiler(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            **({"kernels": kernels} if kernels else {}),
            **cpu_facts(),
        }


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on ``device``; to a GPU without waiting for what it has still to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def choose_compute(device: str, precision: str, threads: int) -> Compute:
    """Resolve `train.device` and `train.precision` and make torch deterministic with ``threads``
    CPU threads.

    See `resolved`. Raises KaizenError when the GPU asked for is absent.
    """
    compute = resolved(device, precision, "train.device")
    torch.set_num_threads(threads)
    keep_freed_memory()
    # cuBLAS is deterministic only with a fixed workspace, which it reads when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As torch.use_deterministic_algorithms(True), which imports the compiler besides: 1.2
    # CPU-seconds of every job.
    torch.set_deterministic_debug_mode("error")
    # Nothing here reads memory before writing it; filling it first cost a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return compute


def resolved(device: str, precision: str, name: str) -> Compute:
    """The device and precision that are meant by names; no setting of torch is changed.

    auto takes the GPU where there is one, and bfloat16 where the hardware computes in it: there it
    was measured to win (docs/performance.md). Raises KaizenError, which begins with ``name``, when
    the GPU asked for is absent.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise KaizenError(
            f"{name}: cuda, but torch sees no GPU on this machine; set {name} to auto or cpu"
        )
    chosen = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "auto":
        wins = torch.cuda.is_bf16_supported() if chosen.type == "cuda" else cpu_computes_bfloat16()
        precision = "bfloat16" if wins else "float32"
    return Compute(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32)


def cpu_computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has bfloat16 instructions (AVX-512 BF16 or AMX), as Linux reports; False
    elsewhere.
    """
    try:
        flags = next(
            (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), ""
        )
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))
