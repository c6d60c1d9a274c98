"""What Prometheus reads at ``/metrics``: numbers by route, status and kind, never a text or a name.

Each application has a registry of its own.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one application."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "holdfast_requests", "Requests answered.", ["method", "route", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "holdfast_request_seconds", "Seconds until the first byte of an answer.", ["route"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._retrievals = Counter(
            "holdfast_retrievals", "Retrievals by what came of them.", ["door", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._calls = Counter(
            "holdfast_model_calls", "Calls of models by what became of them.",
            ["protocol", "outcome"], registry=self._registry,
        )  # fmt: skip
        self._tokens = Counter(
            "holdfast_model_tokens", "Tokens as the provider counted them.", ["direction"],
            registry=self._registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "holdfast_requests_in_flight", "Requests being answered.", registry=self._registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; ``route`` is a template, never a path."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def retrieved(self, door: str, status: str) -> None:
        """Count a retrieval: injected, none, degraded or failed."""
        self._retrievals.labels(door, status).inc()

    def called(
        self, protocol: str, outcome: str, input_tokens: int | None, output_tokens: int | None
    ) -> None:
        """Count a call of a model: answered, failed, cut off or left."""
        self._calls.labels(protocol, outcome).inc()
        self._tokens.labels("input").inc(input_tokens or 0)
        self._tokens.labels("output").inc(output_tokens or 0)

    def text(self) -> bytes:
        """Give everything in Prometheus' text form."""
        return generate_latest(self._registry)
