"""How long nodes will take, from what finished ones took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import commit_fake, make_plan

from kaizen.files import write_json
from kaizen.jobs.estimate import Left, duration, time_left
from kaizen.jobs.hindsight import mostly_unknown, off_so_far
from kaizen.jobs.learn import learn
from kaizen.jobs.times import Sample, Times, Workload, off_by, sample_of, workload_of
from kaizen.plan.job import Job
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.store import Store

PLAN = make_plan({"grid.variants": ["kaizen", "no_distill"], "grid.specialists": False})
JOBS = [node.job() for node in PLAN.nodes.values()]
IMAGES = [100, 200, 100, 100, 400]
STEPS: list[Job[Any]] = [job for job in JOBS if job.id.kind is Kind.STEP]


def work(size: float, *alike: str) -> Workload:
    return Workload(Kind.STEP, (*alike, ""), size)


def made(seconds: float, training: float | None = None, began: float = 0.0) -> dict[str, Any]:
    record = {"seconds": seconds, "began": began}
    return record if training is None else {**record, "training_seconds": training}


def test_time_grows_with_size_and_loading_does_not() -> None:
    times = Times()
    sample = sample_of(work(100), made(15.0, training=10.0))
    assert sample == Sample(work(100), 5.0, 10.0, 0.0) and sample.ended == 15.0
    times.add(sample)
    assert times.estimate(work(300)) == pytest.approx(35.0)


def test_the_most_alike_count_and_others_where_there_are_none() -> None:
    times = Times()
    for size, seconds, alike in ((10, 10.0, "a"), (10, 12.0, "a"), (10, 50.0, "b")):
        times.add(Sample(work(size, alike), 0.0, seconds))
    assert times.estimate(work(20, "a")) == pytest.approx(22.0)
    assert times.estimate(work(20, "b")) == pytest.approx(100.0)
    assert times.estimate(work(20, "c")) == pytest.approx(24.0)
    assert times.estimate(Workload(Kind.SUMMARY, ("",), 1.0)) is None


def test_the_error_is_what_four_of_five_kept_to_as_each_was_estimated_when_it_began() -> None:
    times = Times()
    # The first is estimated from none, the next as 10, the last as 10 instead of 20.
    for place, seconds in enumerate((10.0, 10.0, 10.0, 10.0, 20.0)):
        assert times.error(Kind.STEP) == (1.0 if place < 4 else 0.0)
        times.add(Sample(work(1), 0.0, seconds, began=100.0 * place))
    assert times.error(Kind.STEP) == pytest.approx(1.0)
    # What ended later does not count, whatever was added before.
    times.add(Sample(work(1), 0.0, 10.0, began=5.0))
    assert times.error(Kind.STEP) == pytest.approx(1.0)
    for began in (600.0, 700.0):
        times.add(Sample(work(1), 0.0, 10.0, began))
    assert times.error(Kind.STEP) == pytest.approx(0.0)
    # Half as long is as wrong as twice as long.
    assert off_by(5.0, 10.0) == off_by(20.0, 10.0) == pytest.approx(1.0)


def test_without_times_of_the_day_the_error_is_not_known() -> None:
    times = Times()
    for _ in range(9):
        times.add(Sample(work(1), 0.0, 10.0))
    assert times.error(Kind.STEP) == 1.0 == times.error(Kind.SUMMARY)


def test_a_step_half_way_teaches_before_any_has_finished() -> None:
    times = Times()
    half_way = Sample(work(100), 0.0, 30.0)
    assert times.estimate(work(200), under_way=[half_way]) == pytest.approx(60.0)


def test_the_pause_is_from_an_end_to_the_next_beginning() -> None:
    times = Times()
    assert times.pause() == 0.0
    for began in (0.0, 12.0, 24.0, 5000.0):
        times.add_own(STEPS[0], Sample(work(1), 0.0, 10.0, began))
    assert times.pause() == pytest.approx(2.0)


def test_a_steps_size_is_its_images_times_epochs_with_replay() -> None:
    by_title = {job.title: workload_of(job, IMAGES) for job in STEPS}
    plain = {job.spec.tasks[0]: by_title[job.title] for job in STEPS if "no_distill" in job.title}
    assert plain[1].size == 30 * 200 and plain[4].size == 30 * 400
    kaizen = next(work for title, work in by_title.items() if "step 1 · simclr kaizen" in title)
    # As many images of replay as of the task are in each batch, and a teacher sees them.
    assert kaizen.size == pytest.approx(2 * 30 * 200 * 4 / 3)
    assert kaizen.alike[0] != plain[1].alike[0] and kaizen.alike[1] == plain[1].alike[1]


def finish(store: Store, job: Job[Any], seconds: float, training: float) -> None:
    """Finish a node that took so long."""
    commit_fake(store, PLAN.nodes[job.id.key])
    path = store.folder(job.id) / "run.json"
    path.unlink()
    write_json(path, {"seconds": seconds, "training_seconds": training, "began": 1.0})


def test_the_plans_own_nodes_teach(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(store, STEPS[0], 11.0, 10.0)
    times = learn(JOBS, {STEPS[0].id}, store, IMAGES)
    size = workload_of(STEPS[0], IMAGES).size
    longer = Workload(Kind.STEP, workload_of(STEPS[0], IMAGES).alike, 3 * size)
    assert times.estimate(longer) == pytest.approx(31.0)
    assert times.count(Kind.STEP) == 1 and times.count(Kind.EVALUATION) == 0


def test_nodes_of_other_plans_teach_where_the_plans_own_are_few(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = make_plan({"train.lr": 1.0, "train.epochs": 15})
    node = next(node for node in other.nodes.values() if node.kind is Kind.STEP)
    commit_fake(store, node)
    path = store.folder(node.id) / "run.json"
    path.unlink()
    # 1500 images at 100 a second: 15 epochs of 100 images.
    speed = {"seconds": 16.0, "training_seconds": 15.0, "images_per_second": 100.0}
    write_json(path, speed)
    times = learn(JOBS, set(), store, IMAGES)
    first = workload_of(STEPS[0], IMAGES)
    assert times.count(Kind.STEP) == 1 and first.size == 3000
    assert times.estimate(first) == pytest.approx(31.0)


def jobs_of(*edges: str) -> list[Job[Any]]:
    """Jobs that need each other: "b:a" is b, which needs a."""
    found: dict[str, Job[Any]] = {}
    for edge in edges:
        name, _, parents = edge.partition(":")
        inputs = {parent: found[parent].id for parent in parents.split(",") if parent}
        node = NodeId(Kind.STEP, name.rjust(32, "0"))
        found[name] = Job(node, name, "", STEPS[0].spec, inputs, {}, STEPS[0].local)
    return list(found.values())


@pytest.mark.parametrize(
    ("at_once", "seconds"),
    [(1, 10.0 + 20.0 + 5.0 + 30.0), (2, 10.0 + 5.0 + 30.0), (9, 10.0 + 5.0 + 30.0)],
)
def test_chains_and_how_many_at_once_decide(at_once: int, seconds: float) -> None:
    jobs = jobs_of("a", "b:a", "c:a", "d:c")
    took = dict(zip((job.id for job in jobs), (10.0, 20.0, 5.0, 30.0), strict=True))
    assert time_left(jobs, took, Times(), at_once).seconds == pytest.approx(seconds)


def looked_back(*spans: tuple[float, float], parallel: bool = False) -> float:
    """`off_so_far` after jobs of one size that began and ended so, each needing the one before."""
    names = [chr(97 + n) for n in range(len(spans))]
    needs = [
        name if parallel or not n else f"{name}:{names[n - 1]}" for n, name in enumerate(names)
    ]
    times = Times()
    for job, (began, ended) in zip(jobs_of(*needs), spans, strict=True):
        times.add_own(job, Sample(work(1), 0.0, ended - began, began))
    return off_so_far(times)


def test_the_whole_is_as_wrong_as_it_was_before() -> None:
    evenly = [(10.0 * n, 10.0 * n + 10) for n in range(8)]
    assert looked_back(*evenly) == pytest.approx(0.0)
    # Too few to say.
    assert looked_back(*evenly[:3]) == 1.0
    # From the fifth on each takes three times as long.
    slower = [*evenly[:4], *((40.0 + 30 * n, 70.0 + 30 * n) for n in range(4))]
    assert looked_back(*slower) == pytest.approx(2.0)
    # A night between two of them is none of it, but for a minute.
    night = [*evenly[:4], *((b + 40000, e + 40000) for b, e in evenly[4:])]
    assert looked_back(*night) == pytest.approx((60 + 40) / 40 - 1)
    at_once = [(10.0 * (n // 2), 10.0 * (n // 2) + 10) for n in range(8)]
    assert looked_back(*at_once, parallel=True) == pytest.approx(0.0)


def test_a_range_is_at_least_what_was_wrong_before() -> None:
    times = Times()
    jobs = jobs_of(*"abcdefghi")
    for n, job in enumerate(jobs[:8]):
        took = 10.0 if n < 3 else 30.0
        times.add_own(job, Sample(work(1), 0.0, took, 100.0 * n))
    left = time_left(jobs[8:], {jobs[8].id: 30.0}, times, 1)
    assert left.error == off_so_far(times) > times.error(Kind.STEP) >= 0
    assert time_left(jobs[:1], {}, Times(), 1).error is None


def test_what_is_not_known_is_said() -> None:
    jobs = jobs_of("a", "b:a")
    left = time_left(jobs, {jobs[0].id: None, jobs[1].id: None}, Times(), 1)
    assert str(left) == "no estimate yet: no step has finished"
    assert str(Left(30.0, None, (Kind.SUMMARY,))) == "about 30 s left; without summary"
    assert str(Left(3.0, None, (Kind.HEAD,), mostly_unknown=True)) == (
        "no estimate yet: no head has finished"
    )
    # Two of a third of a step each, as far as one knows.
    for took, mostly in ((6.0, False), (9.0, True)):
        times = Times()
        times.add(Sample(work(1), 0.0, took))
        assert mostly_unknown([Kind.HEAD, Kind.SUMMARY], 5.0, times) is mostly
        assert mostly_unknown([Kind.STEP], 500.0, times) and not mostly_unknown([], 0.0, times)
    unknown = (Kind.REPLAY, Kind.HEAD, Kind.SUMMARY)
    assert str(Left(30.0, None, unknown, 2)) == (
        "about 30 s left, 2 at a time; without replay and 2 other kinds"
    )


def test_an_error_is_a_range() -> None:
    assert str(Left(600.0, 0.5)) == "about 10 min left (7 min to 15 min)"
    assert str(Left(600.0, 0.0)) == "about 10 min left"
    assert [duration(s) for s in (0.2, 89, 100, 7200)] == ["1 s", "89 s", "2 min", "2.0 h"]


def test_of_a_grid_of_any_size_so_many_run_records_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan({"grid.seeds": list(range(60)), "grid.specialists": False})
    jobs = [node.job() for node in plan.nodes.values()]
    asked: list[NodeId] = []

    def read(store: Store, node: NodeId) -> dict[str, Any]:
        asked.append(node)
        return made(2.0)

    monkeypatch.setattr(Store, "read_run_record", read)
    times = learn(jobs, {job.id for job in jobs}, Store(tmp_path), IMAGES)
    counts = {kind: sum(node.kind is kind for node in asked) for kind in Kind}
    assert len(jobs) > 600 and max(counts.values()) == 100
    assert times.count(Kind.STEP) == 100
