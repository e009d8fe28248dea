"""All tiers of a Sirdar as child processes."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.stack.ports import check_ports, free_ports
from services.stack.process import LogSink, TierProcess
from services.stack.tiers import TIERS, Layout, Tier, layout_at
from sirdar.errors import Unavailable

NO_RERANKER = "none"
_POLL_SECONDS = 0.05

OnReady = Callable[[str, float], None]
"""Takes the name of a tier and the seconds that it took to become ready."""


def _ignore_log(tier: str, line: str) -> None:
    """Logs are kept for the case that a tier dies, and dropped otherwise."""


def _ignore_ready(tier: str, seconds: float) -> None:
    pass


class TierDied(Unavailable):
    """A tier ended by itself. `tail` is the end of its log."""

    def __init__(self, process: TierProcess) -> None:
        code = process.exit_code
        assert code is not None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        super().__init__(f"the {process.name} {how}", reason="TIER_DIED")
        self.tier = process.name
        self.exit_code = code
        self.tail = process.tail()


class Stack:
    """The tiers on loopback, over one data folder. Use it with `with` or `async with`.

    `port` is the gateway's, the others follow it; None takes free ports.
    `reranker` is the reranker's model, or NO_RERANKER to do without that tier.
    `environment` adds settings, such as `SIRDAR_RETRIEVER_DEFAULT_SHARDS`.
    The tiers end with this process, however it ends.
    """

    def __init__(
        self,
        data_folder: Path,
        *,
        port: int | None = None,
        model: str = "",
        reranker: str = "",
        tiers: Sequence[Tier] = TIERS,
        environment: Mapping[str, str] | None = None,
        log: LogSink = _ignore_log,
    ) -> None:
        self.tiers = (
            [tier for tier in tiers if tier.of != "reranker"] if reranker == NO_RERANKER else tiers
        )
        self.layout = (
            _free_layout(self.tiers, data_folder, model, reranker)
            if port is None
            else layout_at(port, self.tiers, data_folder, model, reranker)
        )
        # How long a tier may take to be SERVING, a model's first conversion
        # included, and to drain.
        self.start_seconds = 180.0
        self.grace_seconds = 30.0
        self._environment = dict(environment or {})
        self._log = log
        self._processes: dict[str, TierProcess] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def address(self) -> str:
        """The gateway's."""
        return self.layout.address("gateway")

    @property
    def http_address(self) -> str:
        """The gateway's, for HTTP."""
        return self.layout.http_address

    @property
    def addresses(self) -> dict[str, str]:
        """Of every tier, by its name."""
        return {tier.name: self.layout.address(tier.name) for tier in self.tiers}

    @property
    def running(self) -> bool:
        """Whether there are tiers to stop, alive or not."""
        return bool(self._processes)

    def process(self, name: str) -> TierProcess:
        """The process of a tier that was started."""
        return self._processes[name]

    def start(self, on_ready: OnReady = _ignore_ready) -> None:
        """Starts all tiers and returns when all are SERVING.

        Raises FailedPrecondition where a port is taken, TierDied where a tier
        ends, Unavailable where one takes too long; no tier is left behind then.
        """
        check_ports(self.layout, self.tiers)
        self.layout.data_folder.mkdir(parents=True, exist_ok=True)
        try:
            for tier in self.tiers:
                self._spawn(tier)
            self._await_ready([tier.name for tier in self.tiers], on_ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the tiers that run, in reverse order, each after it has drained."""
        try:
            while self._processes:
                name = next(reversed(self._processes))
                self._processes[name].stop(self.grace_seconds)
                del self._processes[name]
        finally:
            # Interrupted while they drained, by a second Ctrl-C.
            for process in self._processes.values():
                process.kill()
            self._processes.clear()

    def kill(self, name: str) -> None:
        """Ends a tier with SIGKILL and returns when it is gone."""
        self._processes[name].kill()

    def restart(self, name: str) -> float:
        """Starts a tier again that was killed or runs; returns the seconds until it is SERVING."""
        tier = next(tier for tier in self.tiers if tier.name == name)
        self._processes[name].stop(self.grace_seconds)
        self._spawn(tier)
        began = time.monotonic()
        self._await_ready([name], _ignore_ready)
        return time.monotonic() - began

    def check(self) -> None:
        """Raises TierDied if a tier has ended."""
        for process in self._processes.values():
            if process.exit_code is not None:
                raise TierDied(process)

    def _spawn(self, tier: Tier) -> None:
        environment = {**self._environment, **tier.environment(self.layout)}
        # A tier that is started again keeps its place in the order of stopping.
        self._processes[tier.name] = TierProcess(tier, environment, self._log)

    def _await_ready(self, names: Sequence[str], on_ready: OnReady) -> None:
        began = time.monotonic()
        waiting = list(names)
        with _probes([self.layout.address(name) for name in names]) as probes:
            checks = dict(zip(names, probes, strict=True))
            while waiting:
                self.check()
                for name in list(waiting):
                    if checks[name]():
                        waiting.remove(name)
                        on_ready(name, time.monotonic() - began)
                if waiting and time.monotonic() - began > self.start_seconds:
                    raise Unavailable(
                        f"the {waiting[0]} was not ready within {self.start_seconds:g} s",
                        reason="TIER_NOT_READY",
                    )
                time.sleep(_POLL_SECONDS)


def _free_layout(
    tiers: Sequence[Tier], data_folder: Path, model: str, reranker_model: str
) -> Layout:
    *ports, http_port = free_ports(2 * len(tiers) + 1)
    names = [tier.name for tier in tiers]
    return Layout(
        ports=dict(zip(names, ports, strict=False)),
        metrics_ports=dict(zip(names, ports[len(tiers) :], strict=True)),
        http_port=http_port,
        data_folder=data_folder,
        model=model,
        reranker_model=reranker_model,
    )


@contextmanager
def _probes(addresses: Sequence[str]) -> Iterator[list[Callable[[], bool]]]:
    """A check for each address: whether a server there says that it is SERVING."""
    channels = [
        grpc.insecure_channel(
            address,
            [
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 200),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        for address in addresses
    ]
    try:
        yield [_probe(health_pb2_grpc.HealthStub(channel)) for channel in channels]
    finally:
        for channel in channels:
            channel.close()


def _probe(stub: health_pb2_grpc.HealthStub) -> Callable[[], bool]:
    def serving() -> bool:
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=0.5)
        except grpc.RpcError:
            # Nobody listens yet.
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return serving
