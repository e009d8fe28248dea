"""Sources into a collection, with every document accounted for."""

import time
from collections import deque
from collections.abc import Iterator

from sirdar.cli.checkpoint import Checkpoint
from sirdar.cli.inputs import Input
from sirdar.cli.progress import IndexProgress
from sirdar.cli.refusals import Refusals
from sirdar.cli.source import Found, Mark, Refusal, Skip, Source
from sirdar.cli.typed_metadata import typed
from sirdar.client import Client, Collection, Document


class IndexRun:
    """Feeds sources to the client, one after the other, and counts what became of them."""

    def __init__(
        self, client: Client, collection: Collection, progress: IndexProgress, refusals: Refusals
    ) -> None:
        self._client = client
        self._collection = collection.name
        self._schema = collection.schema
        self._progress = progress
        self._refusals = refusals
        self._under_way: deque[Found] = deque()
        self._began = time.monotonic()
        # The bytes of the sources before this one.
        self._base = 0
        self.indexed = 0
        self.unchanged = 0
        self.replaced = 0

    def resume(self, item: Input, checkpoint: Checkpoint) -> None:
        """Goes on where an earlier run broke off, if it did and the file is the same."""
        mark = checkpoint.load()
        if mark is None or item.resumable is None:
            self._progress.print(f"{item.file}: nothing to resume, so it is indexed from the start")
            return
        item.resumable.start_at(mark)
        self._progress.start_at(self._base + mark.position)
        self._progress.print(f"{item.file}: goes on after {mark.number:,} lines or rows")

    def index(self, source: Source, checkpoint: Checkpoint | None = None) -> None:
        """Returns when every document of the source is durable or refused."""
        self._under_way.clear()
        for outcome in self._client.index(self._collection, self._documents(source)):
            found = self._under_way.popleft()
            if outcome.receipt is not None:
                self.indexed += 1
                self.unchanged += outcome.receipt.unchanged
                self.replaced += outcome.duplicate
            else:
                message = outcome.error.message if outcome.error else "no reason was given"
                self._refusals.add(Refusal(found.place, outcome.document_id, message))
            self._progress.advance(self._base + found.position, self.indexed)
            if checkpoint is not None:
                checkpoint.reached(Mark(found.position, found.number))
        self._base += source.total_bytes or 0

    def _documents(self, source: Source) -> Iterator[Document]:
        for item in source:
            if isinstance(item, Refusal):
                self._refusals.add(item)
            elif isinstance(item, Skip):
                self._refusals.skip(item)
            else:
                try:
                    document = typed(item.document, self._schema)
                except ValueError as error:
                    self._refusals.add(Refusal(item.place, item.document.id, str(error)))
                    continue
                self._under_way.append(item)
                yield document

    def summary(self) -> str:
        """The last line: how many, how fast, how long, how many refused."""
        seconds = time.monotonic() - self._began
        rate = self.indexed / seconds if seconds > 0 else 0.0
        parts = [
            f"indexed {self.indexed:,} documents into {self._collection} "
            f"in {seconds:.1f} s ({rate:,.0f}/s)"
        ]
        if self.unchanged:
            parts.append(f"{self.unchanged:,} unchanged")
        if self.replaced:
            parts.append(f"{self.replaced:,} replaced an earlier one of the same id")
        parts.append(self._refusals.summary())
        return ", ".join(parts)
