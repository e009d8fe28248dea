"""Texts a second: sentence-transformers, the engine, the server, each in its turn."""

from statistics import median

from benchmarks.embedder.bench import Bench
from benchmarks.embedder.client import texts_per_second
from benchmarks.embedder.engine import EngineRun, encode, load_reference, min_cosine
from benchmarks.embedder.texts import messages, repeated
from benchmarks.harness.command import Figures

_MESSAGE_TEXTS = 32
_IN_FLIGHT = 16


def measure(bench: Bench) -> Figures:
    """The engine over sentence-transformers, and the server over the engine."""
    texts = repeated(bench.texts.mixed, bench.scale.texts)
    batches = messages(texts, _MESSAGE_TEXTS)
    reference = load_reference(bench.settings)
    encode(reference, texts[:_MESSAGE_TEXTS])
    bench.clients.run(texts_per_second, bench.address, batches, _IN_FLIGHT)
    slow, served = [], []
    runs: list[EngineRun] = []
    lowest = 1.0
    for turn in range(bench.scale.turns):
        runs.append(bench.engine.embed(texts))
        served.append(
            bench.clients.run(texts_per_second, bench.address, batches, _IN_FLIGHT)
            / runs[-1].texts_per_second
        )
        bench.say(
            f"engine {turn}: {runs[-1].texts_per_second:.1f} texts/s, server {served[-1]:.3f} of it"
        )
    for turn in range(bench.scale.reference_turns):
        rate, rows = encode(reference, bench.texts.mixed)
        run = bench.engine.embed(bench.texts.mixed)
        slow.append(run.texts_per_second / rate)
        lowest = min(lowest, min_cosine(run.rows, rows))
        bench.say(
            f"sentence-transformers {turn}: {rate:.1f} texts/s, engine {slow[-1]:.2f} times that"
        )
    return {
        "engine_over_st": median(slow),
        "engine_texts_per_second": median(run.texts_per_second for run in runs),
        "min_cosine": lowest,
        "server_over_engine_batched": median(served),
    }
