"""What the planner writes and a job reads: one dataclass for each kind of node, without torch.

A job sees these; as JSON they stand under ``params`` in its specification and in its node's
record, and are hashed into its key. So they hold what a node depends on and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from kaizen.data.found import Found
from kaizen.errors import KaizenError
from kaizen.params import (
    AugmentParams,
    ClassifierDistillParams,
    EvaluationParams,
    FeatureDistillParams,
    HeadsParams,
    ImageParams,
    NetworkParams,
    OptimisationParams,
    ReportParams,
    SSLParams,
)
from kaizen.params.registry import FEATURE_DISTILLERS
from kaizen.params.typed import from_dict, to_dict
from kaizen.plan.data_specs import DataFacts, ShardsSpec
from kaizen.plan.point import Point
from kaizen.store.node_id import Kind
from kaizen.store.records import Record

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class ComputeSpec:
    """Where and how a job that uses a step's model computes: as the step did."""

    threads: int
    device: Device
    precision: Precision


@dataclass(frozen=True)
class ReplaySpec:
    """The replay shard of the step of ``task``, from the tasks before it.

    ``classes`` are the labels of each task whose shard is read: of all of them, or on a stream that
    grows of the newest, where the memory before stands for the others. ``seed`` is set where the
    policy draws, ``compute`` where it looks at features, ``without`` where rows of some tasks were
    given up.
    """

    policy: str
    unit: str
    size: float | int
    task: int
    classes: list[list[int]]
    seed: int | None = None
    compute: ComputeSpec | None = None
    without: list[int] | None = None


@dataclass(frozen=True)
class PrototypesSpec:
    """How pseudo-features follow the student: as statistics follow encoders in the section
    `heads`.
    """

    drift: Literal["none", "linear", "affine"]
    residual: bool
    map_ridge: float | Literal["auto"]


@dataclass(frozen=True)
class StepSpec:
    """A training step, as the plan resolved the parameters for its task (or all tasks, jointly),
    method and variant.

    ``logits`` are the labels that a growing classifier has logits for, in their order; None: logit
    i is that of label i, of ``num_classes``. The last ``new_logits`` of them are new in this step.
    ``ssl`` is the method's own class of `kaizen.params.SSLParams`; training by labels alone has
    none. None stands for what the step has no use for: distillation without a prior step, replay
    without a replay shard.
    ``old_labels`` are those of the tasks before and ``task_labels`` those of the task itself where
    the classifier tells them apart (`distill.classifier.logits: old`).
    ``static_warmup`` is set where heads whose rate is not scheduled start low
    (`reference_compat.simsiam_predictor_warmup`). ``prototypes`` is set where a batch has
    ``replay_batch_size`` pseudo-features of the statistics of the input `head`, and no old image.
    """

    method: str
    seed: int
    tasks: list[int]
    num_classes: int
    model: NetworkParams
    image: ImageParams
    augment: AugmentParams
    train: OptimisationParams
    ssl: Any = None
    stem_padding_2: bool = False
    logits: list[int] | None = None
    new_logits: int | None = None
    feature_distill: FeatureDistillParams | None = None
    classifier_distill: ClassifierDistillParams | None = None
    old_labels: list[int] | None = None
    task_labels: list[int] | None = None
    teacher_train_mode: bool | None = None
    replay_batch_size: int | None = None
    longest_loader: bool | None = None
    static_warmup: bool | None = None
    prototypes: PrototypesSpec | None = None

    def __post_init__(self) -> None:
        """Give the method's parameters their class; raises TypeError where they are another's."""
        if isinstance(self.ssl, Mapping):
            section = from_dict(SSLParams, {self.method: self.ssl}, "ssl")
            object.__setattr__(self, "ssl", getattr(section, self.method))

    @property
    def compute(self) -> ComputeSpec:
        """Where and how its model computes."""
        return ComputeSpec(self.train.threads, self.train.device, self.train.precision)


@dataclass(frozen=True)
class HeadSpec:
    """The analytic heads of the steps ``first``, ``first`` + 1 and so on of a run.

    ``tasks[i]`` are the tasks of step ``first`` + i: one, or all of joint training. ``fraction`` is
    the share of their training rows that is read, the one that was trained on. Before ``first``
    stand the statistics of the input `prior`.
    """

    kinds: list[str]
    heads: HeadsParams
    first: int
    tasks: list[list[int]]
    fraction: float
    compute: ComputeSpec


@dataclass(frozen=True)
class EvaluationSpec:
    """A run's accuracy matrices, or the specialists' and a random network's accuracies.

    ``tasks[t]`` are the labels of task t. ``test_crop`` is the share of each side whose centre the
    networks see; steps know nothing of it. On a stream that grows it is one row of the matrices,
    that of ``step``, and ``tasks`` has this task's labels only; probe and kNN learn from the
    training images of the tasks so far but for those in ``absent``, and from the replay shard where
    that is an input. ``heads`` are the analytic heads of the input `head`.
    """

    evaluation: EvaluationParams
    test_crop: float
    tasks: list[list[int]]
    num_classes: int
    compute: ComputeSpec
    step: int | None = None
    absent: list[int] | None = None
    heads: list[str] | None = None


@dataclass(frozen=True)
class RunEntry:
    """A run in the summary: its point, and the roles of its evaluations (one, or one after each
    step) and steps among the inputs.

    ``history``: whether the figure of the loss terms shows it.
    """

    name: str
    point: Point
    evaluations: list[str]
    steps: list[str]
    history: bool


@dataclass(frozen=True)
class ReferenceEntry:
    """Specialists and random network of one method and seed, and their role among the inputs."""

    method: str
    seed: int
    input: str


@dataclass(frozen=True)
class Context:
    """What the report says at its head of the whole grid."""

    dataset: str
    classes: int
    tasks: int
    epochs: int
    batch_size: int
    data_fraction: float
    backbone: str
    image_size: int
    labels_fraction: float
    replay_policy: str


@dataclass(frozen=True)
class SummarySpec:
    """Metrics, tables, figures and cards of a grid. ``classes`` are names in label order,
    ``tasks[t]`` the labels of task t.
    """

    report: ReportParams
    runs: list[RunEntry]
    references: list[ReferenceEntry]
    specialists: bool
    classes: list[str]
    tasks: list[list[int]]
    context: Context
    data: DataFacts
    found: Found
    # Tasks of which the training images were given up.
    retired: list[int] | None = None
    # The head that predicts; None: the trained one.
    deploy: str | None = None


Spec = ShardsSpec | ReplaySpec | StepSpec | HeadSpec | EvaluationSpec | SummarySpec

SPECS: dict[Kind, type[Spec]] = {
    Kind.SHARDS: ShardsSpec,
    Kind.REPLAY: ReplaySpec,
    Kind.STEP: StepSpec,
    Kind.HEAD: HeadSpec,
    Kind.EVALUATION: EvaluationSpec,
    Kind.REFERENCE: EvaluationSpec,
    Kind.SUMMARY: SummarySpec,
}

S = TypeVar("S", bound=Spec)


def read_spec(kind: Kind, params: Mapping[str, Any], source: str) -> Spec:
    """The typed specification of a node of ``kind`` from its JSON.

    Raises KaizenError naming ``source`` and the place where it is none of this version's.
    """
    try:
        return from_dict(SPECS[kind], params, "params")
    except TypeError as error:
        raise KaizenError(
            f"{source}: {error}; take it from this version's `kaizen plan --json`"
        ) from None


def step_spec(record: Record) -> StepSpec:
    """What a step was trained with, from its record; raises KaizenError where it is no step's."""
    spec = read_spec(record.id.kind, record.params, f"the record of {record.id}")
    if not isinstance(spec, StepSpec):
        raise KaizenError(f"{record.id} is not a training step; name a folder with a model")
    return spec


def spec_json(spec: Spec, json_of: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A specification as JSON, without what is not set; ``json_of`` as `to_dict` takes it."""
    values = to_dict(spec, json_of)
    if isinstance(spec, StepSpec) and spec.feature_distill is not None:
        # The other distillers' own parameters have no effect, and a new distiller's no default
        # that could change this key.
        others = FEATURE_DISTILLERS.keys() - {spec.feature_distill.distiller}
        values["feature_distill"] = {
            name: item for name, item in values["feature_distill"].items() if name not in others
        }
    if isinstance(spec, StepSpec) and spec.old_labels is None and spec.classifier_distill:
        # Where softmaxes are over all logits the choice, which is newer, is in no key.
        soft = values["classifier_distill"]
        values["classifier_distill"] = {n: item for n, item in soft.items() if n != "logits"}
    return values


def narrowed(value: Any, kind: type[Any]) -> Any:
    """The fields of ``kind`` taken from an object of a class derived from it."""
    names = (field.name for field in dataclasses.fields(kind))
    return kind(**{name: getattr(value, name) for name in names})
