"""What the gateway tells Prometheus of its pipeline and of the tiers behind it."""

from prometheus_client import Counter, Histogram

STAGE_SECONDS = Histogram(
    "sirdar_gateway_stage_seconds",
    "Time of a stage of a search, the network to its tier included.",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
STAGES_SKIPPED = Counter(
    "sirdar_gateway_stages_skipped_total",
    "Stages that a search did without, or that were cut short, and why.",
    ["stage", "reason"],
)
