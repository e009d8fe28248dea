"""Is it well, and if not, where to look."""

from deploy.dashboards.board import Board, Panel, Query, Row
from deploy.dashboards.promql import quantile, rate, selector, total

_SEARCHES = ['tier="gateway"', 'service="sirdar.v1.SearchService"', 'method=~".*Search"']
# What the caller did wrong, or took back, is no failure of ours.
_FAILED = 'code=~"UNKNOWN|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|UNAVAILABLE|DATA_LOSS"'
_TIERS = "gateway|embedder|retriever|reranker"


def overview() -> Board:
    return Board(
        "sirdar-overview",
        "Sirdar / overview",
        "All tiers: what callers see first, then what it comes from.",
        [_well(), _traffic(), _search(), _saturation(), _processes()],
    )


def _well() -> Row:
    calls = "sirdar_grpc_requests_total"
    searches = rate(calls, *_SEARCHES)
    return Row(
        "Is it well?",
        [
            Panel(
                "Searches",
                "Over gRPC, a second; a stream of searches counts once.",
                [Query(searches)],
                unit="reqps",
                tile=True,
                share=4,
            ),
            Panel(
                "Failed searches",
                "Share of searches that failed by our fault or for overload.",
                [Query(f"({rate(calls, *_SEARCHES, _FAILED)} or vector(0)) / {searches}")],
                unit="percentunit",
                tile=True,
                share=4,
                bad_from=0.001,
            ),
            Panel(
                "Search p99",
                "From the arrival at the gateway to the last byte.",
                [quantile(0.99, "sirdar_grpc_request_seconds", *_SEARCHES)],
                unit="s",
                tile=True,
                share=4,
                bad_from=1.0,
            ),
            Panel(
                "Degraded",
                "Stages that were skipped or cut, a search.",
                [Query(f"{rate('sirdar_gateway_stages_skipped_total')} / {searches}")],
                unit="percentunit",
                tile=True,
                share=4,
                bad_from=0.05,
            ),
            Panel(
                "Recall, at least",
                "The lowest lower end of the 99.9 % intervals of live recall.",
                [Query(total(selector("sirdar_retriever_recall_low"), how="min"))],
                unit="percentunit",
                tile=True,
                share=4,
                bad_below=0.9,
            ),
            Panel(
                "Processes that serve",
                "By tier.",
                [Query(total(selector("sirdar_serving"), by="tier"), "{{tier}}")],
                tile=True,
                share=4,
                bad_below=1,
            ),
        ],
    )


def _traffic() -> Row:
    calls = "sirdar_grpc_requests_total"
    return Row(
        "Calls",
        [
            Panel(
                "Calls by tier",
                "Answered over gRPC, a second.",
                [Query(rate(calls, by="tier"), "{{tier}}")],
                unit="reqps",
            ),
            Panel(
                "Calls by status",
                "Of the gateway.",
                [Query(rate(calls, 'tier="gateway"', by="code"), "{{code}}")],
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "p99 by tier",
                "Of calls that are no streams of unbounded life.",
                [
                    quantile(
                        0.99,
                        "sirdar_grpc_request_seconds",
                        'method!~"Stream.*|Index.*|Watch.*|ServerReflectionInfo"',
                        by="tier",
                        legend="{{tier}}",
                    )
                ],
                unit="s",
            ),
        ],
    )


def _search() -> Row:
    stages = "sirdar_gateway_stage_seconds"
    skipped = rate("sirdar_gateway_stages_skipped_total", by="stage, reason")
    return Row(
        "Where the time of a search goes",
        [
            Panel(
                "p50 by stage",
                "The network to the tier included.",
                [quantile(0.5, stages, by="stage", legend="{{stage}}")],
                unit="s",
            ),
            Panel(
                "p99 by stage",
                "The network to the tier included.",
                [quantile(0.99, stages, by="stage", legend="{{stage}}")],
                unit="s",
            ),
            Panel(
                "Skipped or cut",
                "Stages a second, and why.",
                [Query(skipped, "{{stage}}: {{reason}}")],
                unit="ops",
            ),
        ],
    )


def _saturation() -> Row:
    lag = selector("sirdar_retriever_replica_lag_seconds")
    return Row(
        "What is full",
        [
            Panel(
                "Predicted wait for a model",
                "How long the engine needs for what waits, by class.",
                [
                    Query(
                        total(
                            selector("sirdar_inference_queued_seconds"),
                            by="model, class",
                            how="max",
                        ),
                        "{{model}} {{class}}",
                    )
                ],
                unit="s",
            ),
            Panel(
                "Vectors without an index yet",
                "They are compared one by one; writes slow down when there are many.",
                [Query(total(selector("sirdar_retriever_unsealed_vectors"), by="instance"))],
            ),
            Panel(
                "Replica lag",
                "Time since a read replica was last known to show all committed writes; "
                "nothing without read replicas.",
                [Query(total(lag, by="instance", how="max"), "{{instance}}")],
                unit="s",
            ),
        ],
    )


def _processes() -> Row:
    ours = f'and on (instance) sirdar_serving{{tier=~"{_TIERS}"}}'

    def of_process(title: str, says: str, expression: str, unit: str) -> Panel:
        return Panel(title, says, [Query(f"{expression} {ours}", "{{instance}}")], unit=unit)

    cpu = f"rate({selector('process_cpu_seconds_total')}[$__rate_interval])"
    files = f"{selector('process_open_fds')} / {selector('process_max_fds')}"
    return Row(
        "Processes",
        [
            of_process("CPU", "Cores in use.", cpu, "short"),
            of_process(
                "Memory",
                "Resident. Mapped segments of a retriever count where they are in memory.",
                selector("process_resident_memory_bytes"),
                "bytes",
            ),
            of_process("Open files", "Of what the process may open.", files, "percentunit"),
        ],
    )
