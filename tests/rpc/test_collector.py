"""What the garbage collector of a server looks through."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime.server import TierServer, run
from services.runtime.settings import ServerSettings, server_config


class OpenedLater:
    """Held by nobody but itself, as what a server has opened may be."""

    def __init__(self) -> None:
        self.own = self


class CollectedSettings(ServerSettings):
    model_config = server_config("collected")


@asynccontextmanager
async def wire(settings: CollectedSettings, server: TierServer) -> AsyncIterator[None]:
    """Says what is looked through, and how much of what it let go stays; then ends."""
    looked_through = len(gc.get_objects())
    OpenedLater()
    gc.collect()
    left = sum(isinstance(one, OpenedLater) for one in gc.get_objects())
    told = {"passed_over": gc.get_freeze_count(), "looked_through": looked_through, "left": left}
    print(json.dumps(told), flush=True)
    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
    yield


def test_modules_are_passed_over_and_what_was_opened_later_is_not() -> None:
    command = [sys.executable, "-m", "tests.rpc.test_collector"]
    environment = os.environ | {"SIRDAR_COLLECTED_PORT": "0"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    told = next(json.loads(line) for line in done.stdout.splitlines() if "passed_over" in line)
    assert told["passed_over"] > 10_000
    assert told["looked_through"] < told["passed_over"] / 5
    assert told["left"] == 0


if __name__ == "__main__":
    run("collected", CollectedSettings, wire)
