"""What evaluations record besides accuracies: bins of confidence, the most confused images, and
features of kept images, with what they say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from kaizen.errors import KaizenError
from kaizen.evaluation.calibration import (
    BINS,
    binned,
    pooled,
    read_calibration,
    write_calibration,
)
from kaizen.evaluation.confidence import confidences, head_scores, principal_components
from kaizen.evaluation.head_files import StepHeads
from kaizen.evaluation.kept import (
    MOST_KEPT,
    KeptFeatures,
    kept_rows,
    read_features,
    write_features,
)
from kaizen.evaluation.looks import cka, effective_rank, looks_of, rotation
from kaizen.evaluation.mistaken import MOST_IMAGES, MOST_PAIRS, most_mistaken, read_mistaken
from kaizen.evaluation.mistaken import write_mistaken as write_pairs
from kaizen.evaluation.recorded import ShownImages
from kaizen.heads.base import LinearHead
from kaizen.heads.statistics import ClassStatistics

RNG = np.random.default_rng(0)


def images_of(*labels: list[int]) -> ShownImages:
    return ShownImages.of([np.array(part, dtype=np.int64) for part in labels])


# -- calibration -------------------------------------------------------------------------------


def test_the_error_is_the_gap_of_each_bin_weighted_by_its_images() -> None:
    confidence = RNG.uniform(0.1, 1.0, 500)
    right = RNG.random(500) < confidence**2
    expected = 0.0
    for low in np.arange(BINS) / BINS:
        here = (confidence >= low) & (confidence < low + 1 / BINS)
        if here.any():
            expected += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert binned(confidence, right).error == pytest.approx(expected)


def test_a_confidence_of_one_is_in_the_last_bin_and_no_image_is_no_error() -> None:
    bins = binned(np.array([1.0, 0.0]), np.array([True, False]))
    assert bins.images[-1] == 1 and bins.images[0] == 1 and bins.error == 0.0
    assert binned(np.zeros(0), np.zeros(0, dtype=bool)).error is None


def test_bins_are_pooled_by_their_images() -> None:
    confidence, right = RNG.random(90), RNG.random(90) < 0.5
    parts = [binned(confidence[at::3], right[at::3]) for at in range(3)]
    whole = binned(confidence, right)
    assert pooled(parts).images == whole.images and pooled(parts).right == whole.right
    assert pooled(parts).error == pytest.approx(whole.error)


def test_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    steps = [{"classifier": binned(RNG.random(20), RNG.random(20) < 0.5)} for _ in range(2)]
    write_calibration(steps, tmp_path / "calibration.json")
    assert read_calibration(tmp_path / "calibration.json") == tuple(steps)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"steps": 3},
        {"steps": [{"classifier": {"images": [1], "right": [1], "confidence": [1.0]}}]},
        {"steps": [{"lda": {"images": [1] * 15, "right": [2] * 15, "confidence": [0.5] * 15}}]},
        {"steps": [{"lda": {"images": [1] * 15, "right": [1] * 15, "confidence": [1.5] * 15}}]},
        {"steps": [], "more": 1},
    ],
)
def test_another_content_is_no_calibration(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    with pytest.raises(KaizenError, match=r"calibration.json does not hold .* run again"):
        read_calibration(path)


def test_confidence_is_the_largest_softmax_also_of_huge_logits() -> None:
    scores = torch.tensor(RNG.normal(size=(9000, 7)) * 30, dtype=torch.float32)
    expected = scores.double().softmax(1).amax(1).numpy()
    assert np.allclose(confidences(scores), expected, rtol=1e-12)
    assert confidences(torch.tensor([[1e30, 0.0], [-1e30, -1e30]])).tolist() == [1.0, 0.5]
    assert confidences(torch.zeros(0, 3)).shape == (0,)


def test_the_scores_of_a_head_are_those_that_it_predicts_by() -> None:
    weight = torch.tensor(RNG.normal(size=(4, 6)))
    head = LinearHead(torch.tensor([3, 1, 7, 0]), weight, torch.tensor(RNG.normal(size=4)))
    projection = torch.tensor(RNG.normal(size=(5, 6)), dtype=torch.float32)
    heads = StepHeads(ClassStatistics.empty(6), {"lda": head}, projection)
    features = torch.tensor(RNG.normal(size=(50, 5)), dtype=torch.float32)
    chosen = head.classes[head_scores(heads, "lda", features).argmax(1)]
    assert torch.equal(chosen, heads.predict("lda", features))


# -- the most confused images ------------------------------------------------------------------


def test_the_most_confused_pairs_and_the_surest_images() -> None:
    images = images_of([0] * 6 + [1] * 4, [2] * 5)
    predicted = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 2, 2, 0, 0, 1])
    confidence = np.arange(15) / 15
    pairs = most_mistaken(images, predicted, confidence)
    found = [(pair.label, pair.predicted, pair.count) for pair in pairs]
    assert found == [(0, 1, 5), (1, 0, 2), (2, 0, 2), (2, 1, 1)]
    assert [(i.task, i.row) for i in pairs[0].images] == [(0, 5), (0, 4), (0, 3), (0, 2)]
    assert [(i.task, i.row) for i in pairs[2].images] == [(1, 3), (1, 2)]


def test_confused_pairs_are_bounded_and_read_as_written(tmp_path: Path) -> None:
    labels = RNG.integers(0, 30, 4000)
    pairs = most_mistaken(images_of(labels.tolist()), RNG.integers(0, 30, 4000), RNG.random(4000))
    assert len(pairs) == MOST_PAIRS and max(len(p.images) for p in pairs) == MOST_IMAGES
    write_pairs(pairs, tmp_path / "mistaken.json")
    assert read_mistaken(tmp_path / "mistaken.json") == pairs
    content = json.loads((tmp_path / "mistaken.json").read_text())
    content["pairs"][0]["images"][0]["row"] = -1
    (tmp_path / "mistaken.json").write_text(json.dumps(content))
    with pytest.raises(KaizenError, match="the most confused pairs"):
        read_mistaken(tmp_path / "mistaken.json")


# -- kept images -------------------------------------------------------------------------------


def test_as_many_images_of_each_class_of_each_task_are_kept() -> None:
    images = images_of([0] * 100 + [1] * 40, [2] * 100, [0] * 3)
    rows = kept_rows(images, 40)
    pairs, counts = np.unique(
        np.stack([images.task[rows], images.label[rows]]), axis=1, return_counts=True
    )
    assert dict(zip(map(tuple, pairs.T.tolist()), counts.tolist(), strict=True)) == {
        (0, 0): 10, (0, 1): 10, (1, 2): 10, (2, 0): 3,
    }  # fmt: skip
    of_class = rows[(images.task[rows] == 0) & (images.label[rows] == 0)]
    assert of_class.min() < 15 and of_class.max() > 85, "spread over its rows"
    assert len(kept_rows(images_of(list(range(1000))))) == MOST_KEPT
    assert len(kept_rows(images_of([]))) == 0


def test_images_stay_the_same_as_tasks_arrive() -> None:
    tasks = [[2 * t] * 80 + [2 * t + 1] * 70 for t in range(6)]
    before: set[tuple[int, int]] = set()
    for count in range(1, 7):
        images = images_of(*tasks[:count])
        rows = kept_rows(images)
        kept = set(zip(images.task[rows].tolist(), images.row[rows].tolist(), strict=True))
        assert {pair for pair in kept if pair[0] < count - 1} <= before or count == 1
        before = kept


def test_components_keep_all_distances_whatever_the_network() -> None:
    for width in (5, 40, 200):
        features = torch.tensor(RNG.normal(size=(60, width)) + 3.0)
        found = principal_components(features).astype(np.float64)
        assert found.shape == (60, min(59, width))
        centred = (features - features.mean(dim=0)).numpy()
        size = np.sqrt(np.square(centred).sum(1).mean())
        wanted = centred @ centred.T / size**2
        assert np.allclose(found @ found.T, wanted, atol=1e-5)
        variance = np.square(found).sum(0)
        assert (np.diff(variance) < 1e-6).all()


def test_features_that_are_not_finite_or_all_the_same_break_nothing() -> None:
    broken = torch.ones(10, 4)
    broken[3, 2] = torch.nan
    images = images_of([0] * 10)
    nothing = KeptFeatures(images, principal_components(broken))
    same = KeptFeatures(images, principal_components(torch.ones(10, 4)))
    assert nothing.components.shape == (10, 0)
    for look in looks_of([nothing, same, nothing]):
        assert (look.rank, look.likeness, look.explains) == (None, None, None)
        assert (look.points == 0).all()


def test_kept_features_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    images = images_of([0, 1, 1], [2])
    steps = [KeptFeatures(images, RNG.normal(size=(4, 3)).astype(np.float16)) for _ in range(3)]
    write_features(list(enumerate(steps)), path)
    before = path.read_bytes()
    found = read_features(path)
    for one, other in zip(steps, found, strict=True):
        assert np.array_equal(one.components, other.components)
        assert np.array_equal(one.images.row, other.images.row)
    write_features(list(enumerate(steps)), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"step-00": np.zeros((4, 3), dtype=np.float32)},
        {"step-00": np.full((4, 3), np.inf, dtype=np.float16)},
        {"step-00": np.zeros((5, 3), dtype=np.float16)},
        {"step-00": np.zeros((4, 9), dtype=np.float16)},
        {"other": np.zeros(4, dtype=np.float16)},
        {"label": np.zeros(4, dtype=np.int64)},
        {"row": np.full(4, -1, dtype=np.int32)},
        None,
    ],
)
def test_another_content_is_no_kept_features(
    change: dict[str, np.ndarray] | None, tmp_path: Path
) -> None:
    path = tmp_path / "features.safetensors"
    whole: dict[str, np.ndarray] = {
        n: np.zeros(4, dtype=np.int32) for n in ("label", "task", "row")
    }
    whole |= {"step-00": np.zeros((4, 3), dtype=np.float16), **(change or {})}
    path.write_bytes(safetensors.numpy.save(whole) if change else b"\x08" + b"\xff" * 20)
    with pytest.raises(KaizenError, match="features of kept images"):
        read_features(path)


# -- what they say -----------------------------------------------------------------------------


def test_the_effective_rank_counts_directions() -> None:
    assert effective_rank(np.array([4.0, 4.0, 4.0, 0.0])) == pytest.approx(3.0)
    assert effective_rank(np.array([1.0])) == pytest.approx(1.0)
    assert effective_rank(np.zeros(4)) is None


def test_cka_is_one_for_a_turn_and_about_zero_for_strangers() -> None:
    x = RNG.normal(size=(300, 64))
    turn, _ = np.linalg.qr(RNG.normal(size=(64, 64)))
    assert cka(x, 5 * x @ turn + 2) == pytest.approx(1.0)
    # Fewer images than features: the biased estimate says 0.7 here.
    few = [RNG.normal(size=(100, 400)) for _ in range(2)]
    strangers = cka(*few)
    assert strangers is not None and abs(strangers) < 0.05
    assert cka(x[:3], x[:3]) is None and cka(x, np.zeros((300, 2))) is None


def test_cka_is_that_of_the_formula() -> None:
    """Song et al., equation 5, as sums over four different images."""
    x, y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        places = [
            (i, j, q, r)
            for i in range(6) for j in range(6) for q in range(6) for r in range(6)
            if len({i, j, q, r}) == 4
        ]  # fmt: skip
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in places]
        return float(np.mean(terms))

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert cka(x, y) == pytest.approx(expected)


@pytest.mark.parametrize("mirrored", [False, True])
def test_maps_are_turned_and_mirrored_onto_each_other(mirrored: bool) -> None:
    points = RNG.normal(size=(50, 2))
    angle = 2.1
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([1, -1 if mirrored else 1])
    noisy = points @ turn + 0.01 * RNG.normal(size=(50, 2))
    found = rotation(noisy, points)
    assert np.allclose(found @ found.T, np.eye(2))
    assert np.allclose(noisy @ found, points, atol=0.1)
    u, _, vt = np.linalg.svd(noisy.T @ points)
    assert np.allclose(found, u @ vt)


def test_steps_are_compared_on_the_images_that_both_have() -> None:
    first = images_of([0] * 40)
    both = images_of([0] * 40, [1] * 40)
    features = RNG.normal(size=(80, 20))
    looks = looks_of(
        [
            KeptFeatures(first, principal_components(torch.tensor(features[:40]))),
            KeptFeatures(both, principal_components(torch.tensor(features))),
        ]
    )
    assert looks[0].likeness is None and looks[1].likeness == pytest.approx(1.0, abs=1e-4)
    assert np.sum(looks[1].points[:40] * looks[0].points) > 0


def test_test_images_without_a_label_are_kept_and_stand_for_no_class(tmp_path: Path) -> None:
    images = images_of([0, -1, 1], [-1])
    pairs = most_mistaken(images, np.array([1, 0, 1, 0]), np.ones(4))
    assert [(pair.label, pair.predicted) for pair in pairs] == [(0, 1)]
    kept = KeptFeatures(images, np.ones((4, 2), dtype=np.float32))
    write_features([(0, kept)], tmp_path / "features.safetensors")
    (found,) = read_features(tmp_path / "features.safetensors")
    assert found.images.label.tolist() == [0, -1, 1, -1]
