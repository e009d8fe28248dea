"""What a tier's process does when it is told to stop."""

import signal
import subprocess
import sys
import time

import pytest

# Loads, in a thread that nothing interrupts, for as long as it is told; then serves.
TIER = """
import asyncio, threading, time
from contextlib import asynccontextmanager
from services.runtime.server import run
from services.runtime.settings import ServerSettings, server_config

class ProbeSettings(ServerSettings):
    model_config = server_config("probe")
    load_seconds: float
    hang: bool = False

@asynccontextmanager
async def wire(settings, server):
    print("loading", flush=True)
    await asyncio.to_thread(time.sleep, settings.load_seconds)
    if settings.hang:
        threading.Thread(target=time.sleep, args=(60,)).start()
    asyncio.get_running_loop().call_later(0.2, lambda: print("serving", flush=True))
    yield
    print("closed", flush=True)

run("probe", ProbeSettings, wire)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("load_seconds", "until", "more"),
    [(20, "loading", []), (0, "serving", []), (0, "serving", ["--hang", "true"])],
)
def test_a_tier_ends_soon_after_a_signal(
    number: signal.Signals, load_seconds: float, until: str, more: list[str]
) -> None:
    """Also when a thread of it hangs, be it an engine or a download."""
    process = subprocess.Popen(
        [sys.executable, "-c", TIER, "--load-seconds", str(load_seconds), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        while process.stdout.readline() != f"{until}\n":
            assert process.poll() is None
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert time.monotonic() - began < 15
    assert process.returncode == 0
    assert "Traceback" not in err
    # What was opened is closed in order; what is still being opened is left.
    assert ("closed" in out) is (until == "serving")
