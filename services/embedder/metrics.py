"""What the embedder tells Prometheus beside its batchers."""

from prometheus_client import Counter, Gauge

TRUNCATED = Counter(
    "sirdar_embedder_truncated_texts_total",
    "Texts that were longer than the model's window and were cut.",
    ["model"],
)
MODELS = Gauge("sirdar_embedder_models", "Models by state.", ["state"])
