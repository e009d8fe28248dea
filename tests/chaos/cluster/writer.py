"""A caller that writes and deletes documents of its own, and knows what was acknowledged."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

from sirdar.client import AsyncClient, Document
from sirdar.errors import DeadlineExceeded, ResourceExhausted, SirdarError, Unavailable
from tests.chaos.cluster.contents import TEXTS
from tests.chaos.cluster.histories import Histories, name

COLLECTION = "notes"
# Between two documents of a stream, and after an error.
_PACE_SECONDS, _PAUSE_SECONDS = 0.03, 0.2
_STREAM_DOCUMENTS, _DELETED = 40, 3
_PASSING = (Unavailable, DeadlineExceeded, ResourceExhausted)


class Writer:
    """One stream of documents after the other, and some deletions between them."""

    def __init__(
        self, address: str, histories: Histories, documents: Sequence[int], seed: int
    ) -> None:
        self._client = AsyncClient(address)
        self._histories = histories
        self._documents = documents
        self._random = random.Random(seed)
        self.stop = asyncio.Event()
        self.acknowledged = 0
        self.refused = 0
        """Streams and items that ended with an error that passes: done or not, nobody knows."""

    async def run(self) -> None:
        """Raises what should not have come."""
        async with self._client:
            while not self.stop.is_set():
                try:
                    await self._index()
                    await self._delete()
                except _PASSING:
                    self.refused += 1
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def _index(self) -> None:
        sent: list[tuple[int, int]] = []

        async def documents() -> AsyncIterator[Document]:
            for _ in range(_STREAM_DOCUMENTS):
                number = self._random.choice(self._documents)
                document, attempt = self._histories.written(
                    number, self._random.randrange(len(TEXTS))
                )
                sent.append((number, attempt))
                yield document
                await asyncio.sleep(_PACE_SECONDS)

        async for outcome in self._client.index(COLLECTION, documents()):
            if outcome.receipt is not None:
                number, attempt = sent[outcome.index]
                self._acknowledge(number, attempt, outcome.receipt.consistency_token)
            else:
                self._refuse(outcome.error)

    async def _delete(self) -> None:
        numbers = self._random.sample(self._documents, _DELETED)
        attempts = [self._histories.deleted(number) for number in numbers]
        outcomes = await self._client.delete_documents(
            COLLECTION, [name(number) for number in numbers]
        )
        for number, attempt, outcome in zip(numbers, attempts, outcomes, strict=True):
            if outcome.error is None:
                self._acknowledge(number, attempt, outcome.consistency_token)
            else:
                self._refuse(outcome.error)

    def _acknowledge(self, number: int, attempt: int, token: str) -> None:
        self._histories.acknowledge(number, attempt, token)
        self.acknowledged += 1

    def _refuse(self, error: SirdarError | None) -> None:
        assert isinstance(error, _PASSING), f"a write was refused with {error!r}"
        self.refused += 1
