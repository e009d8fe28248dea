"""What the gateway tells Prometheus of its caches."""

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter(
    "sirdar_gateway_cache_answers_total",
    "Searches by what the caches did: bypassed, miss, exact_hit, semantic_hit or semantic_off;"
    " shared: misses that took the answer of an equal search that was under way.",
    ["outcome"],
)
LOOKUPS = Counter(
    "sirdar_gateway_cache_lookups_total",
    "Lookups in each store (memory, redis) by what was found: hit, miss, stale (from before a"
    " write), version (written by another version) or damaged.",
    ["store", "found"],
)
LOOKUP_SECONDS = Histogram(
    "sirdar_gateway_cache_lookup_seconds",
    "What an answer waits for: the position of a collection, or Redis.",
    ["step"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1),
)
MEMORY_BYTES = Gauge("sirdar_gateway_cache_memory_bytes", "Answers kept in process.")
EVICTIONS = Counter(
    "sirdar_gateway_cache_evictions_total", "Answers dropped in process, for room or for age."
)
REDIS_FAULTS = Counter(
    "sirdar_gateway_cache_redis_faults_total",
    "timeout: it did not answer in time; error: it failed, is gone or answered what makes no sense;"
    " refused: it refused to keep an answer, as it is full or a replica; dropped: an answer was not"
    " written, as too many waited.",
    ["kind"],
)
REDIS_UP = Gauge(
    "sirdar_gateway_cache_redis_up",
    "1 while Redis is used, 0 while it is left out and probed.",
    ["address"],
)
SEMANTIC_OVERLAP = Histogram(
    "sirdar_gateway_cache_semantic_overlap",
    "Of sampled semantic hits: the share of results that a real search has, too.",
    ["tenant", "collection"],
    buckets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
SEMANTIC_FALSE_HITS = Gauge(
    "sirdar_gateway_cache_semantic_false_hits_ratio",
    "Share of false hits among sampled semantic hits; bound: estimate, low or high end of a 95 %"
    " interval.",
    ["tenant", "collection", "bound"],
)
SEMANTIC_SERVING = Gauge(
    "sirdar_gateway_cache_semantic_serving",
    "1 while the semantic cache answers for the collection, 0 while it turned itself off.",
    ["tenant", "collection"],
)
SEMANTIC_DROPPED = Counter(
    "sirdar_gateway_cache_semantic_samples_dropped_total",
    "Samples that were not searched for real: too many waited, the search failed, or there was a"
    " write meanwhile.",
)

# Counted from zero: a rate does not see the first of what was not there before.
for _outcome in ("bypassed", "miss", "exact_hit", "semantic_hit", "semantic_off", "shared"):
    ANSWERS.labels(_outcome)
for _kind in ("timeout", "error", "refused", "dropped"):
    REDIS_FAULTS.labels(_kind)
