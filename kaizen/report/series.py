"""The lines of a table and the bars of a figure: one series per method x variant x replay size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kaizen.errors import KaizenError
from kaizen.evaluation.metrics import METRICS, run_metrics, seen_accuracy
from kaizen.evaluation.results import JOINT, READERS, REFERENCE, Reference, RunResult
from kaizen.evaluation.statistics import Estimate, estimate
from kaizen.params.registry import ANALYTIC_HEADS, SUPERVISED
from kaizen.plan.point import PROTOTYPES, size_text

METHOD_LABELS = {
    "simclr": "SimCLR",
    "mocov2plus": "MoCoV2+",
    "byol": "BYOL",
    "vicreg": "VICReg",
    "barlow_twins": "Barlow Twins",
    "simsiam": "SimSiam",
    "swav": "SwAV",
    "nnclr": "NNCLR",
    "dino": "DINO",
    SUPERVISED: "Supervised",
    REFERENCE: "Reference",
}
VARIANT_LABELS = {
    "kaizen": "Kaizen",
    "kaizen_no_replay": "Kaizen without replay",
    "cassle": "CaSSLe",
    "no_distill": "No distillation",
    JOINT: "Joint training",
    SUPERVISED: "Supervised",
}
READER_LABELS = {
    "classifier": "Trained classifier",
    "ncm": "Nearest class mean (analytic head)",
    "lda": "Linear discriminant analysis (analytic head)",
    "ridge": "Ridge regression (analytic head)",
    "linear_probe": "Linear probe, labels of all tasks",
    "linear_probe_seen": "Linear probe, labels of the tasks seen",
    "knn": "k nearest neighbours, labels of all tasks",
}
# The heads in one word, for places where the reader's label is too long.
HEAD_SHORT = {"classifier": "trained", **{kind: kind for kind in ANALYTIC_HEADS}}
METRIC_LABELS = dict(
    zip(
        METRICS,
        (
            "Continual accuracy",
            "Final accuracy",
            "Forgetting",
            "Forward transfer",
            "Forward transfer of the probe",
            "Backward transfer",
        ),
        strict=True,
    )
)
METRIC_SHORT = dict(zip(METRICS, ("CA", "FA", "F", "FT", "FT probe", "BWT"), strict=True))
# The paper's four, for places where all are too many: the terminal, DVC's columns, differences.
HEADLINE = ("continual_accuracy", "final_accuracy", "forgetting", "forward_transfer")
LOWER_IS_BETTER = frozenset({"forgetting"})

# Okabe and Ito's palette for the known variants, then Tol's muted colours: told apart by the
# colour-blind.
_COLOURS = {
    "kaizen": "#0072B2",
    "kaizen_no_replay": "#CC79A7",
    "cassle": "#E69F00",
    "no_distill": "#7F7F7F",
    JOINT: "#009E73",
    SUPERVISED: "#D55E00",
}
_FURTHER_COLOURS = (
    "#56B4E9",
    "#332288",
    "#DDCC77",
    "#882255",
    "#44AA99",
    "#117733",
    "#AA4499",
    "#000000",
)
_PALEST = 0.62  # share of white in the colour of a variant's smallest replay size


@dataclass(frozen=True)
class Series:
    """The runs (one per seed) of one method, variant and replay size, with their metrics.

    ``key`` names it within its method ("kaizen", or "kaizen_replay_5%" where the grid has several
    sizes); ``metrics`` holds run_metrics of each run; ``colour`` is the same for every method.
    """

    method: str
    variant: str
    replay_size: float | int | None
    replay_unit: str
    key: str
    label: str
    colour: str
    runs: tuple[RunResult, ...]
    metrics: tuple[dict[str, dict[str, float | None]], ...]

    @property
    def identity(self) -> tuple[str, str, float | int | None, str]:
        """What its runs have in common, as `Point.series`."""
        return (self.method, self.variant, self.replay_size, self.replay_unit)

    def readers(self) -> list[str]:
        """The readers that every seed has, in READERS' order."""
        return [reader for reader in READERS if all(reader in run.matrices for run in self.runs)]

    def estimate(self, reader: str, metric: str) -> Estimate:
        """Mean and interval of a metric over the seeds."""
        return estimate([values[reader][metric] for values in self.metrics])

    def mean_matrix(self, reader: str) -> list[list[float | None]]:
        """The accuracy matrix, mean over seeds: T x T, 0..1; None where nothing was measured."""
        matrices = [run.matrices[reader] for run in self.runs]
        steps = range(self.runs[0].tasks)
        return [
            [estimate([matrix[t][i] for matrix in matrices]).mean for i in steps] for t in steps
        ]

    def seen(self, reader: str) -> list[Estimate]:
        """Per step, the mean accuracy over the tasks seen so far."""
        per_seed = [seen_accuracy(run.matrices[reader]) for run in self.runs]
        return [estimate(list(values)) for values in zip(*per_seed, strict=True)]

    def columns(self) -> dict[str, Any]:
        """What identifies the series in a tidy table."""
        return {
            "method": self.method,
            "variant": self.variant,
            "replay_size": None if self.replay_size is None else float(self.replay_size),
            "replay_unit": self.replay_unit
            if self.replay_size is not None or self.replay_unit == PROTOTYPES
            else None,
        }


def method_label(method: str) -> str:
    """A method's name as papers write it; an unknown one's own name."""
    return METHOD_LABELS.get(method, method)


def metric_label(metric: str) -> str:
    """A metric's name with its abbreviation."""
    return f"{METRIC_LABELS[metric]} ({METRIC_SHORT[metric]})"


def _replay_label(size: float | int, unit: str) -> str:
    """A replay size as part of a series' label."""
    written = size_text(size, unit)
    return (
        f"{written} replay" if unit == "proportion" else written.replace("images", "replay images")
    )


def group(runs: Sequence[RunResult], references: Sequence[Reference]) -> list[Series]:
    """Group runs into series: methods and variants ordered as in the grid, joint training last,
    sizes and seeds ascending.

    Raises KaizenError where there is no run, a run or reference appears twice, a run lacks the
    classifier's matrix, or runs differ in their number of tasks.
    """
    if not runs:
        raise KaizenError(
            "the summary has no runs; give grid.methods, grid.variants and grid.seeds at least "
            "one value each"
        )
    by_reference = _unique({(r.method, r.seed): r for r in references}, references, "reference")
    unique = _unique({r.point: r for r in runs}, runs, "run")
    for run in unique.values():
        if "classifier" not in run.matrices or run.tasks != runs[0].tasks:
            raise KaizenError(
                f"run {run.point.name} has {run.tasks} tasks and the readers "
                f"{', '.join(run.matrices)}; every run of a summary needs the classifier's matrix "
                f"and {runs[0].tasks} tasks: evaluate it again with the present parameters"
            )
    methods = list(dict.fromkeys(run.point.method for run in runs))
    variants = sorted(
        dict.fromkeys(run.point.variant for run in runs), key=lambda variant: variant == JOINT
    )
    colours = _variant_colours(variants)
    series = []
    for method in methods:
        for variant in variants:
            sizes = _sizes(run for run in runs if run.point.variant == variant)
            for rank, (size, unit) in enumerate(sizes):
                wanted = (method, variant, size, unit)
                of_series = [run for run in runs if run.point.series == wanted]
                of_series.sort(key=lambda run: run.point.seed)
                if not of_series:
                    continue
                key, label = variant, VARIANT_LABELS.get(variant, variant)
                if unit == PROTOTYPES:
                    key, label = f"{variant}_{PROTOTYPES}", f"{label}, {PROTOTYPES}"
                elif len(sizes) > 1 and size is not None:
                    written = size_text(size, unit)
                    key, label = (
                        f"{variant}_replay_{written.replace(' ', '')}",
                        f"{label}, {_replay_label(size, unit)}",
                    )
                paleness = _PALEST * (1 - rank / (len(sizes) - 1)) if len(sizes) > 1 else 0.0
                series.append(
                    Series(
                        method,
                        variant,
                        size,
                        unit,
                        key,
                        label,
                        _mix_white(colours[variant], paleness),
                        tuple(of_series),
                        tuple(
                            run_metrics(run, by_reference.get((run.point.method, run.point.seed)))
                            for run in of_series
                        ),
                    )
                )
    return series


def _unique(by_identity: dict[Any, Any], items: Sequence[Any], what: str) -> dict[Any, Any]:
    """``by_identity`` itself; raises KaizenError where ``items`` held one identity twice."""
    if len(by_identity) < len(items):
        raise KaizenError(
            f"{len(items) - len(by_identity)} {what}s of the summary appear twice (same method, "
            "variant, replay size and seed); list each variant, size and seed once under `grid` "
            "and `replay`"
        )
    return by_identity


def _sizes(runs: Any) -> list[tuple[float | int | None, str]]:
    """The distinct replay sizes of a variant's runs, ascending, no replay first."""
    sizes = dict.fromkeys((run.point.replay_size, run.point.replay_unit) for run in runs)
    return sorted(sizes, key=lambda size: (size[1], size[0] is not None, size[0] or 0))


def known_colours() -> tuple[list[str], list[str]]:
    """The known variants' labels, and their colours followed by those for others."""
    return [VARIANT_LABELS[variant] for variant in _COLOURS], [
        *_COLOURS.values(),
        *_FURTHER_COLOURS,
    ]


def _variant_colours(variants: Sequence[str]) -> dict[str, str]:
    """One colour per variant: fixed for the known ones, in the grid's order for others."""
    unknown = [variant for variant in variants if variant not in _COLOURS]
    further = {
        name: _FURTHER_COLOURS[rank % len(_FURTHER_COLOURS)] for rank, name in enumerate(unknown)
    }
    return {**_COLOURS, **further}


def _mix_white(colour: str, share: float) -> str:
    """``colour`` (#rrggbb) with ``share`` (0..1) of white mixed in."""
    parts = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02X}" for part in parts)
