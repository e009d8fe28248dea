"""`make test-cluster`: callers write and read while every process is restarted in turn.

As an upgrade does it: each is told to end, drains, and is back before the next one goes. The last
line is a JSON object.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.cluster.cluster import Plan
from tests.chaos.cluster.run import RESTART, Report, Run

PLAN = Plan(retrievers=2, replication=2, gateways=2, embedders=2, rerankers=2)


def failed(report: Report) -> int:
    """Requests that a caller saw fail, or answered by less than all shards, after the tries of a
    client."""
    reads = report.failed_reads.total() + report.failed_strong_reads.total()
    return reads + report.partial_answers + report.refused_writes


async def rolling(folder: Path, plan: Plan, seed: int) -> Report:
    """Restarts every process once. Raises NotWhole, and AssertionError."""
    names = iter(plan.names)

    def following() -> str | None:
        name = next(names, None)
        if name is not None:
            print(f"restart of {name}", flush=True)
        return None if name is None else RESTART + name

    return await Run(folder, plan, seed).run(following, cached=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make test-cluster", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sirdar-cluster-"))
    print(f"{PLAN}, logs in {folder}", flush=True)
    report = asyncio.run(rolling(folder, PLAN, arguments.seed))
    good = not (report.lost or report.wrong or report.faults or failed(report))
    if good:
        shutil.rmtree(folder)
    print(json.dumps({"rolling_failed_requests": failed(report), **vars(report)}), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
