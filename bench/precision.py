"""Forward and backward pass in float32 and bfloat16, channels-last, one thread, interleaved.

    python bench/precision.py

Prints milliseconds, minimum and 10th percentile: on a throttled machine means and medians mislead.
"""

from __future__ import annotations

import time

import torch

from kaizen.compute.device import choose_compute
from kaizen.models.backbone import build_backbone
from kaizen.params import ModelParams

# backbone, width, images, channels, side, repetitions
CASES = [
    ("small_resnet", 8, 64, 1, 16, 60),
    ("small_resnet", 16, 64, 1, 16, 60),
    ("small_resnet", 16, 64, 3, 32, 30),
    ("small_resnet", 32, 64, 3, 32, 15),
    ("resnet18", 16, 8, 3, 32, 10),
]


def main() -> None:
    """Print a line per case."""
    computes = {name: choose_compute("cpu", name, 1) for name in ("float32", "bfloat16")}
    for backbone, width, images, channels, side, repetitions in CASES:
        network = build_backbone(ModelParams(backbone=backbone, width=width), channels)
        network = computes["float32"].place(network)
        inputs = torch.randn(images, channels, side, side).contiguous(
            memory_format=torch.channels_last
        )
        times: dict[str, list[float]] = {name: [] for name in computes}
        for _ in range(repetitions):
            for name, compute in computes.items():
                began = time.perf_counter()
                with compute.autocast():
                    features = network(inputs)
                features.float().sum().backward()
                times[name].append(1e3 * (time.perf_counter() - began))
        texts = [
            f"{name} {min(t):.1f} / {sorted(t)[len(t) // 10]:.1f}" for name, t in times.items()
        ]
        ratio = min(times["float32"]) / min(times["bfloat16"])
        print(
            f"{backbone} width {width}, {images} images {channels}x{side}x{side}: "
            f"{', '.join(texts)} ms, x{ratio:.2f}"
        )


if __name__ == "__main__":
    main()
