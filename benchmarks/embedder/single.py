"""One short text a call, 64 in flight, beside what engine and calls allow."""

from statistics import median

from benchmarks.embedder.bench import Bench
from benchmarks.embedder.client import texts_per_second
from benchmarks.embedder.texts import messages, repeated
from benchmarks.harness.ceiling import ceiling
from benchmarks.harness.command import Figures

_IN_FLIGHT = 64


def measure(bench: Bench) -> Figures:
    """The server over its ceiling."""
    texts = repeated(bench.texts.short, bench.scale.short_texts)
    calls = messages(texts, 1)
    noop_calls = messages(repeated(bench.texts.short, bench.scale.noop_calls), 1)
    for address in (bench.address, bench.noop_address):
        bench.clients.run(texts_per_second, address, calls[:1024], _IN_FLIGHT)
    bench.engine.embed(bench.texts.short)
    shares, engines, noops, servers = [], [], [], []
    for turn in range(bench.scale.turns):
        engine = bench.engine.embed(texts).texts_per_second
        noop = bench.clients.run(texts_per_second, bench.noop_address, noop_calls, _IN_FLIGHT)
        server = bench.clients.run(texts_per_second, bench.address, calls, _IN_FLIGHT)
        shares.append(server / ceiling(engine, noop))
        engines.append(engine)
        noops.append(noop)
        servers.append(server)
        bench.say(
            f"single {turn}: engine {engine:.0f} texts/s, no-op {noop:.0f} calls/s, "
            f"server {server:.0f} calls/s, {shares[-1]:.3f} of its ceiling"
        )
    return {
        "server_over_ceiling_single": median(shares),
        "engine_short_texts_per_second": median(engines),
        "noop_calls_per_second": median(noops),
        "server_single_calls_per_second": median(servers),
    }
