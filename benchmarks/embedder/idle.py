"""One short query on a server that does nothing else, beside the model alone."""

from statistics import median

from benchmarks.embedder.bench import Bench
from benchmarks.embedder.client import single_seconds
from benchmarks.embedder.texts import repeated
from benchmarks.harness.command import Figures


def measure(bench: Bench) -> Figures:
    """What tokenizing, batching, the call and both ends of it add to the model's time."""
    texts = repeated(bench.texts.short, bench.scale.idle_calls)
    bench.clients.run(single_seconds, bench.address, texts)
    bench.engine.seconds_alone(texts)
    served, alone = [], []
    for turn in range(bench.scale.turns):
        alone.append(1000 * median(bench.engine.seconds_alone(texts)))
        served.append(1000 * median(bench.clients.run(single_seconds, bench.address, texts)))
        bench.say(f"idle {turn}: call {served[-1]:.2f} ms, engine {alone[-1]:.2f} ms")
    return {
        "idle_overhead_ms": median(a - b for a, b in zip(served, alone, strict=True)),
        "idle_call_p50_ms": median(served),
        "idle_engine_p50_ms": median(alone),
    }
