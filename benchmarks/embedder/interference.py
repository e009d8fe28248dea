"""Queries of people while a bulk stream takes all that is left."""

from functools import partial
from statistics import median

from benchmarks.embedder.bench import Bench
from benchmarks.embedder.client import paced_seconds, streamed_texts_per_second
from benchmarks.embedder.texts import messages, repeated
from benchmarks.harness.command import Figures
from benchmarks.harness.quantile import quantile

_CALLS_PER_SECOND = 20.0
_MESSAGE_TEXTS = 32
# Until the stream has filled the queue; queries begin then.
_WARM_SECONDS = 2.0


def bulk_loss(alone: float, beside: float, interactive_share: float) -> float:
    """What a stream lost beyond the share of the engine that queries used.

    `alone` and `beside` are texts a second without and with queries.
    """
    return 1 - beside / (alone * (1 - interactive_share))


def measure(bench: Bench) -> Figures:
    """What a bulk stream adds to the p99 of queries, and what queries take from the stream."""
    seconds = bench.scale.interference_seconds
    queries = repeated(bench.texts.short, round(_CALLS_PER_SECOND * seconds))
    bulk = messages(bench.texts.mixed, _MESSAGE_TEXTS)
    engine_seconds = median(bench.engine.seconds_alone(bench.texts.short))
    streams = bench.engine.model.engine.info.streams
    share = _CALLS_PER_SECOND * engine_seconds / streams
    bench.clients.run(paced_seconds, bench.address, queries[:50], _CALLS_PER_SECOND)
    idle: list[float] = []
    busy: list[float] = []
    losses, rates = [], []
    stream = partial(streamed_texts_per_second, bench.address, bulk, _WARM_SECONDS, seconds)
    for turn in range(bench.scale.interference_turns):
        idle += bench.clients.run(paced_seconds, bench.address, queries, _CALLS_PER_SECOND)
        alone = bench.clients.run(stream)
        streaming = bench.clients.start(stream)
        busy += bench.clients.run(
            paced_seconds, bench.address, queries, _CALLS_PER_SECOND, _WARM_SECONDS
        )
        beside = streaming.result()
        losses.append(bulk_loss(alone, beside, share))
        rates.append(alone)
        bench.say(
            f"interference {turn}: bulk alone {alone:.1f} texts/s, with queries {beside:.1f}; "
            f"queries p99 so far {1000 * quantile(idle, 0.99):.1f} ms idle, "
            f"{1000 * quantile(busy, 0.99):.1f} ms with bulk"
        )
    return {
        "interactive_added_p99_ms": 1000 * (quantile(busy, 0.99) - quantile(idle, 0.99)),
        "interactive_idle_p99_ms": 1000 * quantile(idle, 0.99),
        "interactive_busy_p50_ms": 1000 * quantile(busy, 0.5),
        "interactive_busy_p99_ms": 1000 * quantile(busy, 0.99),
        "interactive_share": share,
        "bulk_loss": median(losses),
        "bulk_texts_per_second": median(rates),
    }
