"""From the start of a retriever that was killed to SERVING with every vector."""

from benchmarks.harness.command import Figures
from benchmarks.retriever.bench import COLLECTION, Bench


def measure(bench: Bench) -> Figures:
    """Killed, not stopped: it has nothing from the last run that a crash would not leave."""
    assert bench.load
    before = _live(bench)
    bench.stack.kill("retriever")
    seconds = bench.stack.restart("retriever")
    after = _live(bench)
    if after != before:
        raise RuntimeError(f"{after} of {before} vectors are there after the restart")
    bench.say(f"restart: {seconds:.1f} s to SERVING with {after} vectors")
    return {"restart_seconds": seconds}


def _live(bench: Bench) -> int:
    return sum(shard.vectors for shard in bench.shards(COLLECTION).shards)
