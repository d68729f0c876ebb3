"""What each parameter reaches in the plan: the table that test_plan_reach.py checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VARIANTS = ["kaizen", "kaizen_no_replay", "cassle", "no_distill"]
BASE = {"grid.variants": VARIANTS}

# Names of places in the plan, as `places` makes them, that a change of a parameter reaches.
TRAINED = ["step/*", "specialist/*", "evaluation/*", "reference", "summary"]
EVALUATED = ["evaluation/*", "reference", "summary"]
DISTILLED = [
    f"{kind}/{name}{tail}"
    for kind, tail in (("step", "/[1-4]"), ("evaluation", ""))
    for name in VARIANTS[:3]
]
SOFT_LABELLED = [
    f"{kind}/kaizen{tail}" for kind, tail in (("step", "*/[1-4]"), ("evaluation", "*"))
]
REHEARSED = ["step/kaizen/[1-4]", "evaluation/kaizen", "summary"]

# Parameter or section -> what changes with it; a parameter named here is not as its section is.
REACH: dict[str, list[str]] = {
    "dataset": ["*"],
    "dataset.path": [],
    "dataset.compression": ["shards"],
    "image.drop_colour": [],
    "dataset.synthetic": [],
    "split": ["*"],
    "labels": ["*"],
    "labels.seed": [],
    "replay": ["replay/*", *REHEARSED],
    "replay.seed": [],
    "variants": [],
    "grid.methods": [],
    "grid.variants": [],
    "grid.seeds": [],
    "heads": ["head/*", *(f"evaluation/{name}" for name in VARIANTS), "summary"],
    "deploy": ["summary"],
    "grid.specialists": ["specialist/[1-4]", "reference", "summary"],
    "image": TRAINED,
    "image.test_crop": EVALUATED,
    "augment": TRAINED,
    "model": TRAINED,
    "ssl": TRAINED,
    "per_method": TRAINED,
    "distill.feature": [*DISTILLED, "summary"],
    "distill.classifier": [*SOFT_LABELLED, "summary"],
    "train": TRAINED,
    "train.replay_batch_size": REHEARSED,
    "evaluation": EVALUATED,
    "report": ["summary"],
    "reference_compat.teacher_train_mode": [*DISTILLED, "summary"],
    "reference_compat.stem_padding_2": TRAINED,
    "reference_compat.epoch_length": REHEARSED,
    "reference_compat.simsiam_predictor_warmup": TRAINED,
    "runtime": [],
}


@dataclass(frozen=True)
class Row:
    """A parameter, the name in `REACH` of what it reaches, a value that is not its default, what
    has to change with it, and the experiment in which it has an effect: its method, and what else
    is not as in `BASE`.
    """

    parameter: str
    reach: str
    value: Any
    also: dict[str, Any] = field(default_factory=dict)
    method: str = "simclr"
    base: dict[str, Any] = field(default_factory=dict)

    @property
    def change(self) -> dict[str, Any]:
        """All that changes."""
        return {self.parameter: self.value} | self.also


COLOUR = {"image.channels": 3, "image.mean": [0.5] * 3, "image.std": [0.5] * 3}
JITTERED = {"augment.jitter.probability": 0.5}
RESNET = {"model.backbone": "resnet18"}
ANALYTIC = {"grid.heads": ["trained", "lda"]}
FILES = {"dataset.source": "image_folder", "dataset.path": "/data"}

# One row for every parameter but those of `ELSEWHERE`.
ROWS = [
    Row("augment.blur", "augment", [0.5, 0.0]),
    Row("augment.blur_sigma", "augment", [0.05, 2.0], base={"augment.blur": [0.5, 0.0]}),
    Row("augment.crop_ratio", "augment", [0.375, 1.3333]),
    Row("augment.crop_scale", "augment", [0.15, 1.0]),
    Row("augment.flip", "augment", 0.5),
    Row("augment.greyscale", "augment", 0.5, base=COLOUR),
    Row("augment.jitter.brightness", "augment", 0.2, base=JITTERED),
    Row("augment.jitter.contrast", "augment", 0.2, base=JITTERED),
    Row("augment.jitter.hue", "augment", 0.05, base=JITTERED | COLOUR),
    Row("augment.jitter.probability", "augment", 0.5),
    Row("augment.jitter.saturation", "augment", 0.1, base=JITTERED | COLOUR),
    Row("augment.solarize", "augment", [0.5, 0.0]),
    Row("dataset.bit_depth", "dataset", 12, base=FILES),
    Row("dataset.compression", "dataset.compression", "zstd"),
    Row("dataset.encoding", "dataset", "raw", base=FILES),
    Row("dataset.on_corrupt", "dataset", "skip"),
    Row("dataset.raw_limit", "dataset", 16385, base=FILES),
    Row("dataset.resize", "dataset", 4),
    Row("dataset.row_group_mb", "dataset", 8.0),
    Row("dataset.seed", "dataset", 1),
    Row("dataset.source", "dataset", "image_folder", also={"dataset.path": "/data"}),
    Row("dataset.synthetic.channels", "dataset.synthetic", 1),
    Row("dataset.synthetic.classes", "dataset.synthetic", 11),
    Row("dataset.synthetic.size", "dataset.synthetic", 33),
    Row("dataset.synthetic.test", "dataset.synthetic", 21),
    Row("dataset.synthetic.train", "dataset.synthetic", 101),
    Row("dataset.test_fraction", "dataset", 0.1),
    Row("distill.classifier.temperature", "distill.classifier", 0.5),
    Row("distill.classifier.weight", "distill.classifier", 1.0),
    Row("distill.classifier.logits", "distill.classifier", "old"),
    Row("distill.feature.contrastive.temperature", "distill.feature", 0.1),
    Row(
        "distill.feature.decorrelative.off_diagonal",
        "distill.feature",
        0.0025,
        method="barlow_twins",
    ),
    Row("distill.feature.decorrelative.scale", "distill.feature", 0.05, method="barlow_twins"),
    Row("distill.feature.distiller", "distill.feature", "predictive"),
    Row("distill.feature.predictor_hidden", "distill.feature", 257),
    Row("distill.feature.prototype.temperature", "distill.feature", 0.05, method="swav"),
    Row("distill.feature.weight", "distill.feature", 0.5),
    Row("evaluation.batch_size", "evaluation", 513),
    Row("evaluation.knn_k", "evaluation", 21),
    Row("evaluation.knn_temperature", "evaluation", 0.035),
    Row("evaluation.probe_fraction", "evaluation", 0.5),
    Row("evaluation.probe_iterations", "evaluation", 101),
    Row("evaluation.probe_l2", "evaluation", 0.0005),
    Row("deploy.head", "deploy", "lda", base=ANALYTIC),
    Row("heads.covariance", "heads", "per_class", base=ANALYTIC),
    Row("heads.drift", "heads", "linear", base=ANALYTIC),
    Row("heads.map_ridge", "heads", 0.001, base=ANALYTIC),
    Row("heads.random_features", "heads", 10, base=ANALYTIC),
    Row("heads.residual", "heads", False, base=ANALYTIC),
    Row("heads.seed", "heads", 1, base=ANALYTIC | {"heads.random_features": 10}),
    Row("heads.shrinkage", "heads", 0.01, base=ANALYTIC),
    Row("grid.specialists", "grid.specialists", False),
    Row(
        "image.channels",
        "image",
        3,
        also={"image.mean": [0.5, 0.5, 0.5], "image.std": [0.5, 0.5, 0.5]},
    ),
    Row("image.drop_colour", "image.drop_colour", True),
    Row("image.load_size", "image", 20),
    Row("image.mean", "image", [0.1525]),
    Row("image.size", "image", 17),
    Row("image.std", "image", [0.188]),
    Row("image.test_crop", "image.test_crop", 0.5),
    Row("labels.fraction", "labels", 0.5),
    Row("labels.seed", "labels.seed", 1),
    Row("model.backbone", "model", "resnet18"),
    Row("model.classifier_head", "model", "growing"),
    Row("model.classifier_hidden", "model", [129]),
    Row("model.stem", "model", "imagenet", base=RESNET),
    Row("model.width", "model", 17),
    Row("per_method", "per_method", {"simclr": {"train": {"lr": 0.5}}}),
    Row("reference_compat.epoch_length", "reference_compat.epoch_length", True),
    Row(
        "reference_compat.simsiam_predictor_warmup",
        "reference_compat.simsiam_predictor_warmup",
        True,
        method="simsiam",
    ),
    Row("reference_compat.stem_padding_2", "reference_compat.stem_padding_2", True, base=RESNET),
    Row("reference_compat.teacher_train_mode", "reference_compat.teacher_train_mode", True),
    Row("replay.memory", "replay", [50], also={"replay.proportion": None}),
    Row("replay.per_class", "replay", [5], also={"replay.proportion": None}),
    Row("replay.policy", "replay", "balanced_random"),
    Row("replay.proportion", "replay", [0.05]),
    Row("replay.seed", "replay.seed", 1),
    Row("report.example_images", "report", False),
    Row("report.formats", "report", ["pdf"]),
    Row("report.title", "report", "another"),
    Row("runtime.hosts", "runtime", 2),
    Row("runtime.ingest_workers", "runtime", 3),
    Row("runtime.live", "runtime", "tensorboard"),
    Row("runtime.live_accuracy", "runtime", 100),
    Row("runtime.processes", "runtime", 2),
    Row("runtime.save_every_epochs", "runtime", 11),
    Row("runtime.step_mem_mb", "runtime", 4001),
    Row("runtime.step_minutes", "runtime", 241),
    Row("split.by", "split", "data"),
    Row(
        "split.classes", "split", [["class 0"], ["class 1"], ["class 2"], ["class 3"], ["class 4"]]
    ),
    Row("split.order", "split", "given"),
    Row("split.seed", "split", 6),
    Row("split.sizes", "split", [3, 1, 1, 2, 3]),
    Row("split.tasks", "split", 2),
    Row("ssl.barlow_twins.off_diagonal", "ssl", 0.0025, method="barlow_twins"),
    Row("ssl.barlow_twins.projector_hidden", "ssl", 257, method="barlow_twins"),
    Row("ssl.barlow_twins.projector_out", "ssl", 257, method="barlow_twins"),
    Row("ssl.barlow_twins.scale", "ssl", 0.0125, method="barlow_twins"),
    Row("ssl.byol.momentum_base", "ssl", 0.495, method="byol"),
    Row("ssl.byol.momentum_final", "ssl", 0.5, method="byol"),
    Row("ssl.byol.predictor_hidden", "ssl", 257, method="byol"),
    Row("ssl.byol.projector_hidden", "ssl", 257, method="byol"),
    Row("ssl.byol.projector_out", "ssl", 65, method="byol"),
    Row("ssl.dino.centre_momentum", "ssl", 0.45, method="dino"),
    Row("ssl.dino.clip_gradient", "ssl", 1.5, method="dino"),
    Row("ssl.dino.freeze_last_layer_epochs", "ssl", 2, method="dino"),
    Row("ssl.dino.momentum_base", "ssl", 0.498, method="dino"),
    Row("ssl.dino.momentum_final", "ssl", 0.5, method="dino"),
    Row("ssl.dino.projector_hidden", "ssl", 257, method="dino"),
    Row("ssl.dino.projector_out", "ssl", 65, method="dino"),
    Row("ssl.dino.prototypes", "ssl", 257, method="dino"),
    Row("ssl.dino.student_temperature", "ssl", 0.05, method="dino"),
    Row("ssl.dino.teacher_temperature", "ssl", 0.035, method="dino"),
    Row("ssl.dino.teacher_temperature_start", "ssl", 0.02, method="dino"),
    Row("ssl.dino.teacher_temperature_warmup_epochs", "ssl", 51, method="dino"),
    Row("ssl.mocov2plus.momentum_base", "ssl", 0.495, method="mocov2plus"),
    Row("ssl.mocov2plus.momentum_final", "ssl", 0.4995, method="mocov2plus"),
    Row("ssl.mocov2plus.projector_hidden", "ssl", 257, method="mocov2plus"),
    Row("ssl.mocov2plus.projector_out", "ssl", 65, method="mocov2plus"),
    Row("ssl.mocov2plus.queue_size", "ssl", 1025, method="mocov2plus"),
    Row("ssl.mocov2plus.temperature", "ssl", 0.1, method="mocov2plus"),
    Row("ssl.nnclr.predictor_hidden", "ssl", 257, method="nnclr"),
    Row("ssl.nnclr.projector_hidden", "ssl", 257, method="nnclr"),
    Row("ssl.nnclr.projector_out", "ssl", 65, method="nnclr"),
    Row("ssl.nnclr.queue_size", "ssl", 1025, method="nnclr"),
    Row("ssl.nnclr.temperature", "ssl", 0.1, method="nnclr"),
    Row("ssl.simclr.projector_hidden", "ssl", 257),
    Row("ssl.simclr.projector_out", "ssl", 65),
    Row("ssl.simclr.temperature", "ssl", 0.1),
    Row("ssl.simsiam.predictor_hidden", "ssl", 65, method="simsiam"),
    Row("ssl.simsiam.projector_hidden", "ssl", 257, method="simsiam"),
    Row("ssl.simsiam.projector_out", "ssl", 257, method="simsiam"),
    Row("ssl.swav.freeze_prototypes_epochs", "ssl", 2, method="swav"),
    Row("ssl.swav.projector_hidden", "ssl", 257, method="swav"),
    Row("ssl.swav.projector_out", "ssl", 65, method="swav"),
    Row("ssl.swav.prototypes", "ssl", 101, method="swav"),
    Row("ssl.swav.queue_from_epoch", "ssl", 16, method="swav"),
    Row("ssl.swav.queue_size", "ssl", 257, method="swav"),
    Row("ssl.swav.sinkhorn_epsilon", "ssl", 0.025, method="swav"),
    Row("ssl.swav.sinkhorn_iterations", "ssl", 4, method="swav"),
    Row("ssl.swav.temperature", "ssl", 0.05, method="swav"),
    Row("ssl.vicreg.covariance_weight", "ssl", 0.5, method="vicreg"),
    Row("ssl.vicreg.invariance_weight", "ssl", 12.5, method="vicreg"),
    Row("ssl.vicreg.projector_hidden", "ssl", 257, method="vicreg"),
    Row("ssl.vicreg.projector_out", "ssl", 257, method="vicreg"),
    Row("ssl.vicreg.variance_weight", "ssl", 12.5, method="vicreg"),
    Row("train.batch_size", "train", 33),
    Row("train.classifier_gradient", "train", True),
    Row("train.classifier_lr", "train", 0.05),
    Row("train.data_fraction", "train", 0.5),
    Row("train.device", "train", "cpu"),
    Row("train.epochs", "train", 31),
    Row("train.full_size_from", "train", 0.5, base={"train.start_size": 0.5}),
    Row("train.lars_eta", "train", 0.01),
    Row("train.lr", "train", 1.0),
    Row("train.min_lr", "train", 0.5),
    Row("train.momentum", "train", 0.45),
    Row("train.optimizer", "train", "sgd"),
    Row("train.precision", "train", "float32"),
    Row("train.replay_batch_size", "train.replay_batch_size", 33),
    Row("train.start_size", "train", 0.5),
    Row("train.stream_above_mb", "train", 2048.0),
    Row("train.threads", "train", 2),
    Row("train.warmup_epochs", "train", 6),
    Row("train.warmup_start_lr", "train", 0.0015),
    Row("train.weight_decay", "train", 5e-06),
    Row("variants", "variants", {"unused": {"replay": False}}),
]
# Lists of points, and what the demo's source does not have, are tested on their own below.
ELSEWHERE = {
    "dataset.path",
    "dataset.classes",
    "dataset.unlabelled",
    "split.domains",
    "grid.heads",
    "grid.methods",
    "grid.variants",
    "grid.seeds",
}
# With herding, a replay shard depends on the steps before it: what reaches the steps of a run
# reaches its shards too. Step 0 knows nothing of distillation and replay, so that what these have
# reaches no shard before that for step 2.
HERDED = {
    "image": "replay/[1-4]",
    "augment": "replay/[1-4]",
    "model": "replay/[1-4]",
    "ssl": "replay/[1-4]",
    "per_method": "replay/[1-4]",
    "train": "replay/[1-4]",
    "reference_compat.stem_padding_2": "replay/[1-4]",
    "reference_compat.simsiam_predictor_warmup": "replay/[1-4]",
    "distill.feature": "replay/[2-4]",
    "distill.classifier": "replay/[2-4]",
    "train.replay_batch_size": "replay/[2-4]",
    "reference_compat.teacher_train_mode": "replay/[2-4]",
    "reference_compat.epoch_length": "replay/[2-4]",
}
