"""What the batchers of a process tell Prometheus, by model and class."""

import contextlib
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from services.inference.batch import TokenizedItem
from services.inference.length_queue import Closed

_QUEUE = ["model", "class"]

QUEUED_ITEMS = Gauge("sirdar_inference_queued_items", "Items that wait for the engine.", _QUEUE)
QUEUED_TOKENS = Gauge("sirdar_inference_queued_tokens", "Tokens that wait.", _QUEUE)
QUEUED_SECONDS = Gauge(
    "sirdar_inference_queued_seconds",
    "How long the engine needs, by the cost model, for what waits.",
    _QUEUE,
)
WAIT_SECONDS = Histogram(
    "sirdar_inference_wait_seconds",
    "From a request's arrival in the queue to each batch that has items of it.",
    _QUEUE,
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BATCH_ROWS = Histogram(
    "sirdar_inference_batch_rows", "Items a batch.", _QUEUE, buckets=[2**n for n in range(11)]
)
BATCH_SECONDS = Histogram(
    "sirdar_inference_batch_seconds",
    "Time of the engine for a batch.",
    _QUEUE,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
BATCHES = Counter(
    "sirdar_inference_batches_total",
    "Batches by why they took no more: full, slice (kept small for other work), length "
    "(the rest did not fit in length), drained (nothing else waited).",
    [*_QUEUE, "closed"],
)
BUSY_SECONDS = Counter(
    "sirdar_inference_busy_seconds_total",
    "Time that streams of the engine computed; its rate over sirdar_inference_streams is the "
    "busy fraction.",
    _QUEUE,
)
STREAMS = Gauge("sirdar_inference_streams", "Batches that the engine computes at once.", ["model"])
ITEMS = Counter("sirdar_inference_items_total", "Items computed.", _QUEUE)
TOKENS = Counter("sirdar_inference_tokens_total", "Tokens computed, padding not counted.", _QUEUE)
PADDING = Counter("sirdar_inference_padding_tokens_total", "Padding computed in vain.", _QUEUE)
WASTED = Counter(
    "sirdar_inference_wasted_tokens_total",
    "Tokens computed for callers that had given up, or were told that it is too late.",
    _QUEUE,
)
TRUNCATED = Counter(
    "sirdar_inference_truncated_items_total", "Items cut at the model's window.", _QUEUE
)
DROPPED = Counter(
    "sirdar_inference_dropped_items_total",
    "Items refused because the queue is full (shed) or the deadline too near (hopeless), out of "
    "time in the queue (expired), given up (cancelled) or failed.",
    [*_QUEUE, "why"],
)
OUT_OF_MEMORY = Counter(
    "sirdar_inference_out_of_memory_total",
    "Batches that did not fit into the engine's memory and were halved.",
    ["model"],
)


class ClassMetrics:
    """The metrics of one model and class, looked up once."""

    def __init__(self, model: str, priority: str) -> None:
        self._labels = (model, priority)
        labels = self._labels
        self.queued_items = QUEUED_ITEMS.labels(*labels)
        self.queued_tokens = QUEUED_TOKENS.labels(*labels)
        self.queued_seconds = QUEUED_SECONDS.labels(*labels)
        self.wait_seconds = WAIT_SECONDS.labels(*labels)
        self.batch_rows = BATCH_ROWS.labels(*labels)
        self.batch_seconds = BATCH_SECONDS.labels(*labels)
        self.busy_seconds = BUSY_SECONDS.labels(*labels)
        self.items = ITEMS.labels(*labels)
        self.tokens = TOKENS.labels(*labels)
        self.padding = PADDING.labels(*labels)
        self.wasted_tokens = WASTED.labels(*labels)
        self.truncated = TRUNCATED.labels(*labels)
        self.closed = {reason: BATCHES.labels(*labels, reason.value) for reason in Closed}
        self.shed = DROPPED.labels(*labels, "shed")
        self.hopeless = DROPPED.labels(*labels, "hopeless")
        self.expired = DROPPED.labels(*labels, "expired")
        self.cancelled = DROPPED.labels(*labels, "cancelled")
        self.failed = DROPPED.labels(*labels, "failed")

    def count_batch(self, items: Sequence[TokenizedItem], width: float, seconds: float) -> None:
        """A batch of so many tokens an item that the engine computed in so many seconds."""
        tokens = sum(item.tokens for item in items)
        self.batch_rows.observe(len(items))
        self.batch_seconds.observe(seconds)
        self.busy_seconds.inc(seconds)
        self.items.inc(len(items))
        self.tokens.inc(tokens)
        # Of rows that are quite full the product may be a rounding error less.
        self.padding.inc(max(0.0, len(items) * width - tokens))
        truncated = sum(1 for item in items if item.truncated)
        if truncated:
            self.truncated.inc(truncated)

    def release(self) -> None:
        """Lets go of the queue that the gauges look at; counters stay for the last scrape."""
        gauges: tuple[MetricWrapperBase, ...] = (QUEUED_ITEMS, QUEUED_TOKENS, QUEUED_SECONDS)
        with contextlib.suppress(KeyError):
            for gauge in gauges:
                gauge.remove(*self._labels)
        with contextlib.suppress(KeyError):
            STREAMS.remove(self._labels[0])
