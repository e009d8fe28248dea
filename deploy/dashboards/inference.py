"""Embedder and reranker: one batcher, so the same dashboard of each."""

from deploy.dashboards.board import NAMESPACE, Board, Choice, Panel, Query, Row
from deploy.dashboards.promql import mean, quantile, rate, selector, total

_OF_MODEL = 'model=~"$model"'
_QUEUE = "model, class"
_NAME = "{{model}} {{class}}"
_MODEL = Choice("model", "sirdar_inference_streams", "model")


def embedder() -> Board:
    models = Query(total(selector("sirdar_embedder_models"), by="state"), "{{state}}")
    says = "Loading, serving, failed and so on, over all embedders."
    return _board("embedder", "texts to vectors", [Panel("Models", says, [models])])


def reranker() -> Board:
    return _board("reranker", "pairs of query and passage to scores", [])


def _board(tier: str, what: str, more: list[Panel]) -> Board:
    return Board(
        f"sirdar-{tier}",
        f"Sirdar / {tier}",
        f"The {tier}, {what}: what waits, what is computed, what is given up.",
        [_work(tier), _waiting(tier), _batches(tier), _given_up(tier), _health(tier, more)],
        (NAMESPACE, _MODEL),
    )


def _rate(tier: str, metric: str, by: str = _QUEUE) -> str:
    return rate(f"sirdar_inference_{metric}", _OF_MODEL, by=by, tier=tier)


def _now(tier: str, metric: str, how: str = "sum") -> str:
    series = selector(f"sirdar_inference_{metric}", _OF_MODEL)
    return total(series, by=_QUEUE, tier=tier, how=how)


def _work(tier: str) -> Row:
    streams = total(selector("sirdar_inference_streams", _OF_MODEL), by="model", tier=tier)
    return Row(
        "Work",
        [
            Panel("Items", "Computed a second.", [Query(_rate(tier, "items_total"), _NAME)]),
            Panel(
                "Tokens",
                "Computed a second, padding not counted.",
                [Query(_rate(tier, "tokens_total"), _NAME)],
            ),
            Panel(
                "Busy",
                "Share of time that the engine's streams computed. Near 1 more replicas help.",
                [Query(f"{_rate(tier, 'busy_seconds_total', 'model')} / {streams}", "{{model}}")],
                unit="percentunit",
            ),
        ],
    )


def _waiting(tier: str) -> Row:
    wait = "sirdar_inference_wait_seconds"
    return Row(
        "What waits",
        [
            Panel(
                "Predicted wait",
                "How long the engine needs for what waits; the fullest process.",
                [Query(_now(tier, "queued_seconds", "max"), _NAME)],
                unit="s",
            ),
            Panel(
                "Items and tokens",
                "In the queue.",
                [
                    Query(_now(tier, "queued_items"), f"items {_NAME}"),
                    Query(_now(tier, "queued_tokens"), f"tokens {_NAME}"),
                ],
            ),
            Panel(
                "Wait",
                "From an item's arrival in the queue to its batch.",
                [
                    quantile(q, wait, _OF_MODEL, by=_QUEUE, tier=tier, legend=_NAME)
                    for q in (0.5, 0.99)
                ],
                unit="s",
            ),
        ],
    )


def _batches(tier: str) -> Row:
    padding = _rate(tier, "padding_tokens_total")
    return Row(
        "Batches",
        [
            Panel(
                "Items a batch",
                "In the mean.",
                [Query(mean("sirdar_inference_batch_rows", by=_QUEUE, tier=tier), _NAME)],
                share=6,
            ),
            Panel(
                "Time of a batch",
                "Of the engine, in the mean.",
                [Query(mean("sirdar_inference_batch_seconds", by=_QUEUE, tier=tier), _NAME)],
                unit="s",
                share=6,
            ),
            Panel(
                "Why batches closed",
                "Full; slice: kept small for other work; length: the rest did not fit in length; "
                "drained: nothing else waited.",
                [Query(_rate(tier, "batches_total", "class, closed"), "{{class}} {{closed}}")],
                unit="ops",
                share=6,
            ),
            Panel(
                "Padding",
                "Share of the computed tokens that is padding.",
                [Query(f"{padding} / ({padding} + {_rate(tier, 'tokens_total')})", _NAME)],
                unit="percentunit",
                share=6,
            ),
        ],
    )


def _given_up(tier: str) -> Row:
    return Row(
        "What is given up",
        [
            Panel(
                "Dropped",
                "Shed: the queue was full; hopeless: the deadline too near; expired and cancelled "
                "while they waited; failed.",
                [Query(_rate(tier, "dropped_items_total", "class, why"), "{{class}} {{why}}")],
                unit="ops",
            ),
            Panel(
                "Wasted",
                "Share of tokens computed for callers that had given up.",
                [
                    Query(
                        f"{_rate(tier, 'wasted_tokens_total')} / {_rate(tier, 'tokens_total')}",
                        _NAME,
                    )
                ],
                unit="percentunit",
            ),
            Panel(
                "Cut",
                "Share of items that were longer than the model's window.",
                [
                    Query(
                        f"{_rate(tier, 'truncated_items_total')} / {_rate(tier, 'items_total')}",
                        _NAME,
                    )
                ],
                unit="percentunit",
            ),
        ],
    )


def _health(tier: str, more: list[Panel]) -> Row:
    parity = selector("sirdar_inference_parity_min_cosine", _OF_MODEL)
    calls = rate("sirdar_grpc_requests_total", f'tier="{tier}"', by="method, code")
    return Row(
        "Health",
        [
            Panel(
                "Calls",
                "By method and status.",
                [Query(calls, "{{method}} {{code}}")],
                unit="reqps",
            ),
            Panel(
                "Parity",
                "Lowest agreement with sentence-transformers in fp32, taken before it served.",
                [Query(total(parity, by="model", tier=tier, how="min"), "{{model}}")],
            ),
            Panel(
                "Out of memory",
                "Batches that did not fit in the engine's memory and were halved.",
                [Query(_rate(tier, "out_of_memory_total", "model"), "{{model}}")],
                unit="ops",
            ),
            *more,
        ],
    )
