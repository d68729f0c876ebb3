"""Which function makes which kind of node. Heavy imports wait until then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kaizen.data.names import MEMORY_FILE, REPLAY_FILE, Part, shard_file
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams
from kaizen.plan import roles
from kaizen.plan.data_specs import ShardsSpec
from kaizen.plan.fingerprint import installed_version
from kaizen.plan.job import Job
from kaizen.plan.specs import EvaluationSpec, HeadSpec, ReplaySpec, StepSpec, SummarySpec
from kaizen.store.locks import Watch
from kaizen.store.made import Made
from kaizen.store.node_id import Kind
from kaizen.store.store import Store
from kaizen.training.reporter import Reporter

Maker = Callable[[Job[Any], Store, Path, Reporter, Watch], Made]


def _shards(
    job: Job[ShardsSpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    from kaizen.data.ingest import ingest
    from kaizen.data.tracking import tracked_by_dvc

    dataset = job.spec.dataset_params(job.local.path, job.local.classes)
    began = time.monotonic()
    labels, workers = job.spec.labels_params(), job.local.workers

    def progress(done: int, total: int) -> None:
        reporter.amount(done, total, "images ingested")

    if job.spec.task is None:
        split = job.spec.split_params()
        summary = ingest(
            dataset, split, labels, workers, building, progress=progress, found=job.spec.found
        )
        _check_unchanged(dataset, job)
    else:
        from kaizen.data.ingest import ingest_arrival
        from kaizen.jobs.raw_data import arrival_checksums

        parts: tuple[Part, ...] = ("test",) if job.spec.test_only else ("train", "test")
        names, task = job.spec.classes, job.spec.task
        summary = ingest_arrival(
            dataset, task, names, labels, workers, out=building, parts=parts, progress=progress
        )
        found = arrival_checksums(dataset, names, Path.cwd())
        if any(found.get(name) != checksum for name, checksum in job.identities.items()):
            raise KaizenError(
                f"{dataset.path}: its images changed after the arrival was appended; put back what "
                "it held, or take it out of the stream and append it again (docs/stream.md)"
            )
    written = [task.get(part) for task in summary["tasks"] for part in ("train", "test")]
    images = sum(shard["rows"] for shard in written if shard)
    tracked = tracked_by_dvc(Path(dataset.path)) if dataset.path else None
    return Made(
        _versions("numpy", "pillow", "pyarrow"),
        images_per_second=images / (time.monotonic() - began),
        dvc={"file": os.path.relpath(tracked.file), "md5": tracked.md5} if tracked else None,
    )


def _check_unchanged(dataset: DatasetParams, job: Job[ShardsSpec]) -> None:
    """Raise KaizenError where the raw images are not those that the node's key was made from."""
    from kaizen.jobs.raw_data import dataset_facts

    facts = dataset_facts(dataset, Path.cwd())
    found = facts.identities()
    changed = any(found.get(name) != checksum for name, checksum in job.identities.items())
    if changed or (list(facts.classes), facts.found) != (job.spec.classes, job.spec.found):
        raise KaizenError(
            f"dataset.path: the images of {dataset.path or dataset.source} changed after the plan "
            "was made; run the same command again, which plans again"
        )


def _replay(
    job: Job[ReplaySpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    from kaizen.data.replay.base import Size, no_features
    from kaizen.data.replay.memory import read_memory, write_memory
    from kaizen.data.replay.shard import Before, make_replay
    from kaizen.data.shards import shard_info
    from kaizen.plan.replay_check import empty_replay

    spec, before = job.spec, None
    first = 0
    if roles.MEMORY in job.inputs:
        memory = job.inputs[roles.MEMORY]
        kept = read_memory(store.open_file(memory, MEMORY_FILE))
        before, first = Before(store.open_file(memory, REPLAY_FILE), kept), len(kept)
    shards = [
        store.open_file(roles.shards_of(job.inputs, task), shard_file(task, "train"))
        for task in range(first, spec.task)
    ]
    environment, features = _versions("numpy", "pyarrow"), no_features
    if spec.compute is not None:
        from kaizen.evaluation.step_features import StepFeatures

        features = StepFeatures(job, store, reporter)
        environment |= features.compute.describe()
    size = Size(spec.unit, spec.size)
    out = building / REPLAY_FILE
    seed = spec.seed or 0
    growing = roles.SHARDS not in job.inputs
    chosen = make_replay(
        shards,
        spec.task,
        spec.policy,
        size,
        seed=seed,
        out=out,
        features=features,
        before=before,
        growing=growing,
        without=spec.without or (),
    )
    if growing:
        write_memory(chosen, building / MEMORY_FILE)
    if size.amount and not shard_info(out).rows:
        raise empty_replay(spec.unit, spec.size, spec.task)
    return Made(environment)


def _step(
    job: Job[StepSpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    if job.local.processes * job.local.hosts > 1:
        from kaizen.jobs.launch import train_in_processes

        return train_in_processes(job, store, building, reporter, watch)
    from kaizen.training.step import run_step

    return run_step(job, store, building, reporter, watch)


def _head(
    job: Job[HeadSpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    from kaizen.evaluation.head import run_heads

    return run_heads(job, store, building, reporter)


def _evaluation(
    job: Job[EvaluationSpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    if job.spec.step is not None:
        from kaizen.evaluation.row import run_row

        return run_row(job, store, building, reporter)
    from kaizen.evaluation.run import run_evaluation

    return run_evaluation(job, store, building, reporter)


def _reference(
    job: Job[EvaluationSpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    from kaizen.evaluation.run import run_reference

    return run_reference(job, store, building, reporter)


def _summary(
    job: Job[SummarySpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    from kaizen.report.node import run_summary

    run_summary(job, store, building)
    return Made(_versions("numpy", "pillow", "pyarrow", "vl-convert-python"))


def _versions(*packages: str) -> dict[str, Any]:
    return {package: installed_version(package) for package in packages}


MAKERS: dict[Kind, Maker] = {
    Kind.SHARDS: _shards,
    Kind.REPLAY: _replay,
    Kind.STEP: _step,
    Kind.HEAD: _head,
    Kind.EVALUATION: _evaluation,
    Kind.REFERENCE: _reference,
    Kind.SUMMARY: _summary,
}
