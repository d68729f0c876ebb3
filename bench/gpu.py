"""Our training step on a GPU: recorded and not, its bits, its share of the peak, several processes.

    python -m bench.gpu
    python -m bench.gpu --encoder   # the encoder by itself, deterministic or not, compiled or not
    python -m bench.gpu --compiled  # a step with torch.compile in place of our kernels
    python -m bench.gpu --profile   # which kernels a step's time goes to

Needs torch alone. Where there is no GPU it says so and ends with 2.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from bench.cases import RESNET18, SMALL_64, SMALL_256, Case
from bench.ours import OurStep
from kaizen.compute.device import Compute, choose_compute
from kaizen.params.registry import SSL_METHODS
from kaizen.training.gradients import Gradients
from kaizen.training.resume import digest

PAPER = dataclasses.replace(
    RESNET18, name="resnet18-256", batch=256, replay=32, rows=20480, gflop=RESNET18.gflop * 16
)
_TIMED = (
    (SMALL_64, "simclr"),
    (SMALL_64, "byol"),
    (SMALL_256, "simclr"),
    (PAPER, "simclr"),
    (PAPER, "byol"),
)


def milliseconds(step: Callable[[], None], seconds: float) -> float:
    """Of one batch, on average over ``seconds``, after a few that warm up."""
    for _ in range(8):
        step()
    torch.cuda.synchronize()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(20):
            step()
        torch.cuda.synchronize()
        done += 20
    return 1e3 * (time.perf_counter() - began) / done


def unrecorded(step: OurStep) -> OurStep:
    """The same step without CUDA graphs."""
    inner = step.step
    inner.gradients = Gradients(
        inner.student, inner.teacher, inner.objective, inner.augment, inner.compute
    )
    inner.take_step = inner.optimizer.step
    return step


def same_bits(method: str, prototypes: bool = False) -> bool:
    """Whether a recording gives every tensor of the model the bits of the same operations computed
    one by one, after 14 batches; ten of them are replayed.
    """
    case = dataclasses.replace(SMALL_64, rows=512)
    states = []
    for recorded in (True, False):
        step = OurStep(case, method, choose_compute("cuda", "auto", 1), True, prototypes)
        if not recorded:
            # On a GPU both have it.
            step.step.gradients.record = False  # type: ignore[union-attr]
            step.step.take_step.record = False  # type: ignore[attr-defined]
        for _ in range(14):
            step()
        states.append(step.step.student.state_dict())
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def peak(dtype: torch.dtype, side: int = 8192) -> float:
    """TFLOP/s of a matrix product [side, side] @ [side, side]."""
    first, second = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(5):
        first @ second
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        first @ second
    torch.cuda.synchronize()
    return 20 * 2e-12 * side**3 / (time.perf_counter() - began)


def several(case: Case, count: int) -> str:
    """What ``count`` processes reach together on one GPU."""
    words = [sys.executable, "-m", "bench.gpu", "--worker", case.name]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    times = [float(process.communicate()[0].split()[-1]) for process in running]
    rows = case.batch + case.replay
    together = sum(1e3 * rows / one for one in times)
    return f"{case.name}, {count} processes: {together:,.0f} images/s in all"


def encoder_alone(compute: Compute, images: int = 576) -> None:
    """Print the time of the forward and backward pass of ResNet-18 by itself, recorded: as in a
    step, of torch's operators, with any algorithm of cuDNN, and compiled.
    """
    # Products and sums of one image, forward, and twice as many backward.
    work = 3 * 2 * 0.556e-3 * images
    shape = (images, 3, 32, 32)
    batch = torch.randn(shape, device="cuda").contiguous(memory_format=torch.channels_last)

    def timed(label: str, fused: bool, prepared: Callable[[nn.Module], nn.Module]) -> None:
        step = OurStep(PAPER, "simclr", compute, True, fused=fused).step
        taken = milliseconds(_recorded_pass(prepared(step.student.encoder), batch, compute), 1.0)
        print(f"{label}: {taken:.2f} ms, {work / taken * 1e3:.0f} TFLOP/s", flush=True)

    timed("as in a step", True, lambda encoder: encoder)
    timed("torch's operators", False, lambda encoder: encoder)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    timed("any algorithm, the fastest searched", False, lambda encoder: encoder)
    timed("the same, compiled", False, lambda encoder: cast("nn.Module", torch.compile(encoder)))


def compiled_step(compute: Compute, batches: int = 30) -> None:
    """Print time and bits of the paper's step with its encoder compiled by torch.compile, which is
    told to choose nothing by timing, instead of our kernels.
    """
    import torch._inductor.config as inductor

    inductor.deterministic = True
    inductor.max_autotune = inductor.coordinate_descent_tuning = False
    began = time.perf_counter()
    step = OurStep(PAPER, "simclr", compute, True, fused=False)
    step.step.student.encoder.compile(dynamic=False)
    step()
    torch.cuda.synchronize()
    print(f"first batch after {time.perf_counter() - began:.1f} s")
    for _ in range(batches - 1):
        step()
    state = digest(step.step.student.state_dict(), "")
    print(f"after {batches} batches {state[:16]}; {milliseconds(step, 1.5):.2f} ms a step")


def profile(compute: Compute, batches: int = 10, rows: int = 25) -> None:
    """Print the kernels of the paper's step by the time they take, with and without ours."""
    for fused in (False, True):
        step = OurStep(PAPER, "simclr", compute, True, fused=fused)
        print(f"{'our' if fused else 'torch'} kernels: {milliseconds(step, 1.5):.2f} ms a step")
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            for _ in range(batches):
                step()
            torch.cuda.synchronize()
        kernels = seen.key_averages()
        kernels = sorted(kernels, key=lambda kernel: -kernel.self_device_time_total)
        busy = sum(kernel.self_device_time_total for kernel in kernels)
        print(f"busy {busy / batches / 1e3:.2f} ms, the first {rows} kernels:")
        for kernel in kernels[:rows]:
            taken = kernel.self_device_time_total / batches / 1e3
            print(f"{taken:8.3f} ms {kernel.count / batches:6.1f} x  {kernel.key[:140]}")


def _recorded_pass(
    encoder: Callable[[Tensor], Tensor], batch: Tensor, compute: Compute
) -> Callable[[], None]:
    """The pass as a CUDA graph."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def work() -> None:
        with compute.autocast():
            features = encoder(batch)
        features.float().square().mean().backward()

    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph, stream=stream):
        work()
    return graph.replay


def time_steps(case: Case, method: str, compute: Compute, rate: float) -> None:
    """Print the time of a step in three ways; ``rate`` is the peak, in TFLOP/s."""
    kinds = (("not recorded", True), ("recorded", True), ("recorded, torch's kernels", False))
    for label, fused in kinds:
        step = OurStep(case, method, compute, True, fused=fused)
        if label == "not recorded":
            step = unrecorded(step)
        taken = milliseconds(step, 2.0)
        share = case.gflop / taken / rate
        print(
            f"{case.name}, {method}, {label}: {taken:.2f} ms a step, "
            f"{1e3 * step.images / taken:,.0f} images/s, {share:.1%} of the peak",
            flush=True,
        )


def main(arguments: list[str]) -> int:
    """Print a line for each measurement."""
    if not torch.cuda.is_available():
        print("bench.gpu: torch sees no GPU on this machine", file=sys.stderr)
        return 2
    compute = choose_compute("cuda", "auto", 1)
    if arguments[:1] == ["--worker"]:
        case = next(one for one, _ in _TIMED if one.name == arguments[1])
        print(milliseconds(OurStep(case, "simclr", compute, True), 6.0))
        return 0
    others = {"--encoder": encoder_alone, "--compiled": compiled_step, "--profile": profile}
    if arguments and arguments[0] in others:
        others[arguments[0]](compute)
        return 0
    rate = peak(torch.bfloat16)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {compute.dtype}")
    print(f"matrix product: bfloat16 {rate:.0f}, tf32 {peak(torch.float32):.0f} TFLOP/s")
    for method in SSL_METHODS:
        print(f"{method}: recorded and not, the bits are {_same(same_bits(method))}", flush=True)
    for case, method in _TIMED:
        time_steps(case, method, compute, rate)
    for case in (SMALL_256, PAPER):
        print(_against_lightly(case), flush=True)
    for case in (SMALL_64, SMALL_256):
        for count in (1, 4, 8):
            print(several(case, count), flush=True)
    return 0


def _against_lightly(case: Case, workers: int = 14) -> str:
    """Our step 0 of SimCLR and lightly's recipe, each by itself."""
    ours = OurStep(case, "simclr", choose_compute("cuda", "auto", 1), False)
    mine = 1e3 * ours.images / milliseconds(ours, 4.0)
    try:
        from bench.lightly_recipes import LightlyStep
    except ModuleNotFoundError as error:
        return f"{case.name}, step 0: {mine:,.0f} images/s; lightly is not here ({error})"
    torch.set_deterministic_debug_mode("default")
    lightly = LightlyStep(case, "simclr", "cuda", workers)
    theirs = 1e3 * lightly.images / milliseconds(lightly, 8.0)
    return (
        f"{case.name}, step 0, simclr: {mine:,.0f} images/s, lightly with {workers} loading "
        f"processes {theirs:,.0f}: x{mine / theirs:.1f}"
    )


def _same(equal: bool) -> str:
    return "the same" if equal else "NOT the same"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
