"""The model that the reranker scores with: answers of another one are other answers."""

import asyncio
from contextlib import suppress

from gateway.backends import Reranker
from sirdar.errors import SirdarError

# As old as what the gateway remembers of a collection; whatever is reranked tells it at once.
_AGE_SECONDS = 30.0
_LIMIT_SECONDS = 1.0


class RerankModel:
    """Asked for in the background: a lookup never waits for it."""

    def __init__(self, reranker: Reranker | None) -> None:
        self._reranker = reranker
        self._task: asyncio.Task[None] | None = None

    @property
    def known(self) -> bytes:
        """As the reranker said last, a serialized ModelRef; empty: it has not said."""
        return self._reranker.model if self._reranker is not None else b""

    def start(self) -> None:
        if self._reranker is not None:
            self._task = asyncio.create_task(self._ask(self._reranker))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self, reranker: Reranker) -> None:
        while True:
            # Away, or older: what is reranked tells, and is not kept under another model's name.
            with suppress(SirdarError):
                await reranker.models(_LIMIT_SECONDS)
            await asyncio.sleep(_AGE_SECONDS)
