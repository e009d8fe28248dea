"""`make test-cluster`: callers write and read while a cluster is upgraded, and while it grows.

Every process is restarted in turn, as an upgrade does it: each is told to end, drains, and is back
before the next one goes. Then two retrievers become four, and two again. The last line is a JSON
object.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.cluster.cluster import MORE_SHARDS, SHARDS, Plan
from tests.chaos.cluster.run import ADD, REMOVE, RESTART, Report, Run

ROLLING = Plan(retrievers=2, replication=2, gateways=2, embedders=2, rerankers=2)
SCALING = Plan(retrievers=2, replication=2, gateways=2, later=2, more_collections=8)


def failed(report: Report) -> int:
    """Requests that a caller saw fail, or answered by less than all shards, after the tries of a
    client."""
    reads = report.failed_reads.total() + report.failed_strong_reads.total()
    return reads + report.partial_answers + report.refused_writes


def moved_over_minimum(report: Report) -> float:
    """When two become four, half of all copies have to move; back, the half that the two had."""
    copies = SCALING.replication * (SHARDS + SCALING.more_collections * MORE_SHARDS)
    return report.moved_shards / copies


async def change(folder: Path, plan: Plan, seed: int, changes: Sequence[str]) -> Report:
    """One change after the other. Raises NotWhole, and AssertionError."""
    left = iter(changes)

    def following() -> str | None:
        change = next(left, None)
        print(change or "done", flush=True)
        return change

    await asyncio.to_thread(folder.mkdir)
    report = await Run(folder, plan, seed).run(following, cached=True)
    print(report.json(), flush=True)
    return report


async def run(folder: Path, seed: int) -> tuple[Report, Report]:
    restarts = [RESTART + name for name in ROLLING.names]
    rolling = await change(folder / "rolling", ROLLING, seed, restarts)
    names = " ".join(SCALING.later_names)
    return rolling, await change(folder / "scaling", SCALING, seed, [ADD + names, REMOVE + names])


def main() -> None:
    parser = argparse.ArgumentParser(prog="make test-cluster", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sirdar-cluster-"))
    print(f"logs in {folder}", flush=True)
    rolling, scaling = asyncio.run(run(folder, arguments.seed))
    moved = moved_over_minimum(scaling)
    both = (rolling, scaling)
    good = moved <= 1.2 and not any(
        report.lost or report.wrong or report.faults or failed(report) for report in both
    )
    if good:
        shutil.rmtree(folder)
    figures = {
        "rolling_failed_requests": failed(rolling),
        "scale_failed_requests": failed(scaling),
        "moved_over_minimum": round(moved, 3),
        "client_retries": sum(one.client_retries + one.strong_retries for one in both),
        "requests": sum(one.reads + one.strong_reads + one.acknowledged_writes for one in both),
        "wrong_answers": sum(one.wrong_answers for one in both),
        "lost_writes": sum(one.lost_writes for one in both),
    }
    print(json.dumps(figures), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
