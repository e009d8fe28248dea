"""The retriever: searches, recall and words; what it holds is in `retriever_state`."""

from deploy.dashboards import retriever_state as state
from deploy.dashboards.board import NAMESPACE, Board, Choice, Panel, Query, Row
from deploy.dashboards.promql import mean, rate, selector, total
from deploy.dashboards.retriever_metrics import BY_COLLECTION, COLLECTION, NAME, both, held, metric

_VECTORS = metric("vectors")


def retriever() -> Board:
    return Board(
        "sirdar-retriever",
        "Sirdar / retriever",
        "Shards and what they are searched with; the store of record.",
        [
            _searches(),
            _filters(),
            _recall(),
            state.writes(),
            state.segments(),
            _lexical(),
            state.snapshots(),
            state.replicas(),
            state.store(),
            state.cluster(),
        ],
        (
            NAMESPACE,
            Choice("tenant", _VECTORS, "tenant"),
            Choice("collection", _VECTORS, "collection"),
        ),
    )


def _searches() -> Row:
    calls = rate("sirdar_grpc_requests_total", 'tier="retriever"', by="method, code")
    return Row(
        "Searches",
        [
            Panel(
                "Calls",
                "By method and status.",
                [Query(calls, "{{method}} {{code}}")],
                unit="reqps",
                share=6,
            ),
            Panel(
                "Time of a batch of queries",
                "By vectors, reading the passages included.",
                both("search_seconds"),
                unit="s",
                share=6,
            ),
            Panel(
                "Queries a batch",
                "In the mean: queries that wait together are searched together.",
                [Query(mean(metric("search_batch_queries")), "queries")],
                share=6,
            ),
            Panel(
                "Dropped",
                "Searches whose deadline passed while they waited.",
                [Query(rate(metric("searches_dropped_total")), "dropped")],
                unit="ops",
                share=6,
            ),
        ],
    )


def _filters() -> Row:
    plans = rate(metric("filtered_segment_searches_total"), by="plan")
    return Row(
        "Filters",
        [
            Panel(
                "Finding what meets a filter",
                "In all shards of a search.",
                both("filter_seconds"),
                unit="s",
            ),
            Panel(
                "Plans",
                "How segments were searched under a filter.",
                [Query(plans, "{{plan}}")],
                unit="ops",
            ),
            Panel(
                "Short walks",
                "Queries for which a walk found too little, and was made wider or replaced.",
                [Query(rate(metric("short_walks_total")), "short walks")],
                unit="ops",
            ),
        ],
    )


def _recall() -> Row:
    kind = f"{BY_COLLECTION}, index_kind, k"
    name = NAME + " {{index_kind}} @{{k}}"
    cpu = rate(metric("recall_cpu_seconds_total"))
    return Row(
        "Live recall",
        [
            Panel(
                "Recall",
                "Of live queries that were searched again exactly; the 99.9 % interval beside it.",
                [
                    Query(held("recall", "min", kind), name),
                    Query(held("recall_low", "min", kind), name + " low"),
                    Query(held("recall_high", "max", kind), name + " high"),
                ],
                unit="percentunit",
                share=12,
            ),
            Panel(
                "Samples",
                "Queries searched again a second, and the cores that it takes.",
                [
                    Query(
                        rate(metric("recall_samples_total"), *COLLECTION, by=BY_COLLECTION), NAME
                    ),
                    Query(cpu, "cores"),
                ],
                share=6,
            ),
            Panel(
                "Samples dropped",
                "Too many waited, or for too long.",
                [Query(rate(metric("recall_samples_dropped_total"), by="reason"), "{{reason}}")],
                unit="ops",
                share=6,
            ),
        ],
    )


def _lexical() -> Row:
    return Row(
        "Words",
        [
            Panel(
                "Time of a search",
                "By words, reading the passages included.",
                both("lexical_search_seconds"),
                unit="s",
                share=6,
            ),
            Panel(
                "Not searched yet",
                "Committed writes that searches by words do not see.",
                [Query(total(selector(metric("lexical_pending_writes")), by="instance"))],
                share=6,
            ),
            Panel(
                "Commits",
                "Of lexical indexes, fsyncs included; writers that are open.",
                [
                    *both("lexical_commit_seconds"),
                    Query(total(selector(metric("lexical_open_writers"))), "open writers"),
                ],
                share=6,
            ),
            Panel(
                "Size, failures, rebuilds",
                "Bytes on disk; writes that failed and are tried again; damaged indexes rebuilt.",
                [
                    Query(total(selector(metric("lexical_index_bytes"))), "bytes"),
                    Query(rate(metric("lexical_failures_total")), "failures"),
                    Query(rate(metric("lexical_rebuilds_total")), "rebuilds"),
                ],
                share=6,
            ),
        ],
    )
