"""Parameters of the data: sources, splits, labels, replay, and what the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kaizen.params.base import (
    STRICT,
    Count,
    Field,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    Seed,
    doc,
    section,
)
from kaizen.params.registry import REPLAY_POLICIES, SOURCES

# Checked by kaizen/params/validation.py, so that a source or policy needs no second list here; the
# schema names them.
SourceName = Annotated[str, Field(json_schema_extra={"enum": list(SOURCES)})]
PolicyName = Annotated[str, Field(json_schema_extra={"enum": list(REPLAY_POLICIES)})]


@dataclass(frozen=True)
class SyntheticParams:
    """The made-up images of the source `synthetic`."""

    __pydantic_config__ = STRICT

    classes: Count = doc("number of classes", 10)
    train: Count = doc("training images per class", 100)
    test: Count = doc("test images per class", 20)
    size: Annotated[int, Field(ge=4, le=1024)] = doc("side of an image, in pixels", 32)
    channels: Literal[1, 3] = doc("1 greyscale, 3 colour", 3)


@dataclass(frozen=True)
class DatasetParams:
    """Where the raw images come from and how they are stored in shards."""

    __pydantic_config__ = STRICT

    source: SourceName = doc("the data source, a file of kaizen/data/sources/", "digits")
    path: str | None = doc(
        "folder of the images, laid out as docs/data.md says; cifar10, cifar100, stl10: the "
        "archive or its folder, "
        "null: downloaded",
        None,
    )
    classes: list[str] | str | None = doc(
        "sources of image files: only these classes, as a list, `imagenet100`, or a text file with "
        "one a line",
        None,
    )
    unlabelled: bool = doc("stl10: add the unlabelled images to the training images", False)
    synthetic: SyntheticParams = section(SyntheticParams)
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = doc(
        "digits: held-out share of every class", 0.2
    )
    seed: Seed = doc(
        "digits: which images are held out; synthetic: what the images are made from", 0
    )
    on_corrupt: Literal["stop", "skip"] = doc(
        "an unreadable image stops the ingestion, or is skipped and counted", "stop"
    )
    encoding: Literal["auto", "raw", "file"] = doc(
        "store decoded pixels (raw), the original file's bytes (file), or raw up to raw_limit "
        "bytes (auto)",
        "auto",
    )
    raw_limit: Count = doc(
        "encoding auto: an image of at most so many bytes of pixels is stored raw", 16384
    )
    bit_depth: Annotated[int, Field(ge=8, le=16)] | None = doc(
        "bits of grey pixels that files store in 16 without saying how many they are, as cameras' "
        "12; null: 16, and files with values below 4096 only are refused",
        None,
    )
    resize: Count | None = doc(
        "larger images are shrunk to this many pixels on the shorter side when ingested; null: "
        "kept as they are",
        None,
    )
    compression: Literal["none", "zstd"] = doc(
        "compression of the shards' pages; zstd saved 2 % on CIFAR-10", "none"
    )
    row_group_mb: Positive = doc(
        "size of a shard's row group in MB: the unit in which shards stream", 16.0
    )


@dataclass(frozen=True)
class SplitParams:
    """How the dataset is divided into a stream of tasks."""

    __pydantic_config__ = STRICT

    tasks: Count = doc(
        "number of tasks, which must divide the number of classes; or of parts; lists of sizes or "
        "names replace it",
        5,
    )
    seed: Seed = doc(
        "order of the classes (torch.randperm's, fidelity.md §1) or domains; by data: the parts", 5
    )
    by: Literal["class", "data", "domain"] = doc(
        "a task is some of the classes, a part of every class's images, or a domain of the source",
        "class",
    )
    sizes: Annotated[list[Count], Field(min_length=1)] | None = doc(
        "by class: how many classes each task has; classes beyond their sum are left out", None
    )
    classes: (
        Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=1)] | None
    ) = doc("by class: the names of each task's classes; classes not named are left out", None)
    domains: Annotated[list[str], Field(min_length=1)] | None = doc(
        "by domain: the tasks' domains in order; null: all domains", None
    )
    order: Literal["shuffled", "given"] = doc(
        "classes or domains in the order of the seed or of the dataset; lists of names are their "
        "own order",
        "shuffled",
    )


@dataclass(frozen=True)
class LabelsParams:
    """How many of the training images keep their label."""

    __pydantic_config__ = STRICT

    fraction: Probability = doc(
        "share of every class that keeps its label; the others are stored as -1", 1.0
    )
    seed: Seed = doc("which images keep it; smaller fractions are nested in larger ones", 0)


@dataclass(frozen=True)
class ReplayParams:
    """The small memory of earlier tasks' images."""

    __pydantic_config__ = STRICT

    policy: PolicyName = doc(
        "which images: the first of each class in dataset order (the reference, fidelity.md §7), "
        "random ones of each "
        "class, a random sample of the stream, or of each class those whose mean feature follows "
        "the class mean; "
        "files of kaizen/data/replay/",
        "first_n",
    )
    proportion: list[Probability] | None = doc(
        "sizes to try: shares of each class of the earlier tasks", [0.1]
    )
    per_class: list[NonNegativeInt] | None = doc("sizes to try instead: images of each class", None)
    memory: list[NonNegativeInt] | None = doc(
        "sizes to try instead: images in all, divided over tasks and classes", None
    )
    seed: Seed = doc("balanced_random, reservoir: which images are drawn", 0)

    def sizes(self) -> dict[str, list[float]]:
        """The sizes that are given by unit: proportion, per_class or memory; valid parameters have
        one unit.
        """
        units = {"proportion": self.proportion, "per_class": self.per_class, "memory": self.memory}
        return {unit: list(sizes) for unit, sizes in units.items() if sizes is not None}


@dataclass(frozen=True)
class ImageParams:
    """What the network sees."""

    __pydantic_config__ = STRICT

    size: Annotated[int, Field(ge=4, le=1024)] = doc("side of the network's input, in pixels", 16)
    load_size: Annotated[int, Field(ge=4, le=2048)] | None = doc(
        "shorter side resized and centre cropped to this when an image is decoded; null: as "
        "stored, all of one size",
        None,
    )
    test_crop: Fraction = doc(
        "side of the centre that is shown in evaluation, as a share of the image's (ImageNet: "
        "0.875 of 256 pixels)",
        1.0,
    )
    channels: Literal[1, 3] = doc("1 greyscale, 3 colour; images are converted", 1)
    drop_colour: bool = doc(
        "channels 1: train on colour images in grey; false: they are refused", False
    )
    mean: list[float] = doc("mean per channel, of pixels in 0..1", [0.305])
    std: list[Positive] = doc("standard deviation per channel", [0.376])


@dataclass(frozen=True)
class JitterParams:
    """Colour jitter, as torchvision's."""

    __pydantic_config__ = STRICT

    probability: Probability = doc("probability that a view is jittered", 0.0)
    brightness: NonNegative = doc("factor drawn from 1 +- this", 0.4)
    contrast: NonNegative = doc("factor drawn from 1 +- this", 0.4)
    saturation: NonNegative = doc("factor drawn from 1 +- this", 0.2)
    hue: Annotated[float, Field(ge=0, le=0.5)] = doc("shift drawn from +- this, in turns", 0.1)


@dataclass(frozen=True)
class AugmentParams:
    """The random views (fidelity.md §8); two-element lists hold view 1's and view 2's value."""

    __pydantic_config__ = STRICT

    crop_scale: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = doc(
        "share of the area a crop keeps", [0.3, 1.0]
    )
    crop_ratio: Annotated[list[Positive], Field(min_length=2, max_length=2)] = doc(
        "aspect ratio of a crop", [0.75, 1.3333]
    )
    flip: Probability = doc("probability of a horizontal flip", 0.0)
    jitter: JitterParams = section(JitterParams)
    greyscale: Probability = doc("probability of greyscale", 0.0)
    blur: Annotated[list[Probability], Field(min_length=2, max_length=2)] = doc(
        "probability of Gaussian blur, per view", [0.0, 0.0]
    )
    blur_sigma: Annotated[list[Positive], Field(min_length=2, max_length=2)] = doc(
        "range of the blur's sigma, in pixels", [0.1, 2.0]
    )
    solarize: Annotated[list[Probability], Field(min_length=2, max_length=2)] = doc(
        "probability of solarising (threshold 128), per view", [0.0, 0.0]
    )
