"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from kaizen.serving.served import Deployment

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Figures:
    """The counters of one server."""

    def __init__(self, deployment: Deployment) -> None:
        """Make them; those of swaps follow ``deployment``."""
        self._deployment = deployment
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "kaizen_requests", "Requests answered", ["path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "kaizen_request_seconds",
            "Time from a request's head to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "kaizen_batch_images",
            "Images computed together",
            buckets=_IMAGES,
            registry=self._registry,
        )
        self.under_way = Gauge(
            "kaizen_requests_under_way", "Requests being answered", registry=self._registry
        )
        self.feedback = Counter(
            "kaizen_feedback", "Images kept with feedback", registry=self._registry
        )
        self._swaps = Gauge(
            "kaizen_model_swaps", "Models taken over since the start", registry=self._registry
        )
        self._rollbacks = Gauge(
            "kaizen_model_rollbacks", "Rollbacks since the start", registry=self._registry
        )
        self._refused = Gauge(
            "kaizen_model_refusals", "Models that were not taken", registry=self._registry
        )
        self._step = Gauge("kaizen_model_step", "The step that answers", registry=self._registry)
        self._classes = Gauge(
            "kaizen_model_classes", "Classes that the model knows", registry=self._registry
        )
        self._model = Info("kaizen_model", "The model that answers", registry=self._registry)

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        deployment = self._deployment
        current = deployment.current
        self._swaps.set(deployment.swaps)
        self._rollbacks.set(deployment.rollbacks)
        self._refused.set(deployment.refused)
        self._step.set(-1 if current.found.step is None else current.found.step)
        self._classes.set(len(current.model.classes))
        self._model.info({"key": current.model.key, "name": current.found.name})
        return generate_latest(self._registry)
