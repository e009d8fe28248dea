"""Random operations, kills and damage against a simple oracle: `make chaos` runs it for longer."""

import os
import random
from pathlib import Path

import pytest

from tests.chaos.model.run import Run

OPERATIONS = 2_000
KILLS = 20
# A bound to a run that hangs; it takes a quarter of this.
SECONDS = 240.0


def _seed() -> int:
    """Another one each time: what one run cannot show the next may."""
    seed = int(os.environ.get("SIRDAR_CHAOS_SEED") or random.randrange(2**31))
    print(f"seed {seed}")
    return seed


@pytest.mark.timeout(300)
async def test_random_operations_and_kills_break_no_promise(tmp_path: Path) -> None:
    seed = _seed()
    report = await Run(tmp_path, seed, OPERATIONS, SECONDS).run()
    print(report)
    assert report.operations == OPERATIONS
    assert report.counts["kills"] == KILLS


@pytest.mark.root
@pytest.mark.timeout(300)
async def test_full_disks_and_kills_break_no_promise(tmp_path: Path) -> None:
    seed = _seed()
    report = await Run(tmp_path, seed, 400, SECONDS, small=True).run()
    print(report)
    assert report.counts["full disks"] == 2
    assert report.counts["kills"] == 4
