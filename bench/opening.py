"""From files to decoded tensors in memory: our shard, against torchvision's ImageFolder on the same
images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from bench.contest import Contestant
from kaizen.data.schema import ShardRow
from kaizen.data.shards import ShardWriter
from kaizen.files import sha256_file
from kaizen.params import ImageParams
from kaizen.views.decode import load_shard

COUNT, CLASSES, SIDE = 1000, 10, 32
_IMAGE = ImageParams(size=SIDE, load_size=SIDE, channels=3)


@contextmanager
def openers() -> Iterator[list[Contestant]]:
    """The contestants, on 1,000 made-up colour images of 32 x 32: a raw shard with its checksum
    verified, and PNG and JPEG files.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        pixels = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
        shard = folder / "shard.parquet"
        with ShardWriter(
            shard, dataset="bench", part="train", task=0, classes=[], class_names=[]
        ) as writer:
            for index, image in enumerate(pixels):
                label = index % CLASSES
                row = (image.tobytes(), "raw", SIDE, SIDE, 3, label, index, f"train/{index}.png")
                writer.write(ShardRow(*row))
        for suffix in ("png", "jpg"):
            for index, image in enumerate(pixels):
                path = folder / suffix / str(index % CLASSES) / f"{index}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)

        def ours() -> None:
            sha256_file(shard)
            load_shard(shard, _IMAGE)

        def folders(suffix: str) -> None:
            files = ImageFolder(str(folder / suffix), transform=pil_to_tensor)
            torch.stack([image for image, _ in files])

        yield [
            Contestant("ours: shard, hash verified", COUNT, ours),
            Contestant("ImageFolder, PNG", COUNT, lambda: folders("png")),
            Contestant("ImageFolder, JPEG", COUNT, lambda: folders("jpg")),
        ]
