"""What the embedder tells Prometheus beside its batchers."""

from prometheus_client import Gauge

MODELS = Gauge("sirdar_embedder_models", "Models by state.", ["state"])
