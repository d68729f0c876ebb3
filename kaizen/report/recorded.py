"""Tidy tables of what evaluations record besides accuracies: calibration, and what features say."""

from __future__ import annotations

from collections.abc import Sequence

from kaizen.evaluation.statistics import Estimate, estimate
from kaizen.report.series import HEAD_SHORT, Series, method_label
from kaizen.report.tables import Row, cell, markdown_line


def calibration_rows(series: Sequence[Series]) -> list[Row]:
    """One row per series, seed, reader and step: the expected calibration error (0..1) on the test
    images of the tasks seen so far, and their number.
    """
    return [
        {
            **one.columns(), "seed": run.point.seed, "reader": reader, "step": step,
            "images": sum(bins.images), "calibration_error": bins.error,
        }
        for one in series
        for run in one.runs
        for step, by_reader in enumerate(run.calibration)
        for reader, bins in by_reader.items()
    ]  # fmt: skip


def reliability_rows(series: Sequence[Series]) -> list[Row]:
    """One row per series, seed, reader and bin of confidence that has images, after the last step:
    their number, their accuracy and their mean confidence (0..1).
    """
    return [
        {
            **one.columns(), "seed": run.point.seed, "reader": reader, "bin": place,
            "images": images, "accuracy": right / images, "confidence": confidence / images,
        }
        for one in series
        for run in one.runs
        for reader, bins in (run.calibration[-1] if run.calibration else {}).items()
        for place, (images, right, confidence) in enumerate(
            zip(bins.images, bins.right, bins.confidence, strict=True)
        )
        if images
    ]  # fmt: skip


def feature_rows(series: Sequence[Series]) -> list[Row]:
    """One row per series, seed and step: the effective rank of the kept images' features, how alike
    they are to those of the step before (CKA, 1: the same), and the number of images.
    """
    return [
        {
            **one.columns(), "seed": run.point.seed, "step": step,
            "images": len(look.images.task), "effective_rank": look.rank,
            "cka_to_step_before": look.likeness,
        }
        for one in series
        for run in one.runs
        for step, look in enumerate(run.looks)
    ]  # fmt: skip


def calibration_errors(one: Series, reader: str) -> list[Estimate]:
    """The expected calibration error of a reader after each step, mean over the seeds; none where
    it is not recorded.
    """
    if not all(run.calibration and reader in run.calibration[-1] for run in one.runs):
        return []
    by_run = [[step.get(reader) for step in run.calibration] for run in one.runs]
    steps = zip(*by_run, strict=True)
    return [estimate([None if bins is None else bins.error for bins in step]) for step in steps]


def calibration_markdown(series: Sequence[Series]) -> str:
    """The expected calibration error of each head after the last step, a row per series; empty
    where none is recorded.
    """
    rows = [
        (one, {r: e for r in HEAD_SHORT if (e := calibration_errors(one, r))}) for one in series
    ]
    heads = [reader for reader in HEAD_SHORT if any(reader in found for _, found in rows)]
    if not heads:
        return ""
    names = [f"ECE, {HEAD_SHORT[reader]}" for reader in heads]
    lines = [markdown_line(["Method", "Variant", *names])]
    lines.append(markdown_line(["---", "---", *["---:"] * len(heads)]))
    for one, found in rows:
        last = [found[reader][-1] if reader in found else estimate([]) for reader in heads]
        texts = [cell({"mean": e.mean, "interval": e.interval}) for e in last]
        lines.append(markdown_line([method_label(one.method), one.label, *texts]))
    return (
        "The expected calibration error after the last step, in percentage points; lower is "
        "better.\n\n" + "\n".join(lines) + "\n"
    )
