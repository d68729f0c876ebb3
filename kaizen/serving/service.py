"""What a request becomes: images decoded by threads, a batch with others', an answer that names the
model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kaizen.errors import KaizenError
from kaizen.files import tell
from kaizen.serving.batching import Batcher
from kaizen.serving.collection import Collection, CollectionFull
from kaizen.serving.figures import Figures
from kaizen.serving.limits import Limits
from kaizen.serving.served import Deployment, Served
from kaizen.serving.uploads import Asked, Recent, Refused, Upload, suffix_of

Info = Callable[[], dict[str, Any]]


class Service:
    """What answers requests: the deployment's model, threads that decode, batches. ``info`` gives
    what /info says; ``collection`` is None where nothing is collected.
    """

    def __init__(
        self,
        deployment: Deployment,
        limits: Limits,
        figures: Figures,
        info: Info,
        collection: Collection | None,
    ) -> None:
        """Start the threads; see `close`."""
        self.deployment, self.limits, self.figures = deployment, limits, figures
        self.info, self.collection, self.recent = info, collection, Recent()
        room = limits.max_requests * limits.max_images
        self.batcher = Batcher(limits.batch_size, limits.max_wait, room, figures.batches.observe)
        self.decoders = ThreadPoolExecutor(limits.workers, "decode")
        # Not the decoders: what waits for a disk must not keep images waiting.
        self.others = ThreadPoolExecutor(2, "other")

    def close(self) -> None:
        """Finish what is under way, and end the threads."""
        self.decoders.shutdown()
        self.others.shutdown(cancel_futures=True)
        self.batcher.close()

    async def compute(self, asked: Asked) -> tuple[Served, np.ndarray, np.ndarray, list[str]]:
        """The model that answers, its probabilities [N, K] and features [N, F] of a request's
        images, and the suffixes of their kinds. Raises KaizenError where one is no image.
        """
        served = self.deployment.current

        def prepare(upload: Upload) -> tuple[np.ndarray, str]:
            suffix = suffix_of(upload, self.limits.max_pixels)
            return served.model.prepare_numpy(upload.data, upload.name), suffix

        loop = asyncio.get_running_loop()
        self.batcher.expect(1)
        try:
            jobs = [loop.run_in_executor(self.decoders, prepare, one) for one in asked.images]
            try:
                prepared = await asyncio.gather(*jobs)
            finally:
                for job in jobs:
                    job.cancel()
            answer = self.batcher.submit(served.model, np.stack([one for one, _ in prepared]))
        finally:
            self.batcher.expect(-1)
        try:
            probabilities, features = await asyncio.wrap_future(answer)
        except KaizenError as error:
            # The images are whole: it is the model that fails.
            raise RuntimeError(str(error)) from error
        if not (np.isfinite(probabilities).all() and np.isfinite(features).all()):
            raise Refused(500, "the model answers what is no number for one of these images")
        return served, probabilities, features, [suffix for _, suffix in prepared]

    async def predict(self, asked: Asked) -> dict[str, Any]:
        """What /predict answers."""
        top = asked.top()
        served, probabilities, _, suffixes = await self.compute(asked)
        classes = served.model.classes
        answers = []
        for upload, shares, suffix in zip(asked.images, probabilities, suffixes, strict=True):
            places = np.argsort(-shares, kind="stable")[:top]
            found = [{"class": classes[p], "probability": _number(shares[p])} for p in places]
            answer: dict[str, Any] = {"name": upload.name, **found[0], "top": found}
            if self.collection is not None:
                answer["id"] = self.recent.keep(upload, suffix)
            answers.append(answer)
        return {"model": served.named(), "answers": answers}

    async def embed(self, asked: Asked) -> dict[str, Any]:
        """What /embed answers."""
        served, _, features, _ = await self.compute(asked)
        answers = [
            {"name": upload.name, "features": [_number(value) for value in row]}
            for upload, row in zip(asked.images, features, strict=True)
        ]
        return {"model": served.named(), "answers": answers}

    async def take_feedback(self, asked: Asked) -> dict[str, Any]:
        """What /feedback does: keep an image, with its class or without."""
        collection = self.collection
        if collection is None:
            raise Refused(404, "this server collects nothing; start it with --collect FOLDER")
        label, name = asked.text("label"), asked.text("id")
        if (name is None) == (not asked.images) or len(asked.images) > 1:
            raise Refused(400, "give one image, or the id of an answer")
        served = self.deployment.current
        if name is not None:
            upload, suffix = self.recent.find(name)
        else:
            (upload,) = asked.images

        def keep() -> str:
            kind = suffix if name is not None else suffix_of(upload, self.limits.max_pixels)
            # What cannot be decoded would be refused when it arrives.
            served.model.prepare_numpy(upload.data, upload.name)
            try:
                return collection.add(upload.data, kind, label, served.model.classes)
            except KaizenError as error:
                if not isinstance(error.__cause__, OSError):
                    raise
                tell(error)  # where this server keeps things is nothing for a client
                raise Refused(507, "the image cannot be kept; the server's log says why") from error

        try:
            kept = await asyncio.get_running_loop().run_in_executor(self.others, keep)
        except CollectionFull as error:
            raise Refused(507, str(error)) from error
        self.figures.feedback.inc()
        return {"kept": kept, "label": label}


def _number(value: np.floating[Any]) -> float:
    """A number with the digits that a float32 needs, and no more."""
    return float(f"{value:.9g}")
