"""Measures the retriever beside FAISS called in process and beside others, in one run.

    make bench-retriever
    make bench-retriever FULL=1

200,000 vectors of 384 dimensions by default, 1,000,000 with FULL=1. Prints what
it finds as it goes; the last line is JSON. Ratios are taken within a turn,
figures are medians over the turns. Client, server and what they are compared
with share the cores. Searches ask for ids alone, which is what FAISS gives.
"""

import os
from collections.abc import Callable, Mapping

from benchmarks.harness.command import Figures, cpu_model, last_line, measured, parser
from benchmarks.retriever import (
    deletes,
    filters,
    ingest,
    load,
    peers,
    recalls,
    restart,
    single,
    throughput,
)
from benchmarks.retriever.bench import FULL, SHORT, Bench, Scale, running_bench
from services.runtime.cpu import available_cpus

FIGURES: Mapping[str, Callable[[Bench], Figures]] = {
    "load": load.measure,
    "recall": recalls.measure,
    "batched": throughput.measure,
    "single": single.measure,
    "filters": filters.measure,
    "restart": restart.measure,
    "peers": peers.measure,
    "deletes": deletes.measure,
    "ingest": ingest.measure,
}


def main() -> None:
    arguments = parser("bench-retriever", __doc__, FIGURES).parse_args()
    scale = FULL if os.environ.get("FULL") == "1" else Scale()
    with running_bench(SHORT if arguments.short else scale) as bench:
        result = measured(bench, FIGURES, arguments.only)
    about: dict[str, str | int] = {"cpu": cpu_model(), "cores": available_cpus()}
    print(last_line(result, about | {"vectors": bench.scale.vectors}))


if __name__ == "__main__":
    main()
