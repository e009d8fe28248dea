"""One run: a sequence of operations against one retriever, from an empty folder."""

import asyncio
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tests.chaos.model.audit import audit, settle
from tests.chaos.model.damage import damage
from tests.chaos.model.disk import small_disk
from tests.chaos.model.faults import End
from tests.chaos.model.oracle import Violation
from tests.chaos.model.process import RetrieverProcess
from tests.chaos.model.sequence import sequence
from tests.chaos.model.wording import wording
from tests.chaos.model.world import SLOTS, Lost, Operation, Slot, World

SETTINGS: dict[str, object] = {
    "seal-vectors": 48,
    "max-full-segments": 16,
    "tombstones-kept-seconds": 1,
}
"""So small that segments are built and merged, and tombstones purged, all the time."""
_QUEUED = 3
_SHOWN = 50
_MIN_RECALL = 0.9


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    operations: int
    seconds: float
    counts: Counter[str]

    def __str__(self) -> str:
        counted = ", ".join(f"{name} {self.counts[name]}" for name in sorted(self.counts))
        return f"seed {self.seed}: {self.operations} operations in {self.seconds:.0f} s; {counted}"


class Failed(AssertionError):
    """A promise was broken; says how to see it again."""


class Run:
    """`small`: on a small disk that fills up now and then, which needs root."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        operations: int,
        seconds: float,
        *,
        small: bool = False,
    ) -> None:
        self._folder = folder / "data"
        self._seed = seed
        self._operations = operations
        self._small = small
        self._seconds = seconds
        self._snapshots = folder / "snapshots"
        settings = SETTINGS | {"snapshot-url": self._snapshots.as_uri()}
        self._process = RetrieverProcess(self._folder, folder, settings)
        self._world = World(tuple(Slot(*names) for names in SLOTS), self._folder)
        self._lanes: dict[str, asyncio.Queue[tuple[int, Operation]]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._up = asyncio.Event()
        self._end: asyncio.Task[None] | None = None
        self._ends = 0
        self._last: deque[str] = deque(maxlen=_SHOWN)
        self._log = folder / "operations.log"

    def _sequence(self) -> Iterator[Operation | End]:
        return sequence(self._seed, full_disks=self._small)

    async def run(self) -> Report:
        """Raises Failed."""
        with small_disk(self._folder) if self._small else nullcontext():
            return await self._run()

    async def _run(self) -> Report:
        started = time.monotonic()
        done = 0
        try:
            with self._log.open("w", buffering=1) as self._written:
                await self._start()
                async with asyncio.TaskGroup() as self._tasks:
                    for number, operation in enumerate(islice(self._sequence(), self._operations)):
                        if time.monotonic() - started > self._seconds:
                            break
                        done = number + 1
                        await self._dispatch(number, operation)
                    await self._finish()
        except Exception as error:
            await self._process.abort()
            raise Failed(self._failure(error, done)) from error
        finally:
            await self._process.close()
        return Report(self._seed, done, time.monotonic() - started, self._world.counts)

    async def _dispatch(self, number: int, operation: Operation | End) -> None:
        """Gives an operation to its lane. An end goes on beside the operations that follow."""
        if isinstance(operation, End):
            if self._end is not None:
                await self._end
            self._end = self._tasks.create_task(self._end_and_start(number, operation))
            return
        lane = self._lanes.get(operation.lane)
        if lane is None:
            lane = self._lanes[operation.lane] = asyncio.Queue(_QUEUED)
            self._workers.append(self._tasks.create_task(self._work(lane)))
        await lane.put((number, operation))

    async def _work(self, lane: asyncio.Queue[tuple[int, Operation]]) -> None:
        while True:
            number, operation = await lane.get()
            while not self._up.is_set():
                await self._up.wait()
            self._busy += 1
            self._idle.clear()
            try:
                said = await operation.perform(self._world)
            except Lost:
                said = "not answered"
                self._world.counts["calls not answered"] += 1
            except Exception as error:
                self._note(number, operation, f"{type(error).__name__}: {error}")
                raise
            finally:
                self._busy -= 1
                if self._busy == 0:
                    self._idle.set()
                lane.task_done()
            self._note(number, operation, said)

    async def _end_and_start(self, number: int, end: End) -> None:
        """Ends the process while operations are under way, and starts it again."""
        world = self._world
        await end.wait(world, self._folder)
        if not self._process.running:
            raise Violation(f"the retriever ended by itself; see {self._process.log}")
        world.ending = True
        if end.kill:
            self._process.signal(signal.SIGKILL)
        self._up.clear()
        await (self._process.kill() if end.kill else self._process.stop())
        await self._idle.wait()
        world.counts["kills" if end.kill else "stops"] += 1
        hurt = damage(self._folder, self._snapshots, end.damage, end.number)
        world.counts[f"starts after {end.damage.value}"] += 1
        self._note(number, end, f"damaged {hurt}" if hurt else "")
        await self._start()

    async def _start(self) -> None:
        self._world.stub = await self._process.start()
        self._world.ending = False
        await audit(self._world, self._ends)
        self._ends += 1
        self._up.set()

    async def _finish(self) -> None:
        """What was asked for is done; it stays true when all is built, and after a restart."""
        for lane in self._lanes.values():
            await lane.join()
        if self._end is not None:
            await self._end
        await settle(self._world)
        await audit(self._world, self._ends)
        await self._process.stop()
        await self._start()
        await self._process.kill()
        self._check_recall()
        for worker in self._workers:
            worker.cancel()

    def _check_recall(self) -> None:
        """Of searches that walk graphs, all together: few of them are as small as these."""
        counts = self._world.counts
        for name, of in list(counts.items()):
            if name.startswith("recall of, "):
                hits = counts[name.replace("of", "hits", 1)]
                if hits < _MIN_RECALL * of:
                    raise Violation(f"{name.removeprefix('recall of, ')} found {hits} of {of}")

    def _note(self, number: int, operation: Operation | End, said: str) -> None:
        line = f"{number:6} {wording(operation)} -> {said}"
        self._last.append(line)
        self._written.write(line + "\n")

    def _failure(self, error: Exception, done: int) -> str:
        errors = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
        return "\n".join(
            [
                f"The last {len(self._last)} operations:",
                *self._last,
                *(f"{type(item).__name__}: {item}" for item in errors),
                f"Logs and data are in {self._folder.parent}",
                f"To run it again: make chaos SEED={self._seed} OPERATIONS={done}",
            ]
        )
