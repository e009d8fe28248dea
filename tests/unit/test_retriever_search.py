"""The queue in front of searches, and reads that wait for their writes."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from services.retriever.applied import AppliedSeq
from services.retriever.search import SearchAnswer, Searcher, SearchRequest
from services.retriever.segment import GrowingSegment
from services.retriever.shard import Shard, ShardView
from services.retriever.shard_folder import ShardFolder
from services.retriever.store.interface import Store
from services.retriever.store.records import Generation, Passage, Similarity, Space
from services.retriever.store.sqlite.store import SqliteStore
from sirdar.errors import DeadlineExceeded, ResourceExhausted
from tests.retriever_data import DIMENSIONS, Log, vectors

GENERATION = Generation(1, 1, Space("model", "", DIMENSIONS, "p"), 1, "flat", Similarity.DOT)
MAX_WAITING = 6


class HeldStore(SqliteStore):
    """A store whose reads can be held up, and that remembers them."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, Log(), max_waiting_bytes=2**20)
        self.reading = threading.Event()
        self.go_on = threading.Event()
        self.reads: list[list[int]] = []
        self.expired: set[int] = set()

    def passages(self, passage_ids: Sequence[int], with_text: bool) -> dict[int, Passage]:
        self.reads.append(sorted(passage_ids))
        self.reading.set()
        self.go_on.wait()
        there = [item for item in passage_ids if item not in self.expired]
        return {item: Passage(f"d{item}", 0, 0, 1, "", "", b"", 1) for item in there}

    def has_expired(self) -> bool:
        return bool(self.expired)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HeldStore]:
    held = HeldStore(tmp_path / "store.sqlite3")
    yield held
    held.close()


@pytest.fixture
def searcher(store: Store) -> Iterator[Searcher]:
    running = Searcher(store, threads=1, faiss_threads=1, max_waiting=MAX_WAITING)
    yield running
    running.close()


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., SearchRequest]:
    """Makes requests over a shard with ten passages, numbered from 0."""
    growing = GrowingSegment(DIMENSIONS)
    rows = vectors(10, seed=1)
    for number in range(10):
        growing.add(number, np.array([number]), rows[number : number + 1])
    folder = ShardFolder(tmp_path / "segments", 1, 0, "flat", DIMENSIONS)
    shard = Shard(GENERATION, 0, folder, seal_vectors=1000, on_change=lambda _: None)
    shard.view = ShardView((growing.view(),), 10)

    def make(passage: int, candidates: int = 1, deadline: float | None = None) -> SearchRequest:
        query = 100 * rows[passage : passage + 1].astype(np.float32)
        return SearchRequest((shard,), query, candidates, True, None, deadline)

    return make


def hold(store: HeldStore, searcher: Searcher, request: SearchRequest) -> Future[SearchAnswer]:
    """Occupies the search thread until `go_on`."""
    future = searcher.submit(request)
    store.reading.wait()
    return future


def best(future: Future[SearchAnswer]) -> list[int]:
    return [found.ids[0] for found in future.result().found]


def test_requests_that_wait_are_searched_together_and_answered_apart(
    store: HeldStore, searcher: Searcher, request_for: Callable[..., SearchRequest]
) -> None:
    first = hold(store, searcher, request_for(0))
    alike = [searcher.submit(request_for(number)) for number in (1, 2, 3)]
    other = searcher.submit(request_for(4, candidates=2))
    store.go_on.set()
    assert [best(future) for future in (first, *alike, other)] == [[0], [1], [2], [3], [4]]
    assert [len(future.result().found[0].ids) for future in (first, other)] == [1, 2]
    assert store.reads[:2] == [[0], [1, 2, 3]]
    assert len(store.reads) == 3


def test_a_search_whose_deadline_passed_is_not_made(
    store: HeldStore, searcher: Searcher, request_for: Callable[..., SearchRequest]
) -> None:
    hold(store, searcher, request_for(0))
    late = searcher.submit(request_for(1, deadline=time.monotonic() - 1))
    given_up = searcher.submit(request_for(2))
    assert given_up.cancel()
    fine = searcher.submit(request_for(3, deadline=time.monotonic() + 3600))
    store.go_on.set()
    with pytest.raises(DeadlineExceeded):
        late.result()
    assert best(fine) == [3]
    assert store.reads == [[0], [3]]


def test_too_many_waiting_searches_are_refused_with_a_delay(
    store: HeldStore, searcher: Searcher, request_for: Callable[..., SearchRequest]
) -> None:
    hold(store, searcher, request_for(0))
    waiting = [searcher.submit(request_for(1)) for _ in range(MAX_WAITING)]
    with pytest.raises(ResourceExhausted) as refusal:
        searcher.submit(request_for(1))
    assert refusal.value.retry_after is not None
    store.go_on.set()
    assert [best(future) for future in waiting] == [[1]] * MAX_WAITING


def test_what_is_expired_takes_no_place_of_what_is_there(
    store: HeldStore, searcher: Searcher, request_for: Callable[..., SearchRequest]
) -> None:
    store.go_on.set()
    (order,) = searcher.submit(request_for(0, candidates=10)).result().found
    store.expired = set(order.ids[:8])
    for candidates in (1, 2):
        (found,) = searcher.submit(request_for(0, candidates)).result().found
        assert found.ids == order.ids[8 : 8 + candidates]


async def test_a_read_waits_until_its_write_is_applied() -> None:
    applied = AppliedSeq()
    applied.advance(3)
    await applied.wait(3, timeout_seconds=0)
    waiting = asyncio.create_task(applied.wait(5, timeout_seconds=3600))
    await asyncio.sleep(0)
    threading.Thread(target=applied.advance, args=(4,)).start()
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    threading.Thread(target=applied.advance, args=(5,)).start()
    await waiting


async def test_a_read_waits_no_longer_than_its_deadline() -> None:
    applied = AppliedSeq()
    with pytest.raises(DeadlineExceeded) as error:
        await applied.wait(1, timeout_seconds=0.01)
    assert error.value.reason == "NOT_APPLIED_YET"
