"""What is better than what: the one rule by which tables on paper, in the terminal and on the page
set a number in bold.

A number is bold where the 95 % interval of its difference to *every* rival, paired by seed, says
that it is better. So with one seed none is: it cannot say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import JOINT, REFERENCE
from kaizen.evaluation.statistics import Difference, paired_difference
from kaizen.report.series import LOWER_IS_BETTER, Series


def difference(
    a: Series, b: Series, reader: str, metric: str, other_reader: str | None = None
) -> Difference:
    """A metric of series ``a`` read by ``reader`` minus that of ``b``, read by the same or by
    ``other_reader``, paired by seed.
    """
    values = [
        {
            run.point.seed: of_run[read_by][metric]
            for run, of_run in zip(one.runs, one.metrics, strict=True)
        }
        for one, read_by in ((a, reader), (b, other_reader or reader))
    ]
    return paired_difference(values[0], values[1], metric in LOWER_IS_BETTER)


def best_metrics(one: Series, series: Sequence[Series], reader: str) -> list[str]:
    """The metrics in which ``one`` is better than every other of its method; joint training and
    reference rows are no rivals.
    """
    if one.method == REFERENCE or one.variant == JOINT:
        return []
    rivals = [
        other
        for other in series
        if other is not one
        and other.method == one.method
        and other.variant != JOINT
        and reader in other.readers()
    ]
    return [
        metric
        for metric in METRICS
        if _all_clear((difference(one, other, reader, metric) for other in rivals), metric)
    ]


def best_heads(one: Series, heads: Sequence[str]) -> dict[str, str]:
    """Metric -> the head that is better in it than every other of ``heads``, where there is one."""
    present = [head for head in heads if head in one.readers()]
    return {
        metric: head
        for metric in METRICS
        for head in present
        if _all_clear(
            (difference(one, one, head, metric, other) for other in present if other != head),
            metric,
        )
    }


def _all_clear(differences: Iterable[Difference], metric: str) -> bool:
    """Whether there is a difference, and each is an advantage larger than its interval."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    clear = [
        d.mean is not None and d.interval is not None and sign * d.mean > d.interval
        for d in differences
    ]
    return bool(clear) and all(clear)
