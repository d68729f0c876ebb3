"""Parameters -> nodes and keys: a pure function, without torch, files or clocks.

A node's key hashes its kind, the parameters it depends on, the fingerprint of its code and its
inputs' identities, and nothing else. The key is part of the node's path in the store
(`kaizen/store/store.py`), so a node that exists is right and one that is missing has to be made.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

from kaizen.data.split import effective_split, make_stream
from kaizen.files import canonical_json, sha256_text
from kaizen.params import VARIANTS, Params, VariantParams, for_method, registry
from kaizen.plan.nodes import (
    KEY_LENGTH,
    DatasetFacts,
    Kind,
    Node,
    Plan,
    Run,
    SpecialistSet,
    node_key,
    size_text,
    size_words,
)
from kaizen.plan.replay_check import refuse_empty_replay

Fingerprint = Callable[[tuple[str, ...], tuple[str, ...]], str]

_DATA_PACKAGES = ("numpy", "pillow")
_TRAIN_PACKAGES = ("numpy", "pillow", "torch")


def build_plan(params: Params, facts: DatasetFacts, fingerprint: Fingerprint) -> Plan:
    """Expand validated parameters into the plan.

    ``fingerprint(modules, packages)`` gives the hash of the code that a node runs.
    Raises KaizenError where the split does not fit the classes.
    """
    return _Builder(params, facts, fingerprint).build()


class _Builder:
    """Makes nodes bottom-up and keeps each key once, so that runs share what they have in
    common.
    """

    def __init__(self, params: Params, facts: DatasetFacts, fingerprint: Fingerprint) -> None:
        self.params = params
        self.facts = facts
        # A grid asks for the same few again and again, and each reads sources and packages'
        # metadata.
        self.fingerprint = functools.cache(fingerprint)
        self.checksums = facts.identities()
        self.nodes: dict[str, Node] = {}
        self.of_method = {method: for_method(params, method) for method in params.grid.methods}
        self.stream = make_stream(params.split, facts.classes, facts.domains)
        self.tasks = self.stream.classes

    def build(self) -> Plan:
        grid = {name: variant_switches(self.params, name) for name in self.params.grid.variants}
        refuse_empty_replay(self.params, self.facts, self.stream, grid)
        self.shards = self._shards()
        runs = tuple(self._run(*point) for point in self._points())
        seeds = dict.fromkeys((run.method, run.seed) for run in runs)
        references = tuple(self._references(method, seed) for method, seed in seeds)
        summary = self._summary(runs, references)
        return Plan(self.params, self.facts, self.nodes, self.shards, runs, references, summary)

    def _node(
        self,
        kind: Kind,
        title: str,
        params: dict[str, Any],
        inputs: dict[str, Node],
        code: tuple[tuple[str, ...], tuple[str, ...]],
        identities: dict[str, str] | None = None,
        local: dict[str, Any] | None = None,
    ) -> Node:
        """Make a node, or return the one of the same key.

        Its key holds its inputs' keys, but of `shards` only the identities of the tasks that it
        reads.
        """
        prior = {role: node.key for role, node in inputs.items() if role != "shards"}
        identities = prior | (identities or {})
        code_hash = self.fingerprint(*code)
        key = node_key(kind, params, code_hash, identities)
        if key not in self.nodes:
            modules, packages = code
            local = (local or {}) | {"code": {"modules": list(modules), "packages": list(packages)}}
            self.nodes[key] = Node(kind, key, title, code_hash, params, inputs, identities, local)
        return self.nodes[key]

    # -- data ----------------------------------------------------------------------------------

    def _shards(self) -> Node:
        dataset = self.params.dataset
        params = {
            "dataset": self._dataset(),
            "split": effective_split(self.params.split, dataset.unlabelled),
            "labels": self._labels(),
            "classes": list(self.facts.classes),
        }
        self._ingest_code = (
            ("kaizen.data.ingest", registry.module_of(registry.SOURCES[dataset.source].target)),
            _DATA_PACKAGES,
        )
        read = {f"domain/{self.facts.domains[domain]}" for domain in self.stream.domains}
        read = read or {str(label) for labels in self.tasks for label in labels}
        identities = {
            name: checksum
            for name, checksum in self.checksums.items()
            if name.partition("/")[2] in read
        }
        local = {
            "dataset": {"path": dataset.path, "classes": dataset.classes},
            "workers": self.params.runtime.ingest_workers,
        }
        title = f"shards {dataset.source} · {len(self.tasks)} tasks"
        return self._node("shards", title, params, {}, self._ingest_code, identities, local)

    def _dataset(self) -> dict[str, Any]:
        """What decides the images' content: where they lie does not; chosen classes are known by
        name.
        """
        dataset = dataclasses.asdict(self.params.dataset)
        unread = set(registry.SOURCE_PARAMETERS) - set(
            registry.SOURCES[self.params.dataset.source].reads
        )
        return {
            name: value
            for name, value in dataset.items()
            if name not in unread | {"path", "classes"}
        }

    def _labels(self) -> dict[str, Any]:
        """What decides which labels are kept: the seed only where there is a choice."""
        labels = dataclasses.asdict(self.params.labels)
        if labels["fraction"] in (0.0, 1.0):
            labels.pop("seed")
        return labels

    def _task_identity(self, task: int, part: Literal["train", "test"]) -> str:
        """What the content of one task shard depends on: its own classes' or domain's raw data, not
        the other tasks'.

        Steps take this instead of the key of `shards`, so that a task appended to the stream, or
        new images of one class, leave the steps before it alone.
        """
        facts, stream, checksums = self.facts, self.stream, self.checksums
        dataset = self._dataset()
        dataset.pop("compression")
        depends: dict[str, Any] = {
            "dataset": dataset,
            "part": part,
            "code": self.fingerprint(*self._ingest_code),
        }
        if stream.by == "domain":
            domain = facts.domains[stream.domains[task]]
            depends |= {
                "classes": facts.classes,
                "domain": [domain, checksums[f"{part}/domain/{domain}"]],
            }
        else:
            depends["classes"] = {
                str(label): [facts.classes[label], checksums[f"{part}/{label}"]]
                for label in self.tasks[task]
            }
            if stream.by == "data" or (part == "train" and self.params.dataset.unlabelled):
                depends["dealt"] = {
                    "by": stream.by,
                    "task": task,
                    "of": len(stream),
                    "seed": self.params.split.seed,
                }
        if part == "train":
            depends["labels"] = self._labels()
        return sha256_text(canonical_json(depends))[:KEY_LENGTH]

    def _replay(self, size: float, unit: str, steps: Sequence[Node], run: str) -> Node:
        """The replay shard of the step that follows ``steps``: of a run's own if the policy looks
        at features.
        """
        replay = self.params.replay
        policy = registry.REPLAY_POLICIES[replay.policy]
        task = len(steps)
        params: dict[str, Any] = {
            "policy": replay.policy,
            "unit": unit,
            "size": size,
            "task": task,
            "classes": self.tasks[:task],
        }
        if policy.seeded:
            params["seed"] = replay.seed
        inputs = {"shards": self.shards}
        identities = {
            f"task-{earlier:02d}": self._task_identity(earlier, "train") for earlier in range(task)
        }
        title = f"replay {replay.policy} {size_text(unit, size)} · for task {task}"
        modules: tuple[str, ...] = ("kaizen.data.replay.shard", registry.module_of(policy.target))
        packages: tuple[str, ...] = _DATA_PACKAGES
        if policy.features:
            params |= _compute(steps[0])
            inputs |= _step_inputs(steps)
            title += f" · {run}"
            modules, packages = (*modules, "kaizen.evaluation.step_features"), _TRAIN_PACKAGES
        return self._node("replay", title, params, inputs, (modules, packages), identities)

    # -- training ------------------------------------------------------------------------------

    def _points(self) -> list[tuple[str, str, str, float | None, int]]:
        """The grid: method x variant x replay size x seed; a variant without replay has one size,
        None.
        """
        unit, sizes = next(iter(self.params.replay.sizes().items()), ("proportion", []))
        points: list[tuple[str, str, str, float | None, int]] = []
        for method in self.params.grid.methods:
            for variant in self.params.grid.variants:
                switches = variant_switches(self.params, variant)
                for size in sizes if switches.replay else [None]:
                    points.extend(
                        (method, variant, unit, size, seed) for seed in self.params.grid.seeds
                    )
        return points

    def _run(self, method: str, variant: str, unit: str, size: float | None, seed: int) -> Run:
        switches = variant_switches(self.params, variant)
        steps: list[Node] = []
        replays: list[Node] = []
        label = " ".join([method, variant, *size_words(unit, size)])
        if switches.joint:
            steps.append(
                self._step(
                    method,
                    seed,
                    range(len(self.tasks)),
                    None,
                    None,
                    switches,
                    f"all tasks · {label} · seed {seed}",
                )
            )
        for task in range(0 if switches.joint else len(self.tasks)):
            replay = (
                self._replay(size, unit, steps, f"{label} · seed {seed}")
                if task > 0 and size
                else None
            )
            title = (
                f"step {task} · {label} · seed {seed}"
                if task
                else f"step 0 · {method} · seed {seed}"
            )
            prior = steps[-1] if steps else None
            steps.append(self._step(method, seed, (task,), prior, replay, switches, title))
            replays.extend([replay] if replay else [])
        evaluation = self._evaluation(tuple(steps), f"evaluation · {label} · seed {seed}")
        return Run(method, variant, unit, size, seed, tuple(steps), tuple(replays), evaluation)

    def _step(
        self,
        method: str,
        seed: int,
        tasks: Sequence[int],
        prior: Node | None,
        replay: Node | None,
        switches: VariantParams,
        title: str,
    ) -> Node:
        """A training step on one task, or jointly on several."""
        params = self.of_method[method]
        compat = params.reference_compat
        train = dataclasses.asdict(params.train)
        replay_batch_size = train.pop("replay_batch_size")
        model = dataclasses.asdict(params.model)
        modules = ["kaizen.training.step", registry.module_of(registry.SSL_METHODS[method].target)]
        step: dict[str, Any] = {
            "method": method,
            "seed": seed,
            "tasks": list(tasks),
            "num_classes": len(self.facts.classes),
            "ssl": dataclasses.asdict(getattr(params.ssl, method)),
            "model": model,
            "image": dataclasses.asdict(params.image),
            "augment": dataclasses.asdict(params.augment),
            "train": train,
            "stem_padding_2": compat.stem_padding_2,
        }
        if model.pop("classifier_head") == "growing":
            before = prior.params["logits"] if prior else []
            new = [label for task in tasks for label in self.tasks[task] if label not in before]
            step |= {"logits": before + new, "num_classes": len(before + new)}
        if compat.simsiam_predictor_warmup and registry.SSL_METHODS[method].static_heads:
            step["static_warmup"] = True
        inputs: dict[str, Node] = {"shards": self.shards}
        if prior is not None:
            inputs["prior"] = prior
            if "logits" in step:
                step["new_logits"] = len(new)
            if switches.feature_distill:
                step["feature_distill"] = _feature_distill(params, method)
                distiller = registry.FEATURE_DISTILLERS[step["feature_distill"]["distiller"]]
                modules.append(registry.module_of(distiller.target))
            if switches.classifier_distill:
                step["classifier_distill"] = dataclasses.asdict(params.distill.classifier)
            if switches.feature_distill or switches.classifier_distill:
                step["teacher_train_mode"] = compat.teacher_train_mode
        if replay is not None:
            inputs["replay"] = replay
            step["replay_batch_size"] = replay_batch_size
            step["longest_loader"] = compat.epoch_length
        packages = _TRAIN_PACKAGES + registry.backbone_packages(params.model.backbone)
        identities = {f"task-{task:02d}": self._task_identity(task, "train") for task in tasks}
        names = ("save_every_epochs", "processes", "hosts")
        local = {name: getattr(params.runtime, name) for name in names}
        return self._node(
            "step", title, step, inputs, (tuple(modules), packages), identities, local
        )

    # -- evaluation and report -----------------------------------------------------------------

    def _test_identities(self) -> dict[str, str]:
        parts: tuple[Literal["train", "test"], ...] = ("train", "test")
        return {
            f"{part}-{task:02d}": self._task_identity(task, part)
            for task in range(len(self.tasks))
            for part in parts
        }

    def _evaluation(self, steps: tuple[Node, ...], title: str, kind: Kind = "evaluation") -> Node:
        params = {
            "evaluation": dataclasses.asdict(self.params.evaluation),
            "tasks": self.tasks,
            "num_classes": len(self.facts.classes),
            **_compute(steps[0]),
        }
        inputs = {"shards": self.shards} | _step_inputs(steps)
        code = (("kaizen.evaluation.run",), _TRAIN_PACKAGES)
        return self._node(kind, title, params, inputs, code, self._test_identities())

    def _references(self, method: str, seed: int) -> SpecialistSet:
        """Specialists and a random network; without specialists, step 0 alone stands for the
        network's shape.
        """
        nothing = VariantParams(False, False, False)
        tasks = range(len(self.tasks)) if self.params.grid.specialists else range(1)
        titles = [
            f"{f'specialist {task}' if task else 'step 0'} · {method} · seed {seed}"
            for task in tasks
        ]
        steps = tuple(
            self._step(method, seed, (task,), None, None, nothing, titles[task]) for task in tasks
        )
        evaluation = self._evaluation(
            steps, f"specialists' evaluation · {method} · seed {seed}", "reference"
        )
        return SpecialistSet(method, seed, steps, evaluation)

    def _summary(self, runs: tuple[Run, ...], references: tuple[SpecialistSet, ...]) -> Node:
        params = self.params
        steps = {
            run.name: {f"step-{run.name}-{t:02d}": step for t, step in enumerate(run.steps)}
            for run in runs
        }
        points: list[dict[str, Any]] = [
            {
                "name": run.name,
                "input": f"run-{run.name}",
                "method": run.method,
                "variant": run.variant,
                "replay_size": run.replay_size,
                "replay_unit": "images" if run.replay_unit == "memory" else run.replay_unit,
                "seed": run.seed,
                "steps": list(steps[run.name]),
                # The figure of the loss terms shows the first seed of each series.
                "history": run.seed == params.grid.seeds[0] and len(run.steps) == len(self.tasks),
            }
            for run in runs
        ]
        points_of_references = [
            {
                "input": f"reference-{reference.name}",
                "method": reference.method,
                "seed": reference.seed,
            }
            for reference in references
        ]
        context = {
            "dataset": params.dataset.source,
            "classes": len({label for labels in self.tasks for label in labels}),
            "tasks": len(self.tasks),
            "epochs": params.train.epochs,
            "batch_size": params.train.batch_size,
            "data_fraction": params.train.data_fraction,
            "backbone": params.model.backbone,
            "image_size": params.image.size,
            "labels_fraction": params.labels.fraction,
            "replay_policy": params.replay.policy,
        }
        inputs = {f"run-{run.name}": run.evaluation for run in runs}
        inputs |= {f"reference-{reference.name}": reference.evaluation for reference in references}
        for of_run in steps.values():
            inputs |= of_run
        inputs["shards"] = self.shards
        node_params = {
            "report": dataclasses.asdict(params.report),
            "runs": points,
            "references": points_of_references,
            "specialists": params.grid.specialists,
            "classes": list(self.facts.classes),
            "tasks": self.tasks,
            "context": context,
            # For the data card. How a shard is stored is no part of its identity, nor in which
            # words its tasks were asked for.
            "data": {
                "dataset": {
                    name: value for name, value in self._dataset().items() if name != "compression"
                },
                "labels": self._labels(),
            },
        }
        code = (("kaizen.report.node",), ("matplotlib", "numpy", "pyarrow"))
        identities = self._test_identities()
        return self._node(
            "summary", "summary: tables, figures and cards", node_params, inputs, code, identities
        )


def variant_switches(params: Params, name: str) -> VariantParams:
    """The switches of a variant: those written in params, else the built-in ones."""
    return params.variants[name] if name in params.variants else VARIANTS[name]


def _feature_distill(params: Params, method: str) -> dict[str, Any]:
    """The feature distillation of a method: the distiller and weight resolved, without the other
    distillers' own.
    """
    feature = dataclasses.asdict(params.distill.feature)
    if feature["distiller"] == "auto":
        feature["distiller"] = registry.SSL_METHODS[method].distiller
    if feature["weight"] is None:
        feature["weight"] = registry.FEATURE_DISTILLERS[feature["distiller"]].weight
    for other in registry.FEATURE_DISTILLERS.keys() - {feature["distiller"]}:
        feature.pop(other, None)
    return feature


def _compute(step: Node) -> dict[str, Any]:
    """Where and how a job that uses a step's model computes: as the step did."""
    train: dict[str, Any] = step.params["train"]
    return {name: train[name] for name in ("threads", "device", "precision")}


def _step_inputs(steps: Sequence[Node]) -> dict[str, Node]:
    return {f"step-{task:02d}": node for task, node in enumerate(steps)}
