"""A classifier that grows with the classes seen: which label has which logit, what is carried over,
what is read.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from project import CLASSES, Project, make_project
from torch import nn

from kaizen.compute.device import choose_compute
from kaizen.errors import Interrupted, KaizenError
from kaizen.jobs.make import run_job
from kaizen.models.feature_classifier import Architecture, build_feature_classifier, load_weights
from kaizen.models.heads import classifier, without_last_outputs
from kaizen.params import FeatureDistillParams, ModelParams, SimCLRParams
from kaizen.plan.job import read_job
from kaizen.ssl.base import Moment
from kaizen.training.objective import Objective
from kaizen.training.reporter import PlainReporter
from kaizen.training.step import logit_positions
from kaizen.training.student import ContinualModel, build_model, frozen_copy
from kaizen.training.terms import TERMS

COMPUTE = choose_compute("cpu", "float32", 1)
START = Moment(0, 1, 0)
SOURCE = Path("prior/model.safetensors")


def model_of(logits: int, seed: int = 0, hidden: tuple[int, ...] = (8,)) -> ContinualModel:
    ssl = SimCLRParams(projector_hidden=16, projector_out=8)
    distill = FeatureDistillParams(distiller="contrastive", predictor_hidden=12)
    model = ModelParams(width=4, classifier_hidden=list(hidden))
    architecture = Architecture(model=model, channels=3, logits=logits, seed=seed)
    return build_model(architecture, "simclr", ssl, distill)


def views_of(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.randn(
        count, 3, 8, 8, generator=generator
    )


def objective(logits: list[int] | None, classifier_weight: float | None = None) -> Objective:
    return Objective(None, classifier_weight, 1.0, False, logit_positions(logits, COMPUTE))


def test_a_label_is_trained_on_its_own_logit_and_unlabelled_rows_on_none() -> None:
    student = model_of(3).train()
    labels = torch.tensor([7, 2, -1, 5, 2, 7])
    _, terms = objective([7, 2, 5])(
        student, None, views_of(), labels, compute=COMPUTE, moment=START
    )
    student = model_of(3).train()
    places = torch.tensor([0, 1, -1, 2, 1, 0])
    expected = sum(
        F.cross_entropy(student.classifier(student.encoder(view)), places, ignore_index=-1).item()
        for view in views_of()
    )
    assert terms[TERMS.index("L_C_CT")].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("stranger", [1, 6, 8])
def test_a_label_without_a_logit_is_not_taken_for_another(stranger: int) -> None:
    with pytest.raises(IndexError):
        objective([7, 2, 5])(
            model_of(3).train(),
            None,
            views_of(),
            torch.tensor([7, 2, stranger, 5, 2, 7]),
            compute=COMPUTE,
            moment=START,
        )


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_the_teacher_is_the_prior_model(hidden: tuple[int, ...]) -> None:
    prior = model_of(3, seed=1, hidden=hidden).eval()
    student = model_of(5, seed=2, hidden=hidden)
    load_weights(student, prior.state_dict(), SOURCE, new_logits=2)
    teacher = frozen_copy(student, train_mode=False, new_logits=2)
    images = views_of()[0]
    with torch.no_grad():
        expected = prior.classifier(prior.encoder(images))
        found = teacher.classifier(teacher.encoder(images))
        grown = student.eval().classifier(student.encoder(images))
    assert grown.shape == (6, 5)
    torch.testing.assert_close(grown[:, :3], expected)
    # Its batch norms are folded, which rounds otherwise.
    torch.testing.assert_close(found, expected)
    for name, value in teacher.classifier.state_dict().items():
        assert torch.equal(value, prior.classifier.state_dict()[name]), name
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_smaller_checkpoint_leaves_the_new_rows_at_their_initial_weights() -> None:
    prior, fresh, student = model_of(3, seed=1), model_of(5, seed=2), model_of(5, seed=2)
    load_weights(student, prior.state_dict(), SOURCE, new_logits=2)
    for name, value in student.state_dict().items():
        old, initial = prior.state_dict()[name], fresh.state_dict()[name]
        if name in ("classifier.2.weight", "classifier.2.bias"):
            assert torch.equal(value[:3], old) and torch.equal(value[3:], initial[3:]), name
            assert value[3:].abs().sum() > 0
        else:
            assert torch.equal(value, old), name


@pytest.mark.parametrize("new_logits", [0, 1, 3])
def test_a_checkpoint_of_another_size_than_the_plan_says_is_refused(new_logits: int) -> None:
    with pytest.raises(
        KaizenError, match=r"prior/model\.safetensors: tensor classifier\.2\.\w+ has shape"
    ):
        load_weights(model_of(5), model_of(3).state_dict(), SOURCE, new_logits=new_logits)


def test_cutting_logits_keeps_type_and_leaves_the_random_state_alone() -> None:
    head = classifier(4, [3], 5).double()
    features = torch.rand(2, 4, dtype=torch.float64)
    expected = head(features)[:, :3]
    state = torch.random.get_rng_state()
    without_last_outputs(head, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(head(features), expected)
    assert head[-1].out_features == 3


def test_the_classifier_is_distilled_on_the_logits_that_the_teacher_knows() -> None:
    student, teacher = (
        model_of(5, seed=2).train(),
        frozen_copy(model_of(5, seed=1), False, new_logits=2),
    )
    labels = torch.full((6,), -1)
    total, terms = objective([7, 2, 5, 1, 0], 2.0)(
        student, teacher, views_of(), labels, compute=COMPUTE, moment=START
    )
    total.backward()
    last = student.classifier[-1]
    assert isinstance(last, nn.Linear)
    weight, bias = last.weight.grad, last.bias.grad
    assert weight is not None and bias is not None
    # Nothing in the batch speaks of the new logits.
    assert weight[3:].abs().sum() == bias[3:].abs().sum() == 0
    assert all(row.abs().sum() > 0 for row in weight[:3])
    student = model_of(5, seed=2).train()
    losses = []
    for view in views_of():
        log_p = student.classifier(student.encoder(view))[:, :3].log_softmax(dim=1)
        losses.append(
            -(teacher.classifier(teacher.encoder(view)).softmax(dim=1) * log_p)
            .sum(dim=1)
            .mean()
            .item()
        )
    assert terms[TERMS.index("L_C_KD")].item() == pytest.approx(sum(losses) / 2, rel=1e-6)


# -- end to end --------------------------------------------------------------------------------

VARIANTS = ["kaizen", "cassle", "no_distill", "joint"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny experiment with a growing classifier, finished: 2 tasks of 2 classes."""
    changes = {
        "model.classifier_head": "growing",
        "grid.variants": VARIANTS,
        "train.epochs": 4,
        "train.lr": 1.0,
    }
    project = make_project(tmp_path_factory.mktemp("growing") / "project", changes)
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    return project


def published(project: Project, variant: str, name: str) -> Path:
    (path,) = project.root.glob(f"results/*/simclr-{variant}*/{name}")
    return path


def predictions(project: Project, variant: str, step: int) -> dict[int, list[int]]:
    """Label -> labels predicted for its test images, from checkpoint, record and PNG files
    alone.
    """
    folder = published(project, variant, f"step-{step:02d}")
    params = json.loads((folder / "node.json").read_text())["params"]
    parts = ModelParams(width=4, classifier_hidden=[8])
    model = build_feature_classifier(
        Architecture(model=parts, channels=3, logits=len(params["logits"]), seed=0)
    )
    load_weights(model, safetensors.torch.load_file(folder / "model.safetensors"), folder)
    model.eval()
    found: dict[int, list[int]] = {}
    for label, name in enumerate(CLASSES):
        paths = sorted((project.images / "test" / name).glob("*.png"))
        pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
        with torch.no_grad():
            logits = model.classifier(
                model.encoder((torch.from_numpy(pixels).float() / 255 - 0.5) / 0.25)
            )
        found[label] = [params["logits"][place] for place in logits.argmax(dim=1).tolist()]
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_accuracies_are_those_of_the_labels_behind_the_logits(
    project: Project, variant: str
) -> None:
    matrix = json.loads(published(project, variant, "accuracy.json").read_text())["matrices"][
        "classifier"
    ]
    steps = 1 if variant == "joint" else 2
    tasks = json.loads(published(project, "kaizen", "step-01/node.json").read_text())["params"][
        "logits"
    ]
    for step in range(steps):
        found = predictions(project, variant, step)
        for task, labels in enumerate((tasks[:2], tasks[2:])):
            right = [guess == label for label in labels for guess in found[label]]
            assert matrix[step][task] == pytest.approx(np.mean(right)), (step, task)
    if variant == "joint":
        assert matrix[1] == matrix[0]
    else:
        assert matrix[0][1] == 0.0, "a class that was not seen is never predicted"


@pytest.mark.parametrize("variant", VARIANTS[:3])
def test_the_checkpoint_grows_with_the_classes(project: Project, variant: str) -> None:
    sizes = []
    for step in range(2):
        folder = published(project, variant, f"step-{step:02d}")
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        params = json.loads((folder / "node.json").read_text())["params"]
        sizes.append(
            (*tensors["classifier.2.weight"].shape, len(params["logits"]), params.get("new_logits"))
        )
    assert sizes == [(2, 8, 2, None), (4, 8, 4, 2)]


def test_evaluation_gives_unseen_classes_no_chance(project: Project) -> None:
    """Even to a model whose logits are all far below zero."""
    from kaizen.evaluation.run import Evaluator
    from kaizen.store.store import Store

    specs = json.loads(project.kaizen("plan", "--json").output)["nodes"]
    spec = next(
        spec for spec in specs if spec["kind"] == "evaluation" and "step-01" in spec["inputs"]
    )
    evaluator = Evaluator(read_job(spec, "the plan"), Store(project.store.root), COMPUTE)
    model = evaluator.models.load("step-00")
    last = model.classifier[-1]
    assert isinstance(last, nn.Linear) and model.labels is not None
    with torch.no_grad():
        last.bias.fill_(-1e30)
    seen = set(model.labels)
    assert len(seen) == 2
    for predicted in evaluator.predictions(model, evaluator.show(model), [0])["classifier"]:
        assert set(predicted.tolist()) <= seen


def test_a_growing_step_resumes_at_any_batch_to_the_same_bytes(
    project: Project, tmp_path: Path
) -> None:
    again = project.copy(tmp_path / "again")
    specs: list[dict[str, Any]] = json.loads(again.kaizen("plan", "--json").output)["nodes"]
    (step,) = (
        s
        for s in specs
        if s["kind"] == "step" and "prior" in s["inputs"] and "replay" in s["inputs"]
    )
    job = read_job(step, "the plan")
    folder = again.store.folder(job.id)
    expected = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"
    }
    shutil.rmtree(folder)
    for _ in range(7):
        with pytest.raises(Interrupted, match="the same command resumes it"):
            run_job(job, again.store, PlainReporter("test", None, None), stop=lambda: True)
    run_job(job, again.store, PlainReporter("test", None, None))
    assert {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"
    } == expected
