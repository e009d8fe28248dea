"""A batch of documents through embedder and retriever."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from gateway.backends import Embedder, Retriever
from gateway.batch import IndexBatch, PendingItem, content_hash
from gateway.byte_budget import ByteBudget
from gateway.catalog import CollectionEntry
from gateway.settings import GatewaySettings
from sirdar.errors import (
    DeadlineExceeded,
    FieldViolation,
    ResourceExhausted,
    SirdarError,
    Unavailable,
    from_status,
)
from sirdar.v1 import retriever_pb2

T = TypeVar("T")

# The retriever's word for: the stored text is not the one whose passages were to be kept.
CONTENT_CHANGED = "CONTENT_CHANGED"
# How the tiers name a document of a batch.
_PLACE = re.compile(r"documents\[\d+\]|writes\[\d+\]\.document")


@dataclass(frozen=True, slots=True)
class Pushback:
    """A tier cannot take more just now. What it was given is tried again until it can."""

    retry_after: timedelta
    detail: str


class BatchWriter:
    """Embeds and writes batches of one collection; `on_pushback` hears once of each time that
    a tier cannot take more, however many calls it refuses until it can."""

    def __init__(
        self,
        settings: GatewaySettings,
        entry: CollectionEntry,
        embedder: Embedder,
        retriever: Retriever,
    ) -> None:
        self._settings = settings
        self._entry = entry
        self._embedder = embedder
        self._retriever = retriever
        self.on_pushback: Callable[[Pushback], None] = lambda pushback: None
        # Calls that were refused for overload and are tried again.
        self._pushed_back = 0
        # Long documents side by side would all be late: one batch of the largest at a time.
        self._embedding = ByteBudget(settings.index_bytes_in_flight // 4)

    async def process(
        self, batch: IndexBatch, before: asyncio.Task[IndexBatch] | None
    ) -> IndexBatch:
        """Gives every item a receipt or an error; writes after the batch before.

        Raises Unavailable or DeadlineExceeded, and what the batch before raised.
        """
        await self._refusing(batch.open_items(), self._prepare)
        if before is not None:
            await before
        await self._refusing(batch.open_items(), self._write)
        changed = [
            item
            for item in batch.items
            if item.error is not None and item.error.reason == CONTENT_CHANGED
        ]
        # Somebody wrote these between the check and now: embed them after all.
        for item in changed:
            item.error = None
        await self._refusing(changed, self._embed)
        await self._refusing([item for item in changed if item.open], self._write)
        return batch

    async def _refusing(
        self,
        items: Sequence[PendingItem],
        step: Callable[[Sequence[PendingItem]], Awaitable[None]],
    ) -> None:
        """Runs a step; an error that would meet every retry is answered to its items."""
        if not items:
            return
        try:
            await step(items)
        except (Unavailable, DeadlineExceeded):
            raise
        except SirdarError as error:
            for item in items:
                if item.open:
                    item.error = error

    async def _prepare(self, items: Sequence[PendingItem]) -> None:
        """Finds out what need not be embedded and embeds the rest."""
        request = retriever_pb2.CheckDocumentsRequest(
            namespace=self._entry.namespace,
            collection=self._entry.name,
            document_ids=[item.document.id for item in items],
        )
        response = await self._patiently(
            lambda: self._retriever.call(
                self._retriever.rpc.CheckDocuments, request, self._settings.index_timeout_seconds
            )
        )
        stored = {state.document_id: state.content_hash for state in response.documents}
        for item in items:
            item.content_hash = content_hash(item.document)
        await self._embed(
            [item for item in items if stored.get(item.document.id) != item.content_hash]
        )

    async def _embed(self, items: Sequence[PendingItem]) -> None:
        if not items:
            return
        size = sum(item.size_bytes for item in items)
        await self._embedding.take(size)
        try:
            embeddings = await self._patiently(
                lambda: self._embedder.embed_documents(
                    [item.document for item in items],
                    self._entry.space.model,
                    self._entry.space.fingerprint,
                    self._settings.index_timeout_seconds,
                )
            )
        finally:
            self._embedding.give(size)
        for item, embedding in zip(items, embeddings, strict=True):
            if embedding.HasField("error"):
                item.error = _for_caller(from_status(embedding.error))
            else:
                item.passages = embedding.embedded

    async def _write(self, items: Sequence[PendingItem]) -> None:
        response = await self._patiently(lambda: self._write_once(items))
        for item, outcome in zip(
            [item for item in items if item.open], response.outcomes, strict=True
        ):
            if outcome.HasField("error"):
                item.error = _for_caller(from_status(outcome.error))
            else:
                item.receipt = outcome.receipt
                # The vectors are not part of what the stream's bound counts.
                item.passages = None

    async def _write_once(
        self, items: Sequence[PendingItem]
    ) -> retriever_pb2.WriteDocumentsResponse:
        writes = [_document_write(item) for item in items if item.open]
        if not writes:
            return retriever_pb2.WriteDocumentsResponse()
        request = retriever_pb2.WriteDocumentsRequest(
            namespace=self._entry.namespace,
            collection=self._entry.name,
            fingerprint=self._entry.space.fingerprint,
            writes=writes,
        )
        try:
            return await self._retriever.call(
                self._retriever.rpc.WriteDocuments, request, self._settings.index_timeout_seconds
            )
        except Unavailable:
            # It may have been committed: writing again is harmless, but not on a condition.
            for item in items:
                if item.open and item.if_version is not None:
                    item.error = Unavailable(
                        "the retriever went away during this conditional write; "
                        "read the document to see whether it was written",
                        reason="OUTCOME_UNKNOWN",
                    )
            raise

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Tries again while the tier is away or overloaded, at most `index_patience_seconds`."""
        give_up = time.monotonic() + self._settings.index_patience_seconds
        delay = timedelta(milliseconds=50)
        pushed_back = False
        try:
            while True:
                try:
                    return await call()
                except (Unavailable, ResourceExhausted) as error:
                    # A full disk does not pass by itself: only overload says when to retry.
                    passing = isinstance(error, Unavailable) or error.retry_after is not None
                    pause = error.retry_after or delay
                    if not passing or time.monotonic() + pause.total_seconds() > give_up:
                        raise
                    if isinstance(error, ResourceExhausted) and not pushed_back:
                        pushed_back = True
                        self._push_back(Pushback(pause, error.message))
                await asyncio.sleep(pause.total_seconds())
                delay = min(2 * delay, timedelta(seconds=1))
        finally:
            self._pushed_back -= pushed_back

    def _push_back(self, pushback: Pushback) -> None:
        self._pushed_back += 1
        if self._pushed_back == 1:
            self.on_pushback(pushback)


def _for_caller(error: SirdarError) -> SirdarError:
    """The error of one document of a batch, in the words of the caller's one document."""
    error.message = _PLACE.sub("document", error.message)
    error.fields = tuple(
        FieldViolation(_PLACE.sub("document", field.field), field.description)
        for field in error.fields
    )
    return error


def _document_write(item: PendingItem) -> retriever_pb2.DocumentWrite:
    write = retriever_pb2.DocumentWrite(
        document=item.document,
        content_hash=item.content_hash,
        keep_passages=item.passages is None,
        if_version=item.if_version,
    )
    if item.passages is not None:
        for passage in item.passages.passages:
            write.passages.add(span=passage.span, vector=passage.vector)
    return write
