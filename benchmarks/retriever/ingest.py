"""Searches while documents come in: at a steady pace, and as fast as they are taken.

Searches leave at a steady pace whether answers come or not. After every message
of writes a strong search for one of its documents must find it.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.harness.command import Figures
from benchmarks.harness.quantile import quantile
from benchmarks.retriever.bench import COLLECTION, Bench
from benchmarks.retriever.client import Paced, Written, paced, searches, write
from benchmarks.retriever.corpus import repeated, write_messages

_SEARCHES_A_SECOND = 50.0
_DOCUMENTS_A_SECOND = 1000.0
_FULL_DOCUMENTS_A_SECOND = 15_000
"""More than are taken: so many are made ready for each second."""
_IN_FLIGHT = 2
_WARM_SECONDS = 1.0


def measure(bench: Bench) -> Figures:
    """The p99s over that of an idle retriever, what was refused and what was not found."""
    assert bench.load
    scale = bench.scale
    pace = round(_DOCUMENTS_A_SECOND * (scale.ingest_seconds + _WARM_SECONDS))
    full = round(_FULL_DOCUMENTS_A_SECOND * (scale.ingest_seconds + _WARM_SECONDS))
    idle: list[float] = []
    slow, fast = _Turns(), _Turns()
    bench.callers.run(paced, bench.address, _searches(bench)[:50], _SEARCHES_A_SECOND)
    for turn in range(scale.ingest_turns):
        idle += bench.callers.run(
            paced, bench.address, _searches(bench), _SEARCHES_A_SECOND
        ).seconds
        slow.add(*_beside(bench, (2 * turn + 1) * 10**7, pace, _DOCUMENTS_A_SECOND))
        fast.add(*_beside(bench, (2 * turn + 2) * 10**7, full, None))
        bench.say(
            f"ingest {turn}: searches' p99 so far {1000 * quantile(idle, 0.99):.1f} ms idle, "
            f"{1000 * quantile(slow.seconds, 0.99):.1f} ms beside {slow.rate:.0f} vectors/s, "
            f"{1000 * quantile(fast.seconds, 0.99):.1f} ms beside {fast.rate:.0f} vectors/s"
        )
        bench.settle(COLLECTION)
    calm = quantile(idle, 0.99)
    return {
        "ingest_p99_ratio": quantile(slow.seconds, 0.99) / calm,
        "ingest_full_p99_ratio": quantile(fast.seconds, 0.99) / calm,
        "ingest_full_vectors_per_second": fast.rate,
        "idle_p50_ms": 1000 * quantile(idle, 0.5),
        "idle_p99_ms": 1000 * calm,
        "refusals": float(slow.refused + fast.refused),
        "invisible": float(slow.invisible + fast.invisible),
    }


class _Turns:
    """The searches and writes of several turns."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.refused = 0
        self.invisible = 0
        self.rate = 0.0
        """Vectors a second, in the last turn."""

    def add(self, searched: Paced, written: Written) -> None:
        self.seconds += searched.seconds
        self.refused += searched.refused + written.refused
        self.invisible += written.invisible
        self.rate = written.documents / written.seconds


def _searches(bench: Bench) -> list[bytes]:
    count = round(_SEARCHES_A_SECOND * bench.scale.ingest_seconds)
    return searches(COLLECTION, repeated(bench.corpus.queries, count), 1)


def _beside(
    bench: Bench, first_id: int, documents: int, documents_a_second: float | None
) -> tuple[Paced, Written]:
    """Searches beside writes of new documents, whose vectors are those of the corpus."""
    rows: Sequence[int] = (np.arange(documents) % bench.scale.vectors).tolist()
    a_message = 100 if documents_a_second is not None else 500
    messages = write_messages(
        COLLECTION, bench.corpus, rows, first_id=first_id, a_message=a_message
    )
    seconds = bench.scale.ingest_seconds + _WARM_SECONDS
    writing = bench.callers.start(
        write, bench.address, messages, _IN_FLIGHT, documents_a_second, seconds
    )
    searched = bench.callers.run(
        paced, bench.address, _searches(bench), _SEARCHES_A_SECOND, _WARM_SECONDS
    )
    return searched, writing.result()
