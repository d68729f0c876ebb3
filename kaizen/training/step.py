"""The `step` node: from the prior step's checkpoint, a task shard and a replay shard to the next
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kaizen.compute import distributed
from kaizen.compute.device import Compute, choose_compute
from kaizen.compute.seeds import derive_seed
from kaizen.data.names import (
    CHECKPOINT,
    CONFIG_FILE,
    FACTS_FILE,
    HISTORY_FILE,
    REPLAY_FILE,
    head_file,
    shard_file,
)
from kaizen.errors import KaizenError
from kaizen.files import atomic_path, counted
from kaizen.models.config import config_of, read_config, write_config
from kaizen.models.feature_classifier import architecture_of, load_weights, read_checkpoint
from kaizen.models.fused_convolutions import fuse_convolutions
from kaizen.models.fused_norms import fuse_norms
from kaizen.models.shared import share_encoders
from kaizen.params.registry import REPLAY_POLICIES, SUPERVISED, load
from kaizen.plan import roles
from kaizen.plan.job import Job
from kaizen.plan.specs import StepSpec
from kaizen.store.locks import Watch
from kaizen.store.made import Made
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store
from kaizen.training.counted import step_facts
from kaizen.training.facts import read_facts, write_facts
from kaizen.training.live_accuracy import live_accuracy
from kaizen.training.loop import Step
from kaizen.training.objective import Objective
from kaizen.training.reporter import Reporter
from kaizen.training.resume import Progress, digest, save_tensors
from kaizen.training.schedule import scaled_lr
from kaizen.training.step_data import StepData
from kaizen.training.student import ContinualModel, build_model, frozen_copy
from kaizen.views.augment import TwoViewAugment
from kaizen.views.batches import Rows, open_rows

if TYPE_CHECKING:
    from kaizen.training.prototypes import Prototypes


def student_for(params: StepSpec) -> ContinualModel:
    """The student that the parameters describe, with its initial weights."""
    architecture = architecture_of(params)
    return build_model(architecture, params.method, params.ssl, params.feature_distill)


def run_step(
    job: Job[StepSpec], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Made:
    """Train the step that ``job`` describes and write its files into ``building``.

    Where several processes share the step (`kaizen.compute.distributed`), each calls this alike and
    the first one writes. Raises KaizenError for inputs that do not fit, Interrupted on a request to
    stop, NodeFailed on a loss that is not finite.
    """
    params = job.spec
    compute = choose_compute(params.train.device, params.train.precision, params.train.threads)
    processes = f"{distributed.count()} processes, " if distributed.count() > 1 else ""
    precision = str(compute.dtype).removeprefix("torch.")
    threads = counted(params.train.threads, "thread")
    reporter.note(f"{processes}{compute.device.type}, {precision}, {threads}")
    # A damaged node is set aside by one process only.
    with distributed.first_alone():
        files = input_files(params, job.inputs, store)
        learnt: Mapping[str, str] = {}
        lineage: list[str] = []
        if roles.PRIOR in job.inputs:
            prior = job.inputs[roles.PRIOR]
            learnt = read_facts(store.open_file(prior, FACTS_FILE)).classes
            before = read_config(store.open_file(prior, CONFIG_FILE))
            lineage = [*before.lineage, prior.key]
    data = step_data(params, files, compute)
    facts = step_facts(
        files[roles.SHARDS],
        files.get(roles.REPLAY, []),
        fraction=params.train.data_fraction,
        batch_sizes=(data.batch_size, data.replay_batch_size),
        batches=data.epoch_length(),
        lr=scaled_lr(params.train.lr, data.batch_size),
        learnt=learnt,
        labelled=params.method == SUPERVISED,
    )
    reporter.note(facts.text())
    for warning in facts.warnings(params.train.batch_size, params.replay_batch_size or 0):
        reporter.note(f"note: {warning}")
    student = student_for(params)
    teacher: ContinualModel | None = None
    if "prior" in files:
        (path,) = files["prior"]
        # The predictor of feature distillation is new at the first step that has a teacher.
        load_weights(
            student,
            read_checkpoint(path),
            path,
            may_lack=("distiller.",),
            new_logits=params.new_logits or 0,
        )
        if params.feature_distill or params.classifier_distill or params.prototypes:
            teacher = compute.place(
                frozen_copy(student, bool(params.teacher_train_mode), params.new_logits or 0)
            )
            fuse_convolutions(teacher, compute)
    prototypes: Prototypes | None = None
    if params.prototypes is not None:
        make: Callable[..., Prototypes | None] = load(REPLAY_POLICIES["prototypes"].target)
        prototypes = make(params, files[roles.HEAD][0], data.rows, compute.device, reporter.note)
    student.ssl.start_task()
    student = compute.place(student)
    for model in (student, teacher):
        if model is not None:
            share_encoders(model, data.rows)
    fuse_norms(student, compute, reporter.alarm)
    step = Step(
        student=student,
        teacher=teacher,
        data=data,
        augment=TwoViewAugment(params.augment, params.image),
        objective=objective_of(params, data.batch_size, compute, prototypes),
        train=params.train,
        static_warmup=bool(params.static_warmup),
        seed=derive_seed(params.seed, "training", *params.tasks),
        compute=compute,
        work=store.work_folder(job.id),
        save_every_epochs=job.local.save_every_epochs,
        reporter=reporter,
        watch=watch,
        tried=live_accuracy(job, store, compute, reporter.alarm),
    )
    progress = step.run()
    if distributed.count() > 1:
        distributed.check_agreement(digest(student.state_dict(), ""), "at the step's end")
    if distributed.rank() == 0:
        _write_results(student, progress, building)
        write_facts(facts, building)
        write_config(config_of(params, facts.classes, job.id.key, lineage), building)
    images = len(progress.history) * data.epoch_length() * data.rows
    return Made(
        compute.describe() | {"processes": progress.processes},
        training_seconds=progress.seconds,
        images_per_second=images / max(progress.seconds, 1e-9),
        # The job that writes run.json is none of the processes, and would count itself.
        processes=distributed.count(),
    )


def input_files(
    params: StepSpec, inputs: Mapping[str, NodeId], store: Store
) -> dict[str, list[Path]]:
    """The files that the step reads of each of its inputs, their hashes checked."""
    names = {
        roles.REPLAY: REPLAY_FILE,
        roles.PRIOR: CHECKPOINT,
        roles.HEAD: head_file(params.tasks[0] - 1),
    }
    shards = [
        store.open_file(roles.shards_of(inputs, task), shard_file(task, "train"))
        for task in params.tasks
    ]
    others = {
        role: [store.open_file(inputs[role], name)]
        for role, name in names.items()
        if role in inputs
    }
    return {roles.SHARDS: shards, **others}


def step_data(params: StepSpec, files: dict[str, list[Path]], compute: Compute) -> StepData:
    """Open task and replay shard; raises KaizenError where there are too few rows to train on."""
    train, supervised = params.train, params.method == SUPERVISED

    def rows(role: str, fraction: float) -> Rows:
        limit = train.stream_above_mb
        return open_rows(
            files[role], params.image, fraction, limit, compute.device, labelled=supervised
        )

    task = rows(roles.SHARDS, train.data_fraction)
    # Without a label there is nothing to train by, and the model stays as it is.
    if task.count < 2 and not supervised:
        which = f"task {', '.join(map(str, params.tasks))}"
        if train.data_fraction == 1.0:
            raise KaizenError(
                f"split: {which} has {task.count} training images, and at least 2 are needed: add "
                "images to it, or divide the dataset into fewer tasks"
            )
        raise KaizenError(
            f"train.data_fraction: {train.data_fraction} leaves {task.count} images of {which}; "
            "at least 2 are needed: raise it"
        )
    # A batch of one image has no variance: of fewer than two there is no batch.
    batch_size = max(2, min(train.batch_size, task.count))
    data = StepData(task, batch_size, longest_loader=bool(params.longest_loader))
    if roles.REPLAY in files:
        replay = rows(roles.REPLAY, 1.0)
        if not replay.count:
            lacks = "has no labelled image" if supervised else "is empty"
            raise KaizenError(
                f"replay: the replay shard of task {', '.join(map(str, params.tasks))} {lacks}, "
                "so this would be a step without replay; raise the replay size, or take a variant "
                "without replay"
            )
        data.replay = replay
        data.replay_batch_size = min(params.replay_batch_size or 0, replay.count)
    if data.epoch_length() and data.rows < distributed.count():
        raise KaizenError(
            f"runtime.processes: {distributed.count()} processes cannot share batches of "
            f"{data.rows} images; lower it, or raise train.batch_size or train.data_fraction"
        )
    return data


def objective_of(
    params: StepSpec, task_rows: int, compute: Compute, prototypes: Prototypes | None = None
) -> Objective:
    """The loss that a step's parameters describe; the first ``task_rows`` of a batch are the
    task's, and ``prototypes`` the pseudo-features after its rows.
    """
    feature, soft = params.feature_distill, params.classifier_distill

    def logits_of(labels: list[int] | None) -> Tensor | None:
        if labels is None:
            return None
        order = params.logits or range(params.num_classes)
        return torch.tensor([order.index(label) for label in labels], device=compute.device)

    return Objective(
        feature_weight=feature.weight if feature else None,
        classifier_weight=soft.weight if soft else None,
        classifier_temperature=soft.temperature if soft else 1.0,
        classifier_gradient=params.train.classifier_gradient,
        old_logits=logits_of(params.old_labels),
        task_logits=logits_of(params.task_labels),
        task_rows=task_rows,
        logit_of_label=logit_positions(params.logits, compute),
        prototypes=prototypes,
    )


def logit_positions(logits: list[int] | None, compute: Compute) -> Tensor | None:
    """The position of each label among ``logits``, int64 [largest label + 1]; None where they are
    the same.

    A label without a logit gets a position that the cross-entropy refuses: shards of other tasks
    must not pass.
    """
    if logits is None:
        return None
    positions = torch.full((max(logits) + 1,), len(logits))
    positions[logits] = torch.arange(len(logits))
    return positions.to(compute.device)


def _write_results(student: ContinualModel, progress: Progress, building: Path) -> None:
    """Write the checkpoint (all that is carried over) and the history (a row per epoch)."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()
    }
    save_tensors(building / CHECKPOINT, tensors)
    columns = {name: [row[name] for row in progress.history] for name in progress.history[0]}
    with atomic_path(building / HISTORY_FILE) as temporary:
        pq.write_table(pa.table(columns), temporary)
