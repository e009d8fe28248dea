"""The retriever as a process of its own: started, ended and read."""

import asyncio
import os
import re
import signal
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path

import grpc

from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model.oracle import Violation
from tests.rpc.retriever_calls import Stub, connect

# Generous: none of these is a measurement, only a bound to waiting.
START_SECONDS = 120.0
STOP_SECONDS = 120.0
_POLL_SECONDS = 0.02
_SERVING = re.compile(r"serving\s.*address=\S+:(\d+)\s")
# A fault that nobody expected: a traceback, a shard that stopped answering.
_UNEXPECTED = re.compile(r"Traceback \(most recent call last\)|a shard failed|Segmentation fault")


class RetrieverProcess:
    def __init__(self, folder: Path, logs: Path, settings: dict[str, object]) -> None:
        self.folder = folder
        self._logs = logs
        self._settings = settings
        self._starts = 0
        self._child: Process | None = None
        self._channel: grpc.aio.Channel | None = None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    @property
    def log(self) -> Path:
        return self._logs / f"retriever-{self._starts:04}.log"

    async def start(self) -> Stub:
        """Starts it and waits until its shards can be asked."""
        # Calls to the last one may have used its channel until now.
        await self.close()
        self._starts += 1
        started = time.monotonic()
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log.open("wb") as log:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.retriever", "--port=0"),
                *(f"--data-folder={self.folder}", *options),
                env=os.environ | {"SIRDAR_RETRIEVER_METRICS_PORT": "0", "PYTHONFAULTHANDLER": "1"},
                stdout=log,
                stderr=log,
            )
        # One that was free before it starts may be another's by then.
        while (port := self._port()) is None:
            await self._not_yet(started)
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        stub = connect(self._channel)
        while True:
            try:
                await stub.ListShards(pb.ListShardsRequest())
                break
            except grpc.aio.AioRpcError:
                await self._not_yet(started)
        return stub

    def _port(self) -> int | None:
        """Where it serves, once it does."""
        found = _SERVING.search(self.log.read_text(errors="replace"))
        return int(found[1]) if found else None

    async def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        await self._ended()

    async def stop(self) -> None:
        """SIGTERM; it must end by itself, without a fault."""
        self.signal(signal.SIGTERM)
        code = await self._ended()
        if code != 0:
            raise Violation(f"the retriever ended with {code} after SIGTERM; see {self.log}")

    def signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(number)

    async def _ended(self) -> int:
        assert self._child is not None
        try:
            code = await asyncio.wait_for(self._child.wait(), STOP_SECONDS)
        except TimeoutError:
            self._child.kill()
            await self._child.wait()
            raise Violation(f"the retriever did not end; see {self.log}") from None
        self.check_log()
        return code

    async def abort(self) -> None:
        """SIGABRT, which leaves in the log where each thread is."""
        self.signal(signal.SIGABRT)
        if self._child is not None:
            await self._child.wait()

    async def close(self) -> None:
        """Ends it if it runs, whatever it does."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    def check_log(self) -> None:
        text = self.log.read_text(errors="replace")
        found = _UNEXPECTED.search(text)
        if found:
            raise Violation(f"{found.group()} in {self.log}:\n{text[-4000:]}")

    async def _not_yet(self, started: float) -> None:
        assert self._child is not None
        if self._child.returncode is not None:
            tail = self.log.read_text(errors="replace")[-4000:]
            raise Violation(f"the retriever did not start ({self._child.returncode}):\n{tail}")
        if time.monotonic() - started > START_SECONDS:
            raise Violation(f"the retriever does not start; see {self.log}")
        await asyncio.sleep(_POLL_SECONDS)
