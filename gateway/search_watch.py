"""What those who call a search know of it, and learn of it, beside request and answer."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from gateway.backends import EmbeddedQuery


@dataclass(slots=True)
class SearchWatch:
    """Of one search, whatever tasks it is made of."""

    # The query, where it was embedded before the search.
    text: str = ""
    embedded: "EmbeddedQuery | None" = None
    # The last write that the retriever's answers show, one a shard, by collection; None: they
    # do not agree, or a retriever that is older did not say.
    applied_seqs: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    # When the first of the documents that it looked at expires, in seconds since the epoch.
    expires_at: float = math.inf
    # The models that it was reranked by, serialized.
    reranked_by: set[bytes] = field(default_factory=set)

    def note(self, collection: str, applied_seqs: Sequence[int]) -> None:
        seen = tuple(applied_seqs) or None
        if self.applied_seqs.setdefault(collection, seen) != seen:
            self.applied_seqs[collection] = None


_current: ContextVar[SearchWatch | None] = ContextVar("search_watch", default=None)


@contextmanager
def watched(watch: SearchWatch) -> Iterator[None]:
    token = _current.set(watch)
    try:
        yield
    finally:
        _current.reset(token)


def note_applied(collection: str, applied_seqs: Sequence[int]) -> None:
    """The retriever answered a search of the collection, and the answer shows this much."""
    watch = _current.get()
    if watch is not None:
        watch.note(collection, applied_seqs)


def note_expiry(expires: Timestamp) -> None:
    """A document that the search looked at expires then."""
    watch = _current.get()
    if watch is not None:
        watch.expires_at = min(watch.expires_at, expires.seconds + expires.nanos / 1e9)


def note_reranked(model: bytes) -> None:
    """A model, a serialized ModelRef, gave its opinion on the search."""
    watch = _current.get()
    if watch is not None:
        watch.reranked_by.add(model)


def embedded_before(text: str, fingerprint: str) -> "EmbeddedQuery | None":
    """The query in the space that has the fingerprint, if it is there already."""
    watch = _current.get()
    if watch is None or watch.embedded is None or watch.text != text:
        return None
    return watch.embedded if watch.embedded.space.fingerprint == fingerprint else None
