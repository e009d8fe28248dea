"""What more vectors and more shards cost: docs/growth.md and its plot, and what would follow.

    python -m benchmarks.retriever.growth measure --vectors 10000 --shards 1
    python -m benchmarks.retriever.growth write

`measure` fills a retriever of its own, waits until all is built and adds a row to
docs/growth.jsonl; `write` makes the table, the plot and the projection of what
is there. Searches are 32 queries a message and ask for ids alone.
"""

import argparse
import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import noop
from benchmarks.harness.callers import Callers
from benchmarks.retriever import growth_report
from benchmarks.retriever.bench import RETRIEVER, Bench, Scale
from benchmarks.retriever.client import found_documents, queries_per_second, searches, write
from benchmarks.retriever.corpus import recall, repeated, write_messages
from benchmarks.retriever.growth_report import Row
from benchmarks.retriever.memory import PeakMemory, proportional_bytes
from services.stack.stack import Stack

_ROWS = Path("docs/growth.jsonl")
_NAME = "grown"
_PART = 50_000
_QUERIES = 1_000
_TIMED_QUERIES = 4_096
_A_MESSAGE = 32
_IN_FLIGHT = 8


def measure(vectors: int, shards: int, *, shared: bool) -> Row:
    """One size and one number of shards, in a retriever with nothing else in it."""
    scale = Scale(vectors=vectors, queries=_QUERIES)
    with ExitStack() as held:
        folder = Path(held.enter_context(TemporaryDirectory()))
        stack = held.enter_context(Stack(folder / "data", tiers=RETRIEVER))
        beside = held.enter_context(Stack(folder / "noop", tiers=[noop.TIER]))
        bench = Bench(stack, beside, held.enter_context(Callers()), scale)
        bench.create(_NAME, shards=shards)
        began = time.monotonic()
        with PeakMemory(bench.pid) as memory:
            for start in range(0, vectors, _PART):
                rows = range(start, min(start + _PART, vectors))
                messages = write_messages(_NAME, bench.corpus, rows)
                bench.callers.run(write, bench.address, messages, 4)
            written = time.monotonic() - began
            bench.settle(_NAME)
        # What it took to see that nothing is built any more is not building.
        built = max(written, time.monotonic() - began - bench.settled_seconds)
        full = searches(_NAME, bench.corpus.queries, 8, ids_only=False, documents_with_text=0)
        found = bench.callers.run(found_documents, bench.address, full)
        asked = searches(_NAME, repeated(bench.corpus.queries, _TIMED_QUERIES), _A_MESSAGE)
        rates = [
            bench.callers.run(queries_per_second, bench.address, asked, _A_MESSAGE, _IN_FLIGHT)
            for _ in range(3)
        ]
        return Row(
            vectors=vectors,
            shards=shards,
            queries_per_second=sorted(rates)[1],
            recall=recall(found, bench.corpus.truth.tolist()),
            built_seconds=built,
            resident_bytes=proportional_bytes(bench.pid),
            peak_bytes=memory.peak_bytes,
            disk_bytes=sum(
                file.stat().st_size for file in (folder / "data").rglob("*") if file.is_file()
            ),
            shared=shared,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="growth", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--vectors", type=int, required=True)
    measuring.add_argument("--shards", type=int, required=True)
    measuring.add_argument(
        "--shared", action="store_true", help="others work on the machine meanwhile"
    )
    commands.add_parser("write")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        row = measure(arguments.vectors, arguments.shards, shared=arguments.shared)
        with _ROWS.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(json.dumps(asdict(row)))
    else:
        rows = [Row(**json.loads(line)) for line in _ROWS.read_text().splitlines()]
        growth_report.write(rows, _ROWS.parent)


if __name__ == "__main__":
    main()
