"""What the gateway tells Prometheus of its pipeline and of the tiers behind it."""

from prometheus_client import Counter, Gauge, Histogram

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
TIER_IN_FLIGHT = Gauge(
    "sirdar_gateway_tier_calls_in_flight",
    "Calls to a tier that are not answered yet.",
    ["tier", "address"],
)
CIRCUIT_OPEN = Gauge(
    "sirdar_gateway_tier_circuit_open",
    "1 while a tier is left alone after failures, but for a probe now and then.",
    ["tier", "address"],
)
TIER_FAILURES = Counter(
    "sirdar_gateway_tier_failures_total",
    "Calls that a tier failed: away, far too slow, or with an answer that makes no sense.",
    ["tier", "address", "reason"],
)
RETRIES = Counter(
    "sirdar_gateway_retries_total",
    "Calls to a tier made again, and those that were not for want of budget.",
    ["tier", "outcome"],
)
HEDGES = Counter(
    "sirdar_gateway_hedges_total",
    "Second attempts at a search that was slow: sent, won, and not sent for want of budget.",
    ["outcome"],
)
