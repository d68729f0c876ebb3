"""Kernels in CUDA C++, compiled for the GPU at hand when a process first needs them.

By NVRTC, a library that torch's CUDA wheels bring along, so that neither a compiler nor the CUDA
toolkit has to be installed. It takes a fraction of a second. The same source gives the same machine
code, and nothing is chosen by timing.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What all kernels here need: a GPU that rounds to bfloat16, that is compute capability 8.0.
_PROBE = r"""
extern "C" __global__ void probe(unsigned int* to, float first, float second) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(*to) : "f"(first), "f"(second));
}
"""

Argument = Tensor | int | float | None


class Kernels:
    """The kernels of one source, on the current GPU."""

    def __init__(self, source: str) -> None:
        """Compile ``source``, in which kernels are ``extern "C"``; raises RuntimeError where it
        cannot be, or there is no NVRTC.
        """
        # The driver works in the context that torch makes.
        torch.cuda.current_stream().synchronize()
        self._driver = _library("libcuda.so.1")
        self._context, self._module = ctypes.c_void_p(), ctypes.c_void_p()
        _good(self._driver.cuCtxGetCurrent(ctypes.byref(self._context)), "finding the context")
        machine_code = _machine_code(source)
        _good(
            self._driver.cuModuleLoadData(ctypes.byref(self._module), machine_code),
            "loading a kernel",
        )
        self._functions: dict[str, ctypes.c_void_p] = {}

    def launch(
        self,
        name: str,
        grid: tuple[int, int],
        block: int,
        *arguments: Argument,
        shared: int = 0,
    ) -> None:
        """Run kernel ``name`` on the current stream, in ``grid`` blocks of ``block`` threads, with
        ``shared`` bytes of shared memory.

        Tensors are given as pointers (None: a null pointer), numbers as int and float.
        """
        # A thread of autograd's may not have entered it yet.
        _good(self._driver.cuCtxSetCurrent(self._context), "entering the context")
        values = [_value(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(
            *(ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in values)
        )
        _good(
            self._driver.cuLaunchKernel(
                self._function(name),
                *(grid[0], grid[1], 1),
                *(block, 1, 1),
                shared,
                ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
                pointers,
                None,
            ),
            f"the kernel {name}",
        )

    def _function(self, name: str) -> ctypes.c_void_p:
        if name not in self._functions:
            function = ctypes.c_void_p()
            _good(
                self._driver.cuModuleGetFunction(
                    ctypes.byref(function), self._module, name.encode()
                ),
                f"the kernel {name}",
            )
            self._functions[name] = function
        return self._functions[name]


@functools.cache
def lacking() -> str:
    """Why no kernel can be compiled for the GPU at hand; "" where they can be."""
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    try:
        Kernels(_PROBE)
    except RuntimeError as error:
        return str(error).splitlines()[0][:200]
    return ""


def _value(argument: Argument) -> Any:
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int(argument) if isinstance(argument, int) else ctypes.c_float(argument)


def _good(result: int, what: str) -> None:
    if result:
        raise RuntimeError(f"{what} failed on the GPU (error {result} of the CUDA driver)")


@functools.cache
def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise RuntimeError(f"{name} cannot be loaded ({error})") from None


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    """NVRTC of torch's own version of CUDA."""
    version = (torch.version.cuda or "0").split(".")[0]
    name = f"libnvrtc.so.{version}"
    # torch finds it beside its other packages, which are not where the system looks.
    for folder in sys.path:
        for found in sorted(Path(folder or ".").glob(f"nvidia/*/lib/{name}")):
            return _library(str(found))
    return _library(name)


def _machine_code(source: str) -> ctypes.Array[ctypes.c_char]:
    """``source`` compiled for the current GPU."""
    nvrtc, program = _nvrtc(), ctypes.c_void_p()
    major, minor = torch.cuda.get_device_capability()
    options = [f"--gpu-architecture=sm_{major}{minor}".encode(), b"--std=c++17"]

    def good(result: int) -> None:
        if result:
            raise RuntimeError(f"a kernel cannot be compiled (error {result} of NVRTC)")

    good(
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None
        )
    )
    try:
        words = (ctypes.c_char_p * len(options))(*options)
        failed = nvrtc.nvrtcCompileProgram(program, len(options), words)
        size = ctypes.c_size_t()
        if failed:
            good(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
            log = ctypes.create_string_buffer(size.value)
            good(nvrtc.nvrtcGetProgramLog(program, log))
            raise RuntimeError(f"a kernel cannot be compiled: {log.value.decode()[:2000]}")
        good(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        machine_code = ctypes.create_string_buffer(size.value)
        good(nvrtc.nvrtcGetCUBIN(program, machine_code))
        return machine_code
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
