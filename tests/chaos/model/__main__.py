"""`make chaos`: runs of random operations, one after the other, until all are done or time is up.

Each run starts from an empty folder with a seed of its own. What is a function of the seed is
the sequence of operations; how those of different lanes meet, and what exactly a kill
interrupts, is not, so that a fault may take several tries to be seen again.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.model.run import Failed, Run


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the first run; default: random")
    parser.add_argument("--operations", type=int, default=200_000)
    parser.add_argument("--run-operations", type=int, default=20_000, help="of one run, at most")
    parser.add_argument("--seconds", type=float, default=4 * 3600.0, help="for everything")
    parser.add_argument("--folder", type=Path, default=None, help="default: a temporary one")
    arguments = parser.parse_args()
    seed = random.randrange(2**31) if arguments.seed is None else arguments.seed
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="sirdar-chaos-"))
    deadline = time.monotonic() + arguments.seconds
    small = os.geteuid() == 0
    if not small:
        print("NOT ROOT: the disk is never full in these runs; run `sudo make chaos` for that")
    left = arguments.operations
    while left > 0 and time.monotonic() < deadline:
        operations = min(left, arguments.run_operations)
        print(f"seed {seed}: {operations} operations", flush=True)
        here = folder / str(seed)
        here.mkdir(parents=True)
        try:
            run = Run(
                here,
                seed,
                operations,
                deadline - time.monotonic(),
                small=small,
            )
            report = asyncio.run(run.run())
        except Failed as failure:
            print(failure, file=sys.stderr)
            sys.exit(1)
        print(report, flush=True)
        shutil.rmtree(here)
        left -= operations
        seed += 1
    print(f"{arguments.operations - left} of {arguments.operations} operations, no fault")


if __name__ == "__main__":
    main()
