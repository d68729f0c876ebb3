"""Parameters of the data: sources, splits, labels, replay, and what the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from kaizen.params.base import (
    Count,
    Field,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    Seed,
    doc,
    parameters,
    section,
)
from kaizen.params.registry import REPLAY_POLICIES, SOURCES

# Checked by kaizen/params/checks.py, so that a source or policy needs no second list here; the
# schema names them.
SourceName = Annotated[str, Field(json_schema_extra={"enum": list(SOURCES)})]
PolicyName = Annotated[str, Field(json_schema_extra={"enum": list(REPLAY_POLICIES)})]

# Replay sizes are shares of each class, images of each class, or images in all. The last stands in
# a unit's place for pseudo-features, which have no size.
ReplayUnit = Literal["proportion", "per_class", "memory", "prototypes"]

# Beyond these a pixel divided by it, or what it is in the network, is no float32 any more; one
# level in one pixel of 100,000 has a larger one.
LEAST_DEVIATION = 1e-5
Deviation = Annotated[float, Field(ge=LEAST_DEVIATION, le=1e5)]


@parameters
class SyntheticParams:
    """The made-up images of the source `synthetic`."""

    classes: Count = doc(10, "number of classes")
    train: Count = doc(100, "training images per class")
    test: Count = doc(20, "test images per class")
    size: Annotated[int, Field(ge=4, le=1024)] = doc(32, "side of an image, in pixels")
    channels: Literal[1, 3] = doc(3, "1 greyscale, 3 colour")


@parameters
class DatasetParams:
    """Where the raw images come from and how they are stored in shards."""

    source: SourceName = doc("digits", "the data source, a file of kaizen/data/sources/")
    path: str | None = doc(
        None,
        "folder of the images, laid out as docs/data.md says; cifar10, cifar100, stl10: the "
        "archive or its folder, null: downloaded",
    )
    classes: list[str] | str | None = doc(
        None,
        "sources of image files: only these classes, as a list, `imagenet100`, or a text file with "
        "one a line",
    )
    unlabelled: bool = doc(False, "stl10: add the unlabelled images to the training images")
    synthetic: SyntheticParams = section(SyntheticParams)
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = doc(
        0.2,
        "share of every class that is held out for testing: of digits, and of image_folder where "
        "it has no test part",
    )
    seed: Seed = doc(
        0, "which images are held out for testing; synthetic: what the images are made from"
    )
    on_corrupt: Literal["stop", "skip"] = doc(
        "stop", "an unreadable image stops the ingestion, or is skipped and counted"
    )
    encoding: Literal["auto", "raw", "file"] = doc(
        "auto",
        "store decoded pixels (raw), the original file's bytes (file), or raw up to raw_limit "
        "bytes (auto)",
    )
    raw_limit: Count = doc(
        16384, "encoding auto: an image of at most so many bytes of pixels is stored raw"
    )
    bit_depth: Annotated[int, Field(ge=8, le=16)] | None = doc(
        None,
        "bits of grey pixels that files store in 16 without saying how many they are, as cameras' "
        "12; null: 16, and files with values below 4096 only are refused",
    )
    resize: Count | None = doc(
        None,
        "larger images are shrunk to this many pixels on the shorter side when ingested; null: "
        "kept as they are",
    )
    compression: Literal["none", "zstd"] = doc(
        "none", "compression of the shards' pages; zstd saved 2 % on CIFAR-10"
    )
    row_group_mb: Positive = doc(
        16.0, "size of a shard's row group in MB: the unit in which shards stream"
    )


@parameters
class SplitParams:
    """How the dataset is divided into a stream of tasks."""

    tasks: Count = doc(
        5,
        "number of tasks, which must divide the number of classes; or of parts; lists of sizes or "
        "names replace it",
    )
    seed: Seed = doc(
        5, "order of the classes (torch.randperm's, fidelity.md §1) or domains; by data: the parts"
    )
    by: Literal["class", "data", "domain"] = doc(
        "class",
        "a task is some of the classes, a part of every class's images, or a domain of the source",
    )
    sizes: Annotated[list[Count], Field(min_length=1)] | None = doc(
        None, "by class: how many classes each task has; classes beyond their sum are left out"
    )
    classes: (
        Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=1)] | None
    ) = doc(None, "by class: the names of each task's classes; classes not named are left out")
    domains: Annotated[list[str], Field(min_length=1)] | None = doc(
        None, "by domain: the tasks' domains in order; null: all domains"
    )
    order: Literal["shuffled", "given"] = doc(
        "shuffled",
        "classes or domains in the order of the seed or of the dataset; lists of names are their "
        "own order",
    )


@parameters
class LabelsParams:
    """How many of the training images keep their label."""

    fraction: Probability = doc(
        1.0, "share of every class that keeps its label; the others are stored as -1"
    )
    seed: Seed = doc(0, "which images keep it; smaller fractions are nested in larger ones")


@parameters
class ReplayParams:
    """The small memory of earlier tasks' images."""

    policy: PolicyName = doc(
        "first_n",
        "which images: the first of each class in dataset order (the reference, fidelity.md §7), "
        "random ones of each class, a random sample of the stream, or of each class those whose "
        "mean feature follows the class mean (files of kaizen/data/replay/); or prototypes: none, "
        "but pseudo-features of the classes' statistics (docs/heads.md), all sizes null",
    )
    proportion: list[Probability] | None = doc(
        [0.1], "sizes to try: shares of each class of the earlier tasks"
    )
    per_class: list[NonNegativeInt] | None = doc(None, "sizes to try instead: images of each class")
    memory: list[NonNegativeInt] | None = doc(
        None, "sizes to try instead: images in all, divided over tasks and classes"
    )
    seed: Seed = doc(0, "balanced_random, reservoir: which images are drawn")

    def sizes(self) -> dict[ReplayUnit, list[float]]:
        """The sizes that are given by unit: proportion, per_class or memory; valid parameters have
        one unit.
        """
        units: dict[ReplayUnit, Sequence[float] | None] = {
            "proportion": self.proportion,
            "per_class": self.per_class,
            "memory": self.memory,
        }
        return {unit: list(sizes) for unit, sizes in units.items() if sizes is not None}


@parameters
class ImageParams:
    """What the network sees."""

    size: Annotated[int, Field(ge=4, le=1024)] = doc(16, "side of the network's input, in pixels")
    load_size: Annotated[int, Field(ge=4, le=2048)] | None = doc(
        None,
        "shorter side resized and centre cropped to this when an image is decoded; null: as "
        "stored, all of one size",
    )
    channels: Literal[1, 3] = doc(1, "1 greyscale, 3 colour; images are converted")
    mean: list[Probability] = doc([0.305], "mean per channel, of pixels in 0..1")
    std: list[Deviation] = doc([0.376], "standard deviation per channel, of pixels in 0..1")


@parameters
class InputParams(ImageParams):
    """What the network sees, in evaluation too, and what may be lost on the way."""

    test_crop: Fraction = doc(
        1.0,
        "side of the centre that is shown in evaluation, as a share of the image's (ImageNet: "
        "0.875 of 256 pixels)",
    )
    drop_colour: bool = doc(
        False, "channels 1: train on colour images in grey; false: they are refused"
    )


@parameters
class JitterParams:
    """Colour jitter, as torchvision's."""

    probability: Probability = doc(0.0, "probability that a view is jittered")
    brightness: NonNegative = doc(0.4, "factor drawn from 1 +- this")
    contrast: NonNegative = doc(0.4, "factor drawn from 1 +- this")
    saturation: NonNegative = doc(0.2, "factor drawn from 1 +- this")
    hue: Annotated[float, Field(ge=0, le=0.5)] = doc(0.1, "shift drawn from +- this, in turns")


@parameters
class AugmentParams:
    """The random views (fidelity.md §8); two-element lists hold view 1's and view 2's value."""

    crop_scale: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = doc(
        [0.3, 1.0], "share of the area a crop keeps"
    )
    crop_ratio: Annotated[list[Positive], Field(min_length=2, max_length=2)] = doc(
        [0.75, 1.3333], "aspect ratio of a crop"
    )
    flip: Probability = doc(0.0, "probability of a horizontal flip")
    jitter: JitterParams = section(JitterParams)
    greyscale: Probability = doc(0.0, "probability of greyscale")
    blur: Annotated[list[Probability], Field(min_length=2, max_length=2)] = doc(
        [0.0, 0.0], "probability of Gaussian blur, per view"
    )
    blur_sigma: Annotated[list[Positive], Field(min_length=2, max_length=2)] = doc(
        [0.1, 2.0], "range of the blur's sigma, in pixels"
    )
    solarize: Annotated[list[Probability], Field(min_length=2, max_length=2)] = doc(
        [0.0, 0.0], "probability of solarising (threshold 128), per view"
    )
