"""What a GPU makes of our step: peak, time of each case, share of launches, several processes.

    python -m bench.gpu_probe
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import torch

from bench.cases import RESNET18, SMALL_64, SMALL_256, Case
from bench.ours import OurStep
from kaizen.compute.device import choose_compute
from kaizen.params.registry import SSL_METHODS
from kaizen.training.gradients import Gradients

PAPER = dataclasses.replace(RESNET18, name="resnet18 256+32", batch=256, replay=32, rows=20480)


def timed(step: OurStep, seconds: float) -> float:
    for _ in range(8):
        step()
    torch.cuda.synchronize()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
        count += 5
    return (time.perf_counter() - began) / count


def eager(step: OurStep) -> OurStep:
    inner = step.step
    inner.gradients = Gradients(inner.student, inner.teacher, inner.objective, inner.augment, inner.compute)
    return step


def digest(step: OurStep) -> int:
    total = 0
    for name, tensor in sorted(step.step.student.state_dict().items()):
        raw = tensor.detach().double().cpu().contiguous().flatten().view(torch.uint8).long()
        total = (total * 31 + int((raw.flatten() * (torch.arange(raw.numel()) % 8191 + 1)).sum())) % (1 << 61)
    return total


def peak() -> None:
    for dtype, n in ((torch.bfloat16, 8192), (torch.float32, 8192)):
        a, b = torch.randn(n, n, device="cuda", dtype=dtype), torch.randn(n, n, device="cuda", dtype=dtype)
        for _ in range(5):
            a @ b
        torch.cuda.synchronize()
        t = time.perf_counter()
        for _ in range(20):
            a @ b
        torch.cuda.synchronize()
        print(f"peak {dtype}: {20 * 2 * n**3 / (time.perf_counter() - t) / 1e12:.0f} TFLOP/s", flush=True)


def profile(step: OurStep, name: str) -> None:
    from torch.profiler import ProfilerActivity, profile as prof

    for _ in range(8):
        step()
    torch.cuda.synchronize()
    with prof(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as p:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
    table = p.key_averages()
    total = sum(e.self_device_time_total for e in table if e.device_type.name == "CUDA")
    count = sum(e.count for e in table if e.device_type.name == "CUDA")
    print(f"== {name}: GPU busy {total / 5e3:.2f} ms a step, {count / 5:.0f} kernels", flush=True)
    top = sorted((e for e in table if e.device_type.name == "CUDA"), key=lambda e: -e.self_device_time_total)[:14]
    for e in top:
        print(f"   {e.self_device_time_total / 5e3:7.3f} ms {e.count // 5:4d} {e.key[:95]}", flush=True)


def worker(case: Case, seconds: float) -> None:
    step = OurStep(case, "simclr", choose_compute("cuda", "auto", 1), True)
    print(timed(step, seconds), flush=True)


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        worker({"small64": SMALL_64, "small256": SMALL_256}[sys.argv[2]], 6.0)
        return
    compute = choose_compute("cuda", "auto", 1)
    print(torch.__version__, torch.cuda.get_device_name(), compute.dtype)
    peak()
    for method in SSL_METHODS:
        case = dataclasses.replace(SMALL_64, rows=512)
        digests = []
        for how in (eager, lambda s: s):
            step = how(OurStep(case, method, compute, True))
            for _ in range(14):
                step()
            digests.append(digest(step))
        print(method, "same bits" if digests[0] == digests[1] else f"OTHER BITS {digests}", flush=True)
    for case, method in ((SMALL_64, "simclr"), (SMALL_64, "byol"), (SMALL_256, "simclr"), (PAPER, "simclr"), (PAPER, "byol")):
        for label, how in (("eager", eager), ("recorded", lambda s: s)):
            step = how(OurStep(case, method, compute, True))
            t = timed(step, 2.0)
            print(f"{case.name} {method} {label}: {1e3 * t:.2f} ms a step, {step.images / t:,.0f} images/s", flush=True)
            del step
    import cProfile, pstats
    step = OurStep(SMALL_64, "simclr", compute, True)
    for _ in range(10):
        step()
    torch.cuda.synchronize()
    p = cProfile.Profile()
    p.enable()
    for _ in range(100):
        step()
    p.disable()
    torch.cuda.synchronize()
    pstats.Stats(p).sort_stats("cumulative").print_stats(28)
    step = OurStep(PAPER, "simclr", compute, True)
    images, labels = next(step._batches)
    torch.cuda.synchronize()
    t = time.perf_counter()
    for i in range(20):
        g = torch.Generator().manual_seed(i)
        step.step.augment(images, 0, g), step.step.augment(images, 1, g)
    cpu = time.perf_counter() - t
    torch.cuda.synchronize()
    print(f"two views of 288: {50 * cpu:.2f} ms of the CPU, {50 * (time.perf_counter() - t):.2f} ms in all")
    profile(eager(step), "resnet18 256+32 eager")
    profile(OurStep(SMALL_64, "simclr", compute, True), "small64 recorded")
    for name in ("small64", "small256"):
        for count in (1, 4, 8, 14):
            began = time.perf_counter()
            jobs = [subprocess.Popen([sys.executable, "-m", "bench.gpu_probe", "worker", name], stdout=subprocess.PIPE, text=True) for _ in range(count)]
            times = [float(j.communicate()[0]) for j in jobs]
            rows = {"small64": 72, "small256": 288}[name]
            print(f"{name}, {count} processes: {sum(rows / t for t in times):,.0f} images/s in all, slowest {1e3 * max(times):.2f} ms; {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
