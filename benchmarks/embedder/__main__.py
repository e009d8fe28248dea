"""Measures the embedder beside its own engine and beside others, in one run.

    make bench-embedder

Prints what it finds as it goes; the last line is JSON. Ratios are taken within
a turn, figures are medians over the turns.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

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
from benchmarks.embedder.bench import SHORT, Bench, Figures, Scale, running_bench
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


def cpu_model() -> str:
    """As the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


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


def chosen(argument: str) -> list[str]:
    """The names of figures in an argument like `engine,overload`, in their usual order."""
    names = argument.split(",")
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(FIGURES)}")
    return [name for name in FIGURES if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench-embedder", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--only", type=chosen, default=list(FIGURES), help=f"some of {', '.join(FIGURES)}"
    )
    parser.add_argument("--short", action="store_true", help="one short turn: to see that it runs")
    arguments = parser.parse_args()
    result: Figures = {}
    with running_bench(SHORT if arguments.short else Scale()) as bench:
        for name in arguments.only:
            started = time.monotonic()
            result |= FIGURES[name](bench)
            bench.say(f"{name}: {time.monotonic() - started:.0f} s")
        about = machine(bench)
        bench.engine.close()
    print(json.dumps({key: round(value, 5) for key, value in result.items()} | about))


if __name__ == "__main__":
    main()
