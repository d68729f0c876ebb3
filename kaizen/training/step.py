"""The `step` node: from the prior step's checkpoint, a task shard and a replay shard to the next
checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kaizen.compute import distributed
from kaizen.compute.device import Compute, choose_compute
from kaizen.compute.seeds import derive_seed
from kaizen.errors import KaizenError
from kaizen.files import atomic_path
from kaizen.models.feature_classifier import load_weights, read_checkpoint
from kaizen.models.shared import share_encoders
from kaizen.params import (
    AugmentParams,
    ClassifierDistillParams,
    FeatureDistillParams,
    ImageParams,
    ModelParams,
    SSLParams,
    TrainParams,
    from_dict,
)
from kaizen.store.locks import Watch
from kaizen.store.store import Store
from kaizen.training.counted import step_facts
from kaizen.training.facts import write_facts
from kaizen.training.loop import Step, StepData
from kaizen.training.objective import Objective
from kaizen.training.reporter import Reporter
from kaizen.training.resume import Progress, digest, save_tensors
from kaizen.training.schedule import scaled_lr
from kaizen.training.student import ContinualModel, build_model, frozen_copy
from kaizen.views.augment import TwoViewAugment
from kaizen.views.batches import Rows, open_rows


@dataclass(frozen=True)
class StepParams:
    """A step's parameters, typed, as the plan resolved them for its task (or all tasks, jointly)
    and variant.

    ``logits`` are the labels that a growing classifier has logits for, in their order; the last
    ``new_logits`` of them are new in this step. None: one for each of the ``num_classes`` labels.
    """

    method: str
    seed: int
    tasks: list[int]
    num_classes: int
    ssl: dict[str, Any]
    model: ModelParams
    image: ImageParams
    augment: AugmentParams
    train: TrainParams
    stem_padding_2: bool
    logits: list[int] | None = None
    new_logits: int = 0
    feature_distill: FeatureDistillParams | None = None
    classifier_distill: ClassifierDistillParams | None = None
    teacher_train_mode: bool = False
    replay_batch_size: int = 0
    longest_loader: bool = False
    static_warmup: bool = False


def student_for(params: StepParams) -> ContinualModel:
    """The student that the parameters describe, with its initial weights."""
    ssl_params = getattr(from_dict(SSLParams, {params.method: params.ssl}), params.method)
    return build_model(
        params.model,
        params.image.channels,
        params.num_classes,
        params.method,
        ssl_params,
        params.feature_distill,
        params.seed,
        params.stem_padding_2,
        params.image.size,
    )


def run_step(
    spec: dict[str, Any], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train the step that ``spec`` describes and write its files into ``building``.

    Where several processes share the step (`kaizen.compute.distributed`), each calls this alike and
    the first one writes. Returns (environment for the record, speed for run.json). Raises
    KaizenError for inputs that do not fit, Interrupted on a request to stop, NodeFailed on a loss
    that is not finite.
    """
    params = from_dict(StepParams, spec["params"])
    compute = choose_compute(params.train.device, params.train.precision, params.train.threads)
    processes = f"{distributed.count()} processes, " if distributed.count() > 1 else ""
    precision = str(compute.dtype).removeprefix("torch.")
    reporter.note(f"{processes}{compute.device.type}, {precision}, {params.train.threads} threads")
    # A damaged node is set aside by one process only.
    with distributed.first_alone():
        files = _input_files(params, spec["inputs"], store)
    data = _step_data(params, files, compute)
    facts = step_facts(
        files["shards"],
        files.get("replay", []),
        params.train.data_fraction,
        (data.batch_size, data.replay_batch_size),
        data.epoch_length(),
        scaled_lr(params.train.lr, data.batch_size),
    )
    reporter.note(facts.text())
    for warning in facts.warnings(spec["params"]["train"], params.replay_batch_size):
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
            new_logits=params.new_logits,
        )
        if params.feature_distill or params.classifier_distill:
            teacher = compute.place(
                frozen_copy(student, params.teacher_train_mode, params.new_logits)
            )
    student.ssl.start_task()
    student = compute.place(student)
    for model in (student, teacher):
        if model is not None:
            share_encoders(model, data.rows)
    step = Step(
        student=student,
        teacher=teacher,
        data=data,
        augment=TwoViewAugment(params.augment, params.image),
        objective=Objective(
            feature_weight=params.feature_distill.weight if params.feature_distill else None,
            logit_of_label=_logit_of_label(params.logits, compute),
            classifier_weight=params.classifier_distill.weight
            if params.classifier_distill
            else None,
            classifier_temperature=params.classifier_distill.temperature
            if params.classifier_distill
            else 1.0,
            classifier_gradient=params.train.classifier_gradient,
        ),
        train=params.train,
        static_warmup=params.static_warmup,
        seed=derive_seed(params.seed, "training", *params.tasks),
        compute=compute,
        work=store.work_folder("step", spec["key"]),
        save_every_epochs=spec["local"].get("save_every_epochs", 10),
        reporter=reporter,
        watch=watch,
    )
    progress = step.run()
    if distributed.count() > 1:
        distributed.check_agreement(digest(student.state_dict(), ""), "at the step's end")
    if distributed.rank() == 0:
        _write_results(student, progress, building)
        write_facts(facts, building)
    images = len(progress.history) * data.epoch_length() * data.rows
    speed = {
        "training_seconds": progress.seconds,
        "images_per_second": images / max(progress.seconds, 1e-9),
    }
    # The job that writes run.json is none of the processes, and would count itself.
    speed["processes"] = distributed.count()
    return compute.describe() | {"processes": progress.processes}, speed


def _input_files(params: StepParams, inputs: dict[str, Any], store: Store) -> dict[str, list[Path]]:
    """The files that the step reads of each of its inputs, their hashes checked."""
    names = {
        "shards": [f"task-{task:02d}.train.parquet" for task in params.tasks],
        "replay": ["replay.parquet"],
        "prior": ["model.safetensors"],
    }
    return {
        role: [store.open_file(node["kind"], node["key"], name) for name in names[role]]
        for role, node in inputs.items()
    }


def _step_data(params: StepParams, files: dict[str, list[Path]], compute: Compute) -> StepData:
    """Open task and replay shard; raises KaizenError where there are too few rows to train on."""
    train = params.train

    def rows(role: str, fraction: float) -> Rows:
        return open_rows(files[role], params.image, fraction, train.stream_above_mb, compute.device)

    task = rows("shards", train.data_fraction)
    if task.count < 2:
        raise KaizenError(
            f"train.data_fraction: {train.data_fraction} leaves {task.count} images of task "
            f"{', '.join(map(str, params.tasks))}; at least 2 are needed: raise it"
        )
    data = StepData(task, min(train.batch_size, task.count), longest_loader=params.longest_loader)
    if "replay" in files:
        replay = rows("replay", 1.0)
        if not replay.count:
            raise KaizenError(
                f"replay: the replay shard of task {', '.join(map(str, params.tasks))} is empty, "
                "so this would be a step without replay; raise the replay size, or take a variant "
                "without replay"
            )
        data.replay = replay
        data.replay_batch_size = min(params.replay_batch_size, replay.count)
    if data.rows < distributed.count():
        raise KaizenError(
            f"runtime.processes: {distributed.count()} processes cannot share batches of "
            f"{data.rows} images; lower it, "
            "or raise train.batch_size or train.data_fraction"
        )
    return data


def _logit_of_label(logits: list[int] | None, compute: Compute) -> Tensor | None:
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
    save_tensors(building / "model.safetensors", tensors)
    columns = {name: [row[name] for row in progress.history] for name in progress.history[0]}
    with atomic_path(building / "history.parquet") as temporary:
        pq.write_table(pa.table(columns), temporary)
