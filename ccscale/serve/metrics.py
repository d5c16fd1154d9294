"""The metrics of the service, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ccscale.serve.answer import Answer, Answerer

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Of one service."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.in_progress = Gauge(
            "ccscale_requests_in_progress", "Requests being answered.", registry=registry
        )
        self._requests = Counter(
            "ccscale_requests",
            "Requests, by route and status of HTTP.",
            ("route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "ccscale_request_seconds",
            "Time of a request that was answered, its body included.",
            buckets=SECONDS,
            registry=registry,
        )
        self._images = Counter(
            "ccscale_images", "Images: assigned, unassigned, or bad.", ("outcome",), registry=registry
        )
        self._batch = Histogram(
            "ccscale_batch_images", "Images in a batch of the network.", buckets=SIZES, registry=registry
        )
        self._network = Histogram(
            "ccscale_network_seconds", "Time of a batch in the network.", buckets=SECONDS, registry=registry
        )
        self._reloads = Counter(
            "ccscale_reloads", "New versions: loaded, or failed.", ("outcome",), registry=registry
        )
        self._serving = Info("ccscale_serving", "What is served.", registry=registry)

    def text(self) -> bytes:
        """Return all of them."""
        return generate_latest(self._registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(route, str(status)).inc()
        if status == 200:
            self._seconds.observe(seconds)

    def image(self, answer: Answer | None) -> None:
        """Count an image; None for one that cannot be decoded."""
        outcome = "bad" if answer is None else "assigned" if answer.id >= 0 else "unassigned"
        self._images.labels(outcome).inc()

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch of the network."""
        self._batch.observe(images)
        self._network.observe(seconds)

    def serving(self, answerer: Answerer) -> None:
        """Set the served version."""
        self._serving.info({"version": answerer.version, "clusters": str(answerer.clusters)})

    def reload(self, loaded: bool) -> None:
        """Count a new version that was loaded, or could not be."""
        self._reloads.labels("loaded" if loaded else "failed").inc()
