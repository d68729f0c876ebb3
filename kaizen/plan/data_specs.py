"""What decides the content of the shards: the dataset, the split and the labels, each without the
parameters that have no effect. Those are not set here, so no key holds them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kaizen.data.found import Found
from kaizen.params import (
    DatasetParams,
    LabelsParams,
    SplitParams,
    SyntheticParams,
    from_dict,
    registry,
)
from kaizen.params.typed import UNSET, Unset, to_dict


@dataclass(frozen=True)
class DatasetSpec:
    """What decides the images' content. Where they lie does not, and chosen classes are known by
    name. What is not set the source does not read, or has no effect with the others.
    """

    source: str
    on_corrupt: Literal["stop", "skip"]
    resize: int | None
    row_group_mb: float
    encoding: Literal["auto", "raw", "file"] | Unset = UNSET
    raw_limit: int | Unset = UNSET
    bit_depth: int | Unset | None = UNSET
    compression: Literal["none", "zstd"] | Unset = UNSET
    unlabelled: bool | Unset = UNSET
    synthetic: SyntheticParams | Unset = UNSET
    test_fraction: float | Unset = UNSET
    seed: int | Unset = UNSET

    @classmethod
    def of(cls, dataset: DatasetParams, held_out: bool = False) -> DatasetSpec:
        """The parameters that have an effect; ``held_out``: the data have no test part."""
        source = registry.SOURCES[dataset.source]
        reads = source.reads + (source.reads_to_hold_out if held_out else ())
        left_out = {"path", "classes", *registry.SOURCE_PARAMETERS} - (set(reads) - {"classes"})
        if dataset.encoding != "auto":
            left_out = left_out | {"raw_limit"}
        return cls(**{name: value for name, value in vars(dataset).items() if name not in left_out})

    def content(self) -> DatasetSpec:
        """The same without how a shard is stored, which is no part of a shard's identity."""
        return replace(self, compression=UNSET)


@dataclass(frozen=True)
class SplitSpec:
    """What decides what the tasks hold."""

    by: Literal["class", "data", "domain", "arrival"]
    tasks: int | Unset = UNSET
    seed: int | Unset = UNSET
    sizes: list[int] | Unset = UNSET
    classes: list[list[str]] | Unset = UNSET
    domains: list[str] | Unset = UNSET
    order: Literal["shuffled", "given"] | Unset = UNSET

    @classmethod
    def of(cls, split: SplitParams, unlabelled: bool) -> SplitSpec:
        """The parameters that have an effect.

        ``unlabelled``: the dataset has images without a class, which the seed spreads over the
        tasks.
        """
        if split.by == "data":
            names = ["tasks", "seed"]
        else:
            listed = ("sizes", "classes") if split.by == "class" else ("domains",)
            given = [name for name in listed if getattr(split, name) is not None]
            names = given or (["tasks"] if split.by == "class" else [])
            if given not in (["classes"], ["domains"]):
                names = [*names, "order"]
            if unlabelled or ("order" in names and split.order == "shuffled"):
                names = [*names, "seed"]
        return cls(split.by, **{name: getattr(split, name) for name in names})


@dataclass(frozen=True)
class LabelsSpec:
    """What decides which labels are kept: the seed only where there is a choice."""

    fraction: float
    seed: int | Unset = UNSET

    @classmethod
    def of(cls, labels: LabelsParams) -> LabelsSpec:
        """The parameters that have an effect."""
        chosen = labels.fraction not in (0.0, 1.0)
        return cls(labels.fraction, labels.seed if chosen else UNSET)


@dataclass(frozen=True)
class ShardsSpec:
    """The task shards of a stream.

    ``classes`` are the names of all classes in label order. ``found`` is what the source left out
    (`kaizen.data.sources.base.Source.found`): tasks.json holds it, and steps do not depend on it.
    ``task`` is the one task that they are of, where each has shards of its own; ``test_only``: its
    training images were given up.
    """

    dataset: DatasetSpec
    split: SplitSpec
    labels: LabelsSpec
    classes: list[str]
    found: Found
    task: int | None = None
    test_only: bool | None = None

    def dataset_params(self, path: str | None, classes: list[str] | str | None) -> DatasetParams:
        """The dataset, which lies at ``path``; parameters that its source does not read have their
        defaults.
        """
        return from_dict(DatasetParams, to_dict(self.dataset) | {"path": path, "classes": classes})

    def split_params(self) -> SplitParams:
        """How the stream is split; parameters without effect have their defaults."""
        return from_dict(SplitParams, to_dict(self.split))

    def labels_params(self) -> LabelsParams:
        """Which labels are kept."""
        return from_dict(LabelsParams, to_dict(self.labels))


@dataclass(frozen=True)
class DataFacts:
    """How the images were read and labelled, for the data card."""

    dataset: DatasetSpec
    labels: LabelsSpec
