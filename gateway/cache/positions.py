"""Where the writes of collections stand, asked of the retriever for each lookup."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.backends import Retriever
from gateway.cache.metrics import LOOKUP_SECONDS
from services.runtime.deadline import remaining_seconds, set_deadline
from sirdar.errors import DeadlineExceeded, Unimplemented
from sirdar.v1 import retriever_pb2

# A search does without the cache rather than wait longer.
_LIMIT_SECONDS = 0.25
# An older retriever does not know positions; it is asked again after so long.
_OLDER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where the writes of one or several collections stand. The digest is equal for equal
    identities and committed sequences, and else another."""

    digest: bytes
    committed_seqs: Mapping[str, tuple[int, ...]]


class Positions:
    """Each answer was given after its question: what an earlier caller was told is no answer.

    While a collection is being asked about, all who come wait for the next
    question together. So there is one call at a time a collection, however
    many look up.
    """

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        # Those who wait for the next question; a key for each collection that is asked about.
        self._next: dict[_Name, asyncio.Future[_Answer] | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._older_until = 0.0

    async def of(self, namespace: str, collections: Sequence[str]) -> Position:
        """Raises what the retriever raises; Unimplemented where it is older."""
        if time.monotonic() < self._older_until:
            raise Unimplemented("the retriever does not know positions")
        with LOOKUP_SECONDS.labels("position").time():
            if len(collections) == 1:
                found = [await self._one((namespace, collections[0]))]
            else:
                names = ((namespace, name) for name in collections)
                found = await asyncio.gather(*map(self._one, names))
        digest = hashlib.sha256()
        committed: dict[str, tuple[int, ...]] = {}
        for name, answer in zip(collections, found, strict=True):
            committed[name] = tuple(answer.committed_seqs)
            digest.update(repr((name, answer.identity, committed[name])).encode())
        return Position(digest.digest(), committed)

    async def _one(self, name: "_Name") -> "_Answer":
        if name not in self._next:
            self._next[name] = None
            try:
                return await self._ask(name)
            finally:
                self._go_on(name)
        following = self._next[name]
        if following is None:
            following = self._next[name] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(asyncio.shield(following), remaining_seconds())
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed before the collection's position was known; allow more time"
            ) from None

    def _go_on(self, name: "_Name") -> None:
        """The question is answered: the next one, if anybody waits for it."""
        following = self._next[name]
        if following is None:
            del self._next[name]
            return
        self._next[name] = None
        task = asyncio.create_task(self._answer(name, following))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, name: "_Name", following: "asyncio.Future[_Answer]") -> None:
        # Not the deadline of the call that happened to be before.
        set_deadline(None)
        try:
            following.set_result(await self._ask(name))
        except Exception as error:  # noqa: BLE001 - raised in those who wait
            following.set_exception(error)
            # Nobody may be waiting any more.
            following.exception()
        finally:
            self._go_on(name)

    async def _ask(self, name: "_Name") -> "_Answer":
        namespace, collection = name
        request = retriever_pb2.GetPositionRequest(namespace=namespace, collection=collection)
        try:
            return await self._retriever.call(
                self._retriever.rpc.GetPosition, request, _LIMIT_SECONDS
            )
        except Unimplemented:
            self._older_until = time.monotonic() + _OLDER_SECONDS
            raise


_Name = tuple[str, str]
_Answer = retriever_pb2.GetPositionResponse
