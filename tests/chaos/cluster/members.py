"""The processes of a cluster: several of each tier over one PostgreSQL, started and ended."""

import asyncio
import re
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.stack.ports import free_ports
from services.stack.process import TierProcess
from services.stack.tiers import HOST, Tier
from sirdar.client import AsyncClient, Health
from sirdar.errors import SirdarError

# Only a bound to waiting: a busy machine takes long to import a model.
START_SECONDS = 120.0
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 30.0
MODULES = {
    "retriever": "services.retriever",
    "embedder": "services.embedder",
    "reranker": "services.reranker",
    "gateway": "gateway",
}
# A fault that nobody expected, in the log of a process.
_UNEXPECTED = re.compile(r"Traceback \(most recent call last\)|a shard failed|Segmentation fault")


@dataclass(frozen=True, slots=True)
class Member:
    """One process. `settings` are without the prefix of its tier; `environment` is as it is."""

    name: str
    kind: str
    port: int
    metrics_port: int
    settings: Mapping[str, str]
    host: str = HOST
    module: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def variables(self) -> dict[str, str]:
        given = {
            "HOST": self.host,
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            **self.settings,
        }
        prefix = f"SIRDAR_{self.kind.upper()}_"
        return {prefix + key: value for key, value in given.items()} | dict(self.environment)


def members(names: Sequence[str]) -> dict[str, Member]:
    """Of names such as `retriever-0`, on free ports and without settings yet."""
    ports = free_ports(2 * len(names))
    return {
        name: Member(name, name.partition("-")[0], ports[2 * at], ports[2 * at + 1], {})
        for at, name in enumerate(names)
    }


class Processes:
    """Members that run, with a log file each."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, TierProcess] = {}
        self.faults: list[str] = []
        """What their logs say that nobody expected."""

    def start(self, member: Member) -> None:
        tier = Tier(member.name, member.module or MODULES[member.kind], 0, lambda _: {})
        self._running[member.name] = TierProcess(tier, member.variables(), self._log)

    def _log(self, name: str, line: str) -> None:
        with (self._logs / f"{name}.log").open("a") as log:
            log.write(f"{line}\n")
        if _UNEXPECTED.search(line):
            self.faults.append(f"{name}: {line}")

    def pid(self, member: Member) -> int:
        return self._running[member.name].pid

    def kill(self, member: Member) -> None:
        """SIGKILL; returns when it is gone."""
        self._running[member.name].kill()

    def stop(self, member: Member) -> None:
        """SIGTERM; returns when it has drained."""
        self._running[member.name].stop(_GRACE_SECONDS)

    def kill_all(self) -> None:
        for process in self._running.values():
            process.kill()

    async def serving(self, member: Member) -> None:
        """Waits until it says that it is SERVING. Raises AssertionError where it ended."""
        started = time.monotonic()
        async with AsyncClient(member.address, timeout_seconds=5) as client:
            while True:
                with suppress(SirdarError):
                    if await client.health() is Health.SERVING:
                        return
                process = self._running[member.name]
                assert process.exit_code is None, "\n".join([member.name, *process.tail()])
                assert time.monotonic() - started < START_SECONDS, f"{member.name} does not start"
                await asyncio.sleep(_POLL_SECONDS)


async def metric(member: Member, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels; 0 where it cannot be read."""
    try:
        text = await asyncio.to_thread(_scraped, member)
    except OSError:
        return 0.0
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((f"{name}{{", f"{name} "))
        and all(f'{key}="{value}"' in line for key, value in labels.items())
    )


def _scraped(member: Member) -> str:
    url = f"http://{member.host}:{member.metrics_port}/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        text: bytes = answer.read()
    return text.decode()
