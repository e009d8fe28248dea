"""What the batchers of a process tell Prometheus, by model."""

from prometheus_client import Counter, Gauge, Histogram

_QUEUE = ["model", "class"]

QUEUED_ITEMS = Gauge("sirdar_inference_queued_items", "Items that wait for the engine.", _QUEUE)
QUEUED_TOKENS = Gauge("sirdar_inference_queued_tokens", "Tokens that wait.", _QUEUE)
WAIT_SECONDS = Histogram(
    "sirdar_inference_wait_seconds",
    "From an item's arrival in the queue to its batch.",
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
ITEMS = Counter("sirdar_inference_items_total", "Items computed.", _QUEUE)
TOKENS = Counter("sirdar_inference_tokens_total", "Tokens computed, padding not counted.", _QUEUE)
PADDING = Counter("sirdar_inference_padding_tokens_total", "Padding computed in vain.", _QUEUE)
DROPPED = Counter(
    "sirdar_inference_dropped_items_total",
    "Items refused (shed), out of time (expired), given up (cancelled) or failed.",
    [*_QUEUE, "why"],
)


class ClassMetrics:
    """The metrics of one model and class, looked up once."""

    def __init__(self, model: str, priority: str) -> None:
        labels = (model, priority)
        self.queued_items = QUEUED_ITEMS.labels(*labels)
        self.queued_tokens = QUEUED_TOKENS.labels(*labels)
        self.wait_seconds = WAIT_SECONDS.labels(*labels)
        self.batch_rows = BATCH_ROWS.labels(*labels)
        self.batch_seconds = BATCH_SECONDS.labels(*labels)
        self.items = ITEMS.labels(*labels)
        self.tokens = TOKENS.labels(*labels)
        self.padding = PADDING.labels(*labels)
        self.shed = DROPPED.labels(*labels, "shed")
        self.expired = DROPPED.labels(*labels, "expired")
        self.cancelled = DROPPED.labels(*labels, "cancelled")
        self.failed = DROPPED.labels(*labels, "failed")
