"""Paired differences between variants, and joint training in tables and figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up import THREE, grid, histories
from scipy import stats

from kaizen.evaluation.results import READERS, Reference, RunResult
from kaizen.params.registry import ANALYTIC_HEADS
from kaizen.report import tables
from kaizen.report.differences import difference_rows, differences_markdown
from kaizen.report.figures.grid import Grid
from kaizen.report.figures.rows import ROWS
from kaizen.report.series import group
from kaizen.report.winners import best_heads, best_metrics

HEADS = ("classifier", *ANALYTIC_HEADS)
FOUR = (("joint", 0.99), *THREE)


def find(rows: Sequence[tables.Row], **values: Any) -> tables.Row:
    """The only row with these values."""
    (row,) = [row for row in rows if all(row[name] == value for name, value in values.items())]
    return row


def values(
    runs: Sequence[RunResult],
    references: Sequence[Reference],
    variant: str,
    reader: str,
    metric: str,
    size: float | None = None,
) -> dict[int, float]:
    """A metric's value per seed of SimCLR's runs."""
    (one,) = [
        one
        for one in group(runs, references)
        if (one.method, one.variant, one.replay_size) == ("simclr", variant, size)
    ]
    found = {}
    for run, of_run in zip(one.runs, one.metrics, strict=True):
        value = of_run[reader][metric]
        assert value is not None
        found[run.point.seed] = value
    return found


def test_every_pair_of_a_methods_series_is_compared_at_the_same_seeds() -> None:
    runs, references = grid(("simclr", "byol"), THREE, (0, 1, 2, 3), (0.05, 0.1))
    kept = [run for run in runs if (run.point.variant, run.point.seed) != ("cassle", 2)]
    rows = difference_rows(group(kept, references))
    pairs = list(
        itertools.combinations(
            [("kaizen", 0.05), ("kaizen", 0.1), ("cassle", None), ("no_distill", None)], 2
        )
    )
    sides = ("variant_a", "replay_size_a", "variant_b", "replay_size_b")
    assert list(dict.fromkeys(tuple(row[s] for s in sides) for row in rows)) == [
        a + b for a, b in pairs
    ]
    # A forward transfer of the probe exists for two of the readers.
    assert len(rows) == 2 * len(pairs) * (5 * len(READERS) + 2)
    for metric, better in (("final_accuracy", 1), ("forgetting", -1)):
        about = {
            "method": "simclr",
            "variant_a": "kaizen",
            "replay_size_a": 0.1,
            "variant_b": "cassle",
        }
        row = find(rows, **about, reader="knn", metric=metric)
        a = values(kept, references, "kaizen", "knn", metric, 0.1)
        b = values(kept, references, "cassle", "knn", metric)
        test = stats.ttest_rel([a[seed] for seed in (0, 1, 3)], [b[seed] for seed in (0, 1, 3)])
        low, high = test.confidence_interval(0.95)
        assert (row["n"], row["replay_unit_b"]) == (3, None)
        assert (row["mean"] - row["interval"], row["mean"] + row["interval"]) == pytest.approx(
            (low, high), rel=1e-5
        )
        assert row["better_a"] == sum(better * (a[seed] - b[seed]) > 0 for seed in (0, 1, 3)) > 0


def test_the_table_compares_kaizen_with_the_other_variants() -> None:
    runs, references = grid(("simclr", "byol"), FOUR, (0, 1, 2))
    series = group(runs, references)
    lines = [line.split(" | ") for line in differences_markdown(series).splitlines()]
    assert lines[0] == ["| Method", "Difference", "CA", "FA", "F", "FT |"]
    others = ["CaSSLe", "No distillation", "Joint training"]
    assert [line[:2] for line in lines[2:]] == [
        [f"| {m}", f"Kaizen − {o}"] for m in ("SimCLR", "BYOL") for o in others
    ]
    row = find(difference_rows(series), method="simclr", variant_a="kaizen", variant_b="cassle",
               reader="classifier", metric="forgetting")  # fmt: skip
    assert lines[2][4] == f"**−{-100 * row['mean']:.1f} ± {100 * row['interval']:.1f}** (3/3)"
    assert lines[4][4] == tables.ABSENT
    assert lines[4][2].startswith("**−") and lines[4][2].endswith("(0/3)")


def test_one_seed_has_differences_without_an_interval() -> None:
    runs, references = grid(variants=THREE)
    series = group(runs, references)
    assert {(row["interval"], row["n"]) for row in difference_rows(series)} == {(None, 1)}
    ca = [
        np.diff(
            [values(runs, references, v, "classifier", "continual_accuracy", s)[0] for v, s in pair]
        )[0]
        for pair in ((("cassle", None), ("kaizen", 0.1)), (("no_distill", None), ("kaizen", 0.1)))
    ]
    cells = [line.split(" | ")[2] for line in differences_markdown(series).splitlines()[2:]]
    assert cells == [f"+{100 * difference:.1f}" for difference in ca]


def test_a_single_series_and_a_grid_without_kaizen_have_no_table() -> None:
    runs, references = grid()
    assert difference_rows(group(runs, references)) == []
    assert differences_markdown(group(runs, references)) == ""
    runs, references = grid(variants=THREE[1:])
    assert differences_markdown(group(runs, references)) == ""
    assert difference_rows(group(runs, references))


def test_joint_training_comes_last_and_is_no_rival() -> None:
    runs, references = grid(variants=FOUR, seeds=(0, 1))
    series = group(runs, references)
    assert [one.variant for one in series] == ["kaizen", "cassle", "no_distill", "joint"]
    metrics = tables.nested(series)
    rows = tables.cells(
        metrics["simclr"], "classifier", ["final_accuracy", "forgetting", "backward_transfer"]
    )
    assert list(rows) == [one.key for one in series]
    assert [text for text, _ in rows["joint"]][1:] == [tables.ABSENT, tables.ABSENT]
    assert not any(best for _, best in rows["joint"])
    means = {key: metrics["simclr"][key]["classifier"]["final_accuracy"]["mean"] for key in rows}
    assert max(means, key=lambda key: means[key]) == "joint" and rows["kaizen"][0][1]
    assert tables.headline(metrics)["simclr"]["joint"].keys() == {
        *("CA", "FA", "FT"),
        *ANALYTIC_HEADS,
    }


def test_joint_training_has_no_loss_terms_over_the_stream() -> None:
    runs, references = grid(variants=FOUR)
    shown = Grid(
        series=tuple(group(runs, references)), references=(), classes=None,
        histories=histories(runs),
    )  # fmt: skip
    _, make = ROWS["losses"]
    found = {shown.series[row[0]].variant for row in make(shown, 0)}
    assert found == {"kaizen", "cassle", "no_distill"}


def test_best_is_what_every_paired_difference_says() -> None:
    runs, references = grid(("simclr", "byol"), FOUR, (0, 1, 2), (0.1,))
    series = group(runs, references)
    found: dict[str, set[str]] = {}
    for one in (one for one in series if one.method == "simclr" and one.variant != "joint"):
        mine = found[one.variant] = set()
        for metric in ("continual_accuracy", "final_accuracy", "forgetting"):
            sign = -1 if metric == "forgetting" else 1
            rivals = [name for name, _ in THREE if name != one.variant]
            own = values(runs, references, one.variant, "classifier", metric, one.replay_size)
            lows = []
            for name in rivals:
                size = 0.1 if name == "kaizen" else None
                theirs = values(runs, references, name, "classifier", metric, size)
                apart = [sign * (own[seed] - theirs[seed]) for seed in own]
                lows.append(stats.ttest_1samp(apart, 0).confidence_interval(0.95).low)
            if min(lows) > 0:
                mine.add(metric)
        assert mine == set(best_metrics(one, series, "classifier")) & {
            "continual_accuracy",
            "final_accuracy",
            "forgetting",
        }
    assert {"final_accuracy", "forgetting"} <= found["kaizen"] and not found["no_distill"]
    joint = next(one for one in series if one.variant == "joint")
    assert best_metrics(joint, series, "classifier") == []


def test_with_one_seed_or_nothing_to_compare_with_nothing_is_best() -> None:
    for variants, seeds in ((THREE, (0,)), (THREE[:1], (0, 1, 2))):
        series = group(*grid(("simclr",), variants, seeds, (0.1,)))
        assert [best_metrics(one, series, "classifier") for one in series] == [[]] * len(variants)


def test_the_best_head_is_better_than_every_other_at_the_same_seeds() -> None:
    runs, references = grid(("simclr",), THREE[:1], (0, 1, 2), (0.1,))
    (same,) = group(runs, references)
    assert best_heads(same, HEADS) == {}
    raised = [
        replace(
            run,
            matrices={
                **run.matrices,
                "lda": [
                    [min(1.0, (value or 0.0) + 0.05 + 0.001 * run.point.seed) for value in row]
                    for row in run.matrices["lda"]
                ],
            },
        )
        for run in runs
    ]
    (better,) = group(raised, references)
    found = best_heads(better, HEADS)
    assert found["final_accuracy"] == found["continual_accuracy"] == "lda"
    assert best_heads(better, ["classifier", "ncm"]) == {}
