"""What the steps of a grid were really trained on, for the report: facts, not parameters."""

from __future__ import annotations

from collections.abc import Sequence

from kaizen.plan.point import Point, size_text
from kaizen.report.markdown import table
from kaizen.report.series import VARIANT_LABELS, method_label
from kaizen.training.facts import StepFacts


def trained_on(
    points: Sequence[Point], facts: Sequence[Sequence[tuple[StepFacts, list[str]]]]
) -> str:
    """A table with a row per method, variant and replay size, ranges over steps (and seeds), and a
    line for everything that is otherwise than the parameters say.

    ``points`` are the summary's runs, ``facts`` for each its steps' facts with their warnings.
    """
    series: dict[tuple[str, str], list[StepFacts]] = {}
    warnings: dict[str, list[str]] = {}
    for point, steps in zip(points, facts, strict=True):
        label = VARIANT_LABELS.get(point.variant, point.variant)
        if point.prototypes:
            label += ", prototypes"
        elif point.replay_size is not None:
            label += f", {size_text(point.replay_size, point.replay_unit)} replay"
        name = (method_label(point.method), label)
        series.setdefault(name, []).extend(one for one, _ in steps)
        for number, (_, sentences) in enumerate(steps):
            for sentence in sentences:
                places = warnings.setdefault(sentence, [])
                place = f"{name[0]} {label} step {number}"
                if place not in places:
                    places.append(place)
    rows = []
    for (method, label), steps_of in series.items():
        replayed = [one for one in steps_of if one.replay_rows]
        rows.append(
            [
                method,
                label,
                _range([one.rows for one in steps_of]),
                _range([one.labelled for one in steps_of]),
                _range([one.replay_rows for one in replayed]),
                _range([one.batch_size for one in steps_of]),
                _range([one.replay_batch_size for one in replayed]),
                _range([float(f"{one.lr:.4g}") for one in steps_of]),
            ]
        )
    head = ["Method", "Variant", "Images", "Labelled", "Replay images"]
    head += ["Batch", "of replay", "Learning rate"]
    text = (
        "Per step, as counted by the steps themselves; a range where steps differ. Replay from "
        "step 1 on.\n\n" + table(head, rows, "lrrrrrr")
    )
    lines = [
        f"- {sentence} ({', '.join(places[:3])}{' and others' if len(places) > 3 else ''}).\n"
        for sentence, places in warnings.items()
    ]
    return text + (f"\n**Otherwise than the parameters say:**\n\n{''.join(lines)}" if lines else "")


def _range(values: Sequence[float]) -> str:
    """The smallest and the largest value, one number where they are equal, 0 of none."""
    low, high = (min(values), max(values)) if values else (0, 0)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
