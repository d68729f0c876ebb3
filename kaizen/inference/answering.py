"""What every model in use can do, whether torch computes it or an exported file. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from kaizen.inference.images import Images, OneImage

BATCH_SIZE = 64


class Answering(Protocol):
    """A model that answers: `kaizen.inference.model.Model`, or an `ExportedModel`.

    ``classes`` are the names of the K classes seen so far, in the order of the probabilities;
    ``key`` is the step's.
    """

    classes: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key of the step that made the model."""

    def facts(self) -> dict[str, Any]:
        """What the model is, as JSON (`kaizen.inference.facts.ModelFacts`)."""

    def identity(self) -> dict[str, str]:
        """What decides the bits of its answers: a hash of the model, device and precision."""

    def prepare_numpy(self, image: OneImage, name: str = "an image") -> np.ndarray:
        """What the model sees of one image of any kind: float32 or uint8 [C, size, size], the same
        shape for every image. Raises KaizenError, which names ``name``, where it is no image.
        """

    def answer(self, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32 [N, K] and features float32 [N, F] of prepared images [N, C, size,
        size]. Several threads may ask at once.
        """

    def predict(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Any:
        """The classes of images: N names, and probabilities [N, K]."""

    def embed(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Any:
        """The features of images: [N, F]."""
