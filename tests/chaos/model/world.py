"""What operations act on: the running retriever, and what must be true of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc

from sirdar.errors import NotFound, ResourceExhausted, from_rpc_error
from tests.chaos.model.oracle import CollectionModel, Violation
from tests.rpc.retriever_calls import Stub

CALL_SECONDS = 120.0
SLOTS = (
    ("default", "alpha"),
    ("default", "beta"),
    ("default", "gamma"),
    ("tenant", "alpha"),
)
"""The collections that there may be, as namespace and name."""

_BACKPRESSURE = {"INDEX_BEHIND", "LEXICAL_BEHIND", "OVERLOADED"}
_BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}


class Lost(Exception):
    """The process ended before it answered: nobody knows what it did."""


class Operation(Protocol):
    """One thing to do; what it does is a function of the seed, what it finds is not."""

    @property
    def lane(self) -> str:
        """Operations of a lane follow each other; those of different lanes meet."""
        ...

    async def perform(self, world: "World") -> str:
        """Does it, checks the answer, and says in a few words what came of it."""
        ...


@dataclass
class Slot:
    """A place for a collection. `lock` is held while one is created or deleted, so that there
    is one or none for whoever holds it."""

    namespace: str
    name: str
    current: CollectionModel | None = None
    # Created or deleted by a call that was never answered.
    unsure: CollectionModel | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class World:
    """`ending`: the process was told to end, or will be soon. `full`: its disk is."""

    slots: tuple[Slot, ...]
    folder: Path
    ending: bool = False
    full: bool = False
    # Calls under way that kills aim at.
    under_way: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    stub: Stub | None = None

    async def call(
        self, method: Callable[[Stub], Callable[..., Awaitable[Any]]], request: object
    ) -> Any:
        """Calls, again for as long as the retriever says that it has too much to do.

        Raises Lost, and what the retriever refuses as it is in sirdar.errors.
        """
        assert self.stub is not None
        started = time.monotonic()
        while True:
            try:
                return await method(self.stub)(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if self.ending and error.code() in _BROKEN:
                    raise Lost from None
                fault = from_rpc_error(error)
                behind = isinstance(fault, ResourceExhausted) and fault.reason in _BACKPRESSURE
                if not behind:
                    raise fault from None
                self.counts[f"refused with {fault.reason}"] += 1
                if time.monotonic() - started > CALL_SECONDS:
                    raise Violation(f"writers are held up for good: {fault}") from None
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def collection(self, place: int) -> AsyncIterator["Found"]:
        """The collection of a slot, or that there is none, which stays true for the block."""
        slot = self.slots[place]
        model = slot.current
        if model is not None:
            with model.used():
                yield Found(slot, model)
            return
        async with slot.lock:
            model = slot.current
            if model is None:
                yield Found(slot, None)
        if model is not None:
            with model.used():
                yield Found(slot, model)


@dataclass(frozen=True)
class Found:
    """What a slot has; a block of this swallows nothing, it says what a refusal means."""

    slot: Slot
    model: CollectionModel | None

    def missing(self, fault: NotFound) -> str:
        """That the collection is not there is right when there is none, or none soon."""
        if fault.reason != "COLLECTION_NOT_FOUND":
            raise fault
        if self.model is not None and not self.model.doomed:
            raise Violation(f"{self.model} is not there: {fault}")
        return "no collection"


def must_be(expected: type[Exception], fault: Exception) -> str:
    if not isinstance(fault, expected):
        raise Violation(f"{expected.__name__} was due, not {fault!r}")
    return expected.__name__


def store_full(world: World, fault: ResourceExhausted) -> str:
    """That the disk is full is right when it is."""
    if not world.full or fault.reason != "STORE_FULL":
        raise fault
    return "STORE_FULL"
