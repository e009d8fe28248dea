"""Measures the embedder beside its own engine and beside others, in one run.

    make bench-embedder

Prints what it finds as it goes; the last line is JSON. Ratios are taken within
a turn, figures are medians over the turns.
"""

from collections.abc import Callable, Mapping

from benchmarks.embedder import (
    gap,
    idle,
    infinity,
    interference,
    memory,
    overload,
    single,
    throughput,
)
from benchmarks.embedder.bench import SHORT, Bench, Scale, running_bench
from benchmarks.harness.command import Figures, cpu_model, last_line, measured, parser
from services.runtime.cpu import available_cpus

FIGURES: Mapping[str, Callable[[Bench], Figures]] = {
    "engine": throughput.measure,
    "gap": gap.measure,
    "single": single.measure,
    "idle": idle.measure,
    "interference": interference.measure,
    "overload": overload.measure,
    "infinity": infinity.measure,
    "memory": memory.measure,
}


def machine(bench: Bench) -> dict[str, str | int]:
    """What the figures are of."""
    info = bench.engine.model.engine.info
    return {
        "cpu": cpu_model(),
        "cores": available_cpus(),
        "engine": info.name,
        "precision": info.precision,
        "device": info.device,
    }


def main() -> None:
    arguments = parser("bench-embedder", __doc__, FIGURES).parse_args()
    with running_bench(SHORT if arguments.short else Scale()) as bench:
        result = measured(bench, FIGURES, arguments.only)
        about = machine(bench)
        bench.engine.close()
    print(last_line(result, about))


if __name__ == "__main__":
    main()
