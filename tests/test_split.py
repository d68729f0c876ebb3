from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import golden_reference

from kaizen.data.labels import labelled
from kaizen.data.split import class_tasks, deal, make_stream, seeded_order
from kaizen.errors import KaizenError
from kaizen.params import SplitParams

FIXED_ORDER = [6, 4, 2, 7, 5, 1, 0, 3]


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 97, 100, 256, 1000])
@pytest.mark.parametrize("seed", [0, 1, 5, 1993, 2**31 - 1])
def test_class_order_equals_torchs_randperm(classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    expected = torch.randperm(classes, generator=generator).tolist()
    assert class_tasks(classes, 1, seed) == [expected]
    assert class_tasks(classes, classes, seed) == [[label] for label in expected]


def test_tasks_equal_torchs_chunks() -> None:
    torch.manual_seed(5)
    expected = [chunk.tolist() for chunk in torch.randperm(100).chunk(5)]
    assert class_tasks(100, 5, 5) == expected


def test_tasks_equal_the_reference() -> None:
    assert class_tasks(100, 5, 5) == golden_reference("class_tasks")["tasks"]


def test_a_number_of_tasks_that_does_not_divide_the_classes_is_refused() -> None:
    with pytest.raises(
        KaizenError, match=r"split\.tasks: 7 does not divide the 10 classes .*choose 1, 2, 5 or 10 "
    ):
        class_tasks(10, 7, 0)
    with pytest.raises(KaizenError, match=r"split\.tasks: 2 .* 1 classes.*choose 1 "):
        class_tasks(1, 2, 0)


NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]


def test_unequal_tasks_are_cut_from_the_same_order_as_equal_ones() -> None:
    order = class_tasks(10, 1, 5)[0]
    assert make_stream(SplitParams(), NAMES).classes == class_tasks(10, 5, 5)
    assert make_stream(SplitParams(sizes=[4, 3, 1, 2]), NAMES).classes == [
        order[:4],
        order[4:7],
        order[7:8],
        order[8:],
    ]
    assert make_stream(SplitParams(sizes=[2] * 5), NAMES) == make_stream(SplitParams(), NAMES)
    # Not all classes need a task; one appended leaves those before it.
    fewer, more = (
        make_stream(SplitParams(sizes=sizes), NAMES).classes for sizes in ([3, 2], [3, 2, 4])
    )
    assert more[:2] == fewer == [order[:3], order[3:5]]
    with pytest.raises(
        KaizenError, match=r"split\.sizes: \[6, 5\] takes 11 classes, and there are 10"
    ):
        make_stream(SplitParams(sizes=[6, 5]), NAMES)


def test_the_given_order_is_the_datasets() -> None:
    assert make_stream(SplitParams(order="given"), NAMES).classes == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8, 9],
    ]
    assert make_stream(SplitParams(order="given", sizes=[1, 3]), NAMES).classes == [[0], [1, 2, 3]]


def test_classes_can_be_listed_by_name() -> None:
    stream = make_stream(SplitParams(classes=[["gnu", "bee"], ["ant"]]), NAMES)
    assert (stream.by, stream.classes, len(stream)) == ("class", [[6, 1], [0]], 2)
    with pytest.raises(
        KaizenError, match=r"split\.classes: 'bea' is not in the dataset; did you mean 'bee'"
    ):
        make_stream(SplitParams(classes=[["bea"]]), NAMES)
    with pytest.raises(KaizenError, match=r"'zz' is not in the dataset; it has ant, bee"):
        make_stream(SplitParams(classes=[["zz"]]), NAMES)


def test_a_split_by_data_gives_every_task_all_classes() -> None:
    stream = make_stream(SplitParams(3, by="data"), NAMES)
    assert (stream.by, stream.classes, stream.domains) == ("data", [list(range(10))] * 3, [])


DOMAINS = ["clipart", "quickdraw", "real", "sketch"]


def test_domains_come_listed_given_or_shuffled() -> None:
    def domains(known: list[str] = DOMAINS, **options: Any) -> list[str]:
        stream = make_stream(SplitParams(by="domain", **options), NAMES, known)
        assert stream.classes == [list(range(10))] * len(stream.domains)
        return [known[position] for position in stream.domains]

    assert domains(domains=["sketch", "real"]) == ["sketch", "real"]
    assert domains(order="given") == DOMAINS
    shuffled = domains()
    assert sorted(shuffled) == DOMAINS == sorted(domains(seed=6))
    assert len({tuple(domains(seed=seed)) for seed in range(20)}) > 5
    # A domain less leaves the order of the others.
    assert domains([name for name in DOMAINS if name != "quickdraw"]) == [
        n for n in shuffled if n != "quickdraw"
    ]
    with pytest.raises(
        KaizenError,
        match=r"split\.domains: 'cliparts' is not in the dataset; did you mean 'clipart'",
    ):
        domains(domains=["cliparts"])
    with pytest.raises(
        KaizenError, match=r"split\.by: domain needs a source with domains, as .*domain_folder"
    ):
        domains([])


@pytest.mark.parametrize("count", [1, 4, 10, 103])
def test_dealt_parts_are_disjoint_and_of_equal_size(count: int) -> None:
    totals = np.zeros(4, dtype=int)
    for label in range(12):
        tasks = deal(count, 4, 7, "train", label)
        sizes = np.bincount(tasks, minlength=4)
        assert sizes.sum() == count and sizes.max() - sizes.min() <= 1
        totals += sizes
    # What division leaves over does not pile up in one task.
    assert totals.max() == totals.min()


def test_dealing_depends_on_seed_part_and_class() -> None:
    one = deal(400, 4, 7, "train", 0)
    assert one.tolist() == deal(400, 4, 7, "train", 0).tolist()
    for other in (
        deal(400, 4, 8, "train", 0),
        deal(400, 4, 7, "test", 0),
        deal(400, 4, 7, "train", 4),
    ):
        assert 0.6 < (one != other).mean() < 0.9
    # Neighbours are no more often together than chance has it.
    assert 0.15 < (one[1:] == one[:-1]).mean() < 0.35


def test_seeded_order_is_a_permutation_of_its_own_seed_and_purpose() -> None:
    order = seeded_order(1000, 3, "a", 1)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() == seeded_order(1000, 3, "a", 1).tolist()
    others = [
        seeded_order(1000, 4, "a", 1),
        seeded_order(1000, 3, "b", 1),
        seeded_order(1000, 3, "a", 2),
    ]
    assert all((order != other).mean() > 0.9 for other in others)
    # Fixed for all versions of NumPy: shards made by one are read by plans of another.
    assert seeded_order(8, 0, "fixed").tolist() == FIXED_ORDER


def test_each_class_keeps_exactly_its_share_of_labels() -> None:
    labels = np.repeat([0, 1, 2, 3], [1, 7, 30, 100])
    for fraction in (0.0, 0.001, 0.1, 0.29, 0.5, 1.0):
        kept = labelled(labels, fraction, seed=4)
        for label, count in ((0, 1), (1, 7), (2, 30), (3, 100)):
            # Rational arithmetic: 0.1 * 30 is 3, though floating point says a little more.
            thousandths = round(fraction * 1000)
            assert kept[labels == label].sum() == math.ceil(thousandths * count / 1000)


def test_smaller_fractions_are_nested_and_seeds_differ() -> None:
    labels = np.arange(600) % 3
    masks = [labelled(labels, fraction, seed=1) for fraction in (0.01, 0.1, 0.35, 0.8)]
    for smaller, larger in itertools.pairwise(masks):
        assert (larger | ~smaller).all()
    assert (labelled(labels, 0.35, seed=2) != masks[2]).any()


def test_a_class_keeps_its_choice_when_another_changes() -> None:
    before = labelled([0] * 50 + [1] * 50, 0.3, seed=0)
    after = labelled([0] * 80 + [1] * 50, 0.3, seed=0)
    assert before[50:].tolist() == after[80:].tolist()
    assert before[:50].tolist() != before[50:].tolist()
