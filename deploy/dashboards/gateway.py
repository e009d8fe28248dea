"""The gateway: its calls, its pipeline, the tiers behind it, its caches."""

from deploy.dashboards.board import Board, Panel, Query, Row
from deploy.dashboards.promql import mean, quantile, rate, selector, total


def gateway() -> Board:
    return Board(
        "sirdar-gateway",
        "Sirdar / gateway",
        "The search API: calls over gRPC and HTTP, stages, the tiers behind it, caches.",
        [_calls(), _http(), _tiers(), _cache(), _semantic()],
    )


def _calls() -> Row:
    gateway = 'tier="gateway"'
    return Row(
        "gRPC",
        [
            Panel(
                "Calls",
                "Answered, a second.",
                [Query(rate("sirdar_grpc_requests_total", gateway, by="method"), "{{method}}")],
                unit="reqps",
            ),
            Panel(
                "p50 and p99",
                "Of calls that are no streams of unbounded life.",
                [
                    quantile(
                        q,
                        "sirdar_grpc_request_seconds",
                        gateway,
                        'method!~"Stream.*|Index.*|ServerReflectionInfo"',
                        by="method",
                        legend="{{method}}",
                    )
                    for q in (0.5, 0.99)
                ],
                unit="s",
            ),
            Panel(
                "In flight",
                "Calls and streams being served.",
                [
                    Query(
                        total(selector("sirdar_grpc_requests_in_flight", gateway), by="method"),
                        "{{method}}",
                    )
                ],
            ),
        ],
    )


def _http() -> Row:
    return Row(
        "HTTP",
        [
            Panel(
                "Calls",
                "By route, a second.",
                [Query(rate("sirdar_http_requests_total", by="route"), "{{route}}")],
                unit="reqps",
            ),
            Panel(
                "Calls by status",
                "",
                [Query(rate("sirdar_http_requests_total", by="status"), "{{status}}")],
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "p99",
                "By route.",
                [quantile(0.99, "sirdar_http_request_seconds", by="route", legend="{{route}}")],
                unit="s",
            ),
        ],
    )


def _tiers() -> Row:
    at = "tier, address"
    return Row(
        "The tiers behind it",
        [
            Panel(
                "Calls in flight",
                "By server.",
                [
                    Query(
                        total(selector("sirdar_gateway_tier_calls_in_flight"), by=at),
                        "{{tier}} {{address}}",
                    )
                ],
            ),
            Panel(
                "Failures",
                "Calls that a server failed: away, far too slow, or an answer without sense.",
                [
                    Query(
                        rate("sirdar_gateway_tier_failures_total", by="tier, address, reason"),
                        "{{tier}} {{address}}: {{reason}}",
                    )
                ],
                unit="ops",
            ),
            Panel(
                "Open circuits",
                "1: the server is left alone after failures, but for a probe now and then.",
                [
                    Query(
                        total(selector("sirdar_gateway_tier_circuit_open"), by=at, how="max"),
                        "{{tier}} {{address}}",
                    )
                ],
            ),
            Panel(
                "Retries",
                "Spent, and refused for want of budget.",
                [
                    Query(
                        rate("sirdar_gateway_retries_total", by="tier, outcome"),
                        "{{tier}} {{outcome}}",
                    )
                ],
                unit="ops",
            ),
            Panel(
                "Hedges",
                "Second attempts at slow searches: sent, won, refused for want of budget.",
                [Query(rate("sirdar_gateway_hedges_total", by="outcome"), "{{outcome}}")],
                unit="ops",
            ),
            Panel(
                "Stages skipped or cut",
                "What answers were degraded by.",
                [
                    Query(
                        rate("sirdar_gateway_stages_skipped_total", by="stage, reason"),
                        "{{stage}}: {{reason}}",
                    )
                ],
                unit="ops",
            ),
        ],
    )


def _cache() -> Row:
    return Row(
        "Kept answers",
        [
            Panel(
                "Searches by what the caches did",
                "Shared: took the answer of an equal search that was under way.",
                [Query(rate("sirdar_gateway_cache_answers_total", by="outcome"), "{{outcome}}")],
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "Lookups",
                "By store and what was found; stale: from before a write.",
                [
                    Query(
                        rate("sirdar_gateway_cache_lookups_total", by="store, found"),
                        "{{store}} {{found}}",
                    )
                ],
                unit="ops",
            ),
            Panel(
                "What an answer waits for",
                "p99 of asking where the collection's writes stand, and of Redis.",
                [
                    quantile(
                        0.99, "sirdar_gateway_cache_lookup_seconds", by="step", legend="{{step}}"
                    )
                ],
                unit="s",
            ),
            Panel(
                "Memory",
                "Answers kept in process.",
                [
                    Query(
                        total(selector("sirdar_gateway_cache_memory_bytes"), by="instance"),
                        "{{instance}}",
                    )
                ],
                unit="bytes",
            ),
            Panel(
                "Evictions",
                "Answers dropped in process, for room or for age.",
                [Query(rate("sirdar_gateway_cache_evictions_total"))],
                unit="ops",
            ),
            Panel(
                "Redis",
                "Up: 1 while it is used (nothing where none is set). Faults a second by kind.",
                [
                    Query(
                        total(selector("sirdar_gateway_cache_redis_up"), how="min", by="instance"),
                        "up {{instance}}",
                    ),
                    Query(rate("sirdar_gateway_cache_redis_faults_total", by="kind"), "{{kind}}"),
                ],
            ),
        ],
    )


def _semantic() -> Row:
    of = "tenant, collection"
    name = "{{tenant}}/{{collection}}"
    return Row(
        "The semantic cache",
        [
            Panel(
                "False hits",
                "Share among sampled hits; low and high end of the 95 % interval beside it.",
                [
                    Query(
                        total(
                            selector("sirdar_gateway_cache_semantic_false_hits_ratio"),
                            by=f"{of}, bound",
                            how="max",
                        ),
                        name + " {{bound}}",
                    )
                ],
                unit="percentunit",
            ),
            Panel(
                "Overlap",
                "Of sampled hits: mean share of results that a real search has, too.",
                [Query(mean("sirdar_gateway_cache_semantic_overlap", by=of), name)],
                unit="percentunit",
            ),
            Panel(
                "Serving",
                "0: it turned itself off for the collection.",
                [
                    Query(
                        total(selector("sirdar_gateway_cache_semantic_serving"), by=of, how="min"),
                        name,
                    ),
                    Query(
                        rate("sirdar_gateway_cache_semantic_samples_dropped_total"),
                        "samples dropped a second",
                    ),
                ],
            ),
        ],
    )
