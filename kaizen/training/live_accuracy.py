"""How often a step's model is right on a sample of test images while it trains, for those who watch
it (`runtime.live_accuracy`).

No key and no byte of the step depends on it: it draws nothing at random, leaves no trace in the
model, and what it finds stands in the epochs' rows alone. The test shard lies beside the training
shard that the step reads anyway; where it cannot be used the step says so once, and trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kaizen.compute import distributed
from kaizen.compute.device import Compute
from kaizen.data.names import shard_file
from kaizen.data.shards import shard_info
from kaizen.errors import KaizenError
from kaizen.models.feature_classifier import FeatureClassifier
from kaizen.params import ImageParams
from kaizen.plan import roles
from kaizen.plan.job import Job
from kaizen.plan.specs import StepSpec
from kaizen.store.store import Store
from kaizen.views.augment import evaluation_transform
from kaizen.views.decode import load_shard

# Of a forward pass. Small, as a step's memory may be nearly full.
_BATCH_SIZE = 128


class LiveAccuracy:
    """Tries a model on test images that stay the same."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        image: ImageParams,
        compute: Compute,
        alarm: Callable[[str], None],
    ) -> None:
        """Take images uint8 [N, C, H, W] and labels int64 [N], on the CPU; ``alarm`` is told where
        there is no memory for it.
        """
        self.images, self.labels = images, labels
        self._image, self._compute, self._alarm = image, compute, alarm
        self._lacks_memory = False

    def __call__(self, model: FeatureClassifier) -> float | None:
        """The share of the images that ``model`` is right on, among all its classes; None where
        there is no memory for it. The model stays as it is, training mode and batch norms included.
        """
        if self._lacks_memory:
            return None
        try:
            with torch.no_grad(), _as_evaluated(model.encoder, model.classifier):
                return self._share(model)
        except torch.OutOfMemoryError:
            self._lacks_memory = True
            self._alarm("note: runtime.live_accuracy: the GPU has no memory for it; it ends here")
            return None

    def _share(self, model: FeatureClassifier) -> float:
        right = 0
        parts = zip(self.images.split(_BATCH_SIZE), self.labels.split(_BATCH_SIZE), strict=True)
        for images, labels in parts:
            inputs = evaluation_transform(images.to(self._compute.device), self._image)
            with self._compute.autocast():
                # Not by a call: of a shared encoder that would wait for the other processes.
                features = model.encoder.forward(
                    inputs.contiguous(memory_format=torch.channels_last)
                )
                logits = model.classifier(features).float()
            right += int((model.predicted(logits).cpu() == labels).sum())
        return right / len(self.labels)


def live_accuracy(
    job: Job[StepSpec], store: Store, compute: Compute, alarm: Callable[[str], None]
) -> Callable[[FeatureClassifier], float | None]:
    """What tries the step of ``job`` on about as many test images of its tasks as its `local` says,
    of each class its share; nothing where it says none, in all processes but the first, and where
    ``alarm`` is told why there are none.
    """
    wanted = job.local.live_accuracy
    if not wanted or distributed.rank() != 0:
        return _untried
    try:
        images, labels = _sample(job, store, wanted)
        if not len(labels):
            raise KaizenError("the step's task has no test image with a label")
    except KaizenError as error:
        alarm(f"note: runtime.live_accuracy: {error}; the step does without")
        return _untried
    return LiveAccuracy(images, labels, job.spec.image, compute, alarm)


def _untried(model: FeatureClassifier) -> None:
    return None


def _sample(job: Job[StepSpec], store: Store, wanted: int) -> tuple[Tensor, Tensor]:
    """Test images of the step's tasks, whole and in the evaluation's way, and their labels."""
    paths = []
    for task in job.spec.tasks:
        node, name = roles.shards_of(job.inputs, task), shard_file(task, "test")
        entry, path = store.read_record(node).files.get(name), store.folder(node) / name
        # Unlike an input's, a fault of this file is for those to treat who need it.
        if wrong := "is not there" if entry is None else entry.mismatch(path):
            raise KaizenError(f"{path} {wrong}")
        paths.append(path)
    fraction = min(1.0, wanted / max(1, sum(shard_info(path).rows for path in paths)))
    parts = [load_shard(path, job.spec.image, fraction, labelled=True) for path in paths]
    images = torch.cat([torch.from_numpy(images) for images, _ in parts])
    return images, torch.cat([torch.from_numpy(labels) for _, labels in parts])


@contextmanager
def _as_evaluated(*parts: nn.Module) -> Iterator[None]:
    """Let modules be in evaluation mode, and then each in the mode that it was in."""
    modes = [(module, module.training) for part in parts for module in part.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
