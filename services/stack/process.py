"""One tier as a child process."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping

from services.stack.tiers import Tier

# What is shown of a tier that died.
TAIL_LINES = 20

LogSink = Callable[[str, str], None]
"""Takes the name of a tier and one line of its log, from a thread of its own."""


class TierProcess:
    """A running tier, and the last lines of its log.

    It stands in a process group of its own, so that Ctrl-C reaches the stack
    alone, which then stops the tiers in order.
    """

    def __init__(self, tier: Tier, environment: Mapping[str, str], sink: LogSink) -> None:
        self.name = tier.name
        self._sink = sink
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.stack.child", tier.module],
            # Held open as long as this process lives (see child.py).
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, name=f"log-{self.name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for raw in lines:
                line = raw.decode(errors="replace").rstrip()
                self._tail.append(line)
                self._sink(self.name, line)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number where one ended it."""
        return self._process.poll()

    def tail(self) -> list[str]:
        """The last lines of its log; of a process that has ended, all of them."""
        if self.exit_code is not None:
            # A grandchild may hold the pipe open a moment longer.
            self._reader.join(timeout=1.0)
        return list(self._tail)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; one that has ended gets none."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it ended in time."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL if it has not drained within the grace."""
        self.signal(signal.SIGTERM)
        if not self.wait(grace_seconds):
            self.kill()
        self._close()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join(timeout=1.0)
