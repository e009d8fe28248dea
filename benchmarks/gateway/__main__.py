"""Measures the gateway: what it adds, what it holds and what it survives, in one run.

    make bench-gateway

Prints what it finds as it goes; the last line is JSON. Ratios are taken within
a turn, figures are medians over the turns. Callers, tiers and what they are
compared with share the cores.
"""

from collections.abc import Callable, Mapping

from benchmarks.gateway import failures, hits, indexing, own, searches, semantic, upload
from benchmarks.gateway.bench import SHORT, Bench, Scale, running_bench
from benchmarks.harness.command import Figures, cpu_model, last_line, measured, parser
from services.runtime.cpu import available_cpus

FIGURES: Mapping[str, Callable[[Bench], Figures]] = {
    "own": own.measure,
    "upload": upload.measure,
    "index": indexing.measure,
    "searches": searches.measure,
    "hits": hits.measure,
    "semantic": semantic.measure,
    "failures": failures.measure,
}


def main() -> None:
    arguments = parser("bench-gateway", __doc__, FIGURES).parse_args()
    with running_bench(SHORT if arguments.short else Scale()) as bench:
        result = measured(bench, FIGURES, arguments.only)
    print(last_line(result, {"cpu": cpu_model(), "cores": available_cpus()}))


if __name__ == "__main__":
    main()
