"""`make chaos-cluster`: callers write and read while one process after the other is killed.

Each in turn, in an order of chance, when the cluster has recovered from the one before. The last
line is a JSON object. What is a function of the seed is who is killed when and what is asked; how
these meet is not.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.cluster.cluster import Plan
from tests.chaos.cluster.run import Report, Run

_LEAST_AVAILABILITY = 0.999


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos-cluster", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: random")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long harms begin")
    parser.add_argument("--retrievers", type=int, default=3)
    parser.add_argument("--replication", type=int, default=2)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--embedders", type=int, default=2)
    parser.add_argument("--rerankers", type=int, default=2)
    arguments = parser.parse_args()
    seed = random.randrange(2**31) if arguments.seed is None else arguments.seed
    plan = Plan(
        arguments.retrievers,
        arguments.replication,
        arguments.gateways,
        arguments.embedders,
        arguments.rerankers,
    )
    folder = Path(tempfile.mkdtemp(prefix="sirdar-chaos-"))
    print(f"seed {seed}: {plan}, logs in {folder}", flush=True)
    harms = _harms(plan, seed, time.monotonic() + arguments.seconds)
    report = asyncio.run(Run(folder, plan, seed).run(harms, cached=True))
    good = not (report.lost or report.wrong or report.faults) and _available(report)
    if good:
        shutil.rmtree(folder)
    print(report.json(), flush=True)
    sys.exit(0 if good else 1)


def _available(report: Report) -> bool:
    return report.read_availability >= _LEAST_AVAILABILITY


def _harms(plan: Plan, seed: int, until: float) -> Callable[[], str | None]:
    """Everybody once in an order of chance, and again, until the time is up."""
    chosen = random.Random(seed)
    waiting: list[str] = []

    def following() -> str | None:
        if time.monotonic() > until:
            return None
        if not waiting:
            waiting.extend([*plan.names, "database-restart", "database-kill", "cache"])
            chosen.shuffle(waiting)
        harm = waiting.pop()
        print(f"{max(0.0, until - time.monotonic()):.0f} s left: {harm}", flush=True)
        return harm

    return following


if __name__ == "__main__":
    main()
