"""Recall as live queries have it: what is searched again, as it was, and what is told of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.retriever.filters import requests
from services.retriever.filters.allowed import Allowed
from services.retriever.recall import auditor as auditing
from services.retriever.recall.auditor import Auditor, CollectionRecall
from services.retriever.recall.exact import ExactSearch
from services.retriever.sealed import SealedView
from services.retriever.segment import NO_PASSAGE, GrowingSegment, Hits
from services.retriever.shard import ShardView
from services.retriever.view_search import Found, search_views
from tests.opened_shards import opened, queries
from tests.retriever_data import DIMENSIONS, vectors
from tests.unit.test_retriever_filters import RANK, library, rank_filter, ranked

KEY = 1


# So that the budget of a test is ten CPUs: it does not wait.
MANY_CPUS = 1000


WAIT_SECONDS = 60


@contextmanager
def auditor(index_kind: str = "hnsw") -> Iterator[Auditor]:
    made = Auditor(cpus=MANY_CPUS)
    made.track(KEY, "default", "books", index_kind)
    made.start()
    try:
        yield made
    finally:
        made.close()
        made.forget(KEY)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def view_of(rows: NDArray[np.float16], removed: Sequence[int] = ()) -> ShardView:
    segment = GrowingSegment(DIMENSIONS)
    for at, row in enumerate(rows):
        segment.add(at, np.array([at], np.int64), row[None])
    for at in removed:
        segment.remove(at)
    return ShardView((segment.view(),), len(rows))


def audited(
    it: Auditor, answer: Callable[[int], tuple[ShardView, NDArray[np.float32], Found]], count: int
) -> CollectionRecall:
    """Offers queries until so many were searched again."""
    at = 0
    while True:
        for estimate in it.estimates():
            if estimate.estimate.queries >= count:
                return estimate
        if len(it._waiting) < 8:
            view, query, found = answer(at)
            it.offer(KEY, [view], query, 10, [found])
            at += 1
        else:
            time.sleep(0.001)


def test_an_index_that_loses_answers_is_found_out() -> None:
    source = np.random.default_rng(9)
    view = view_of(vectors(300, seed=9))
    asked = vectors(400, seed=10).astype(np.float32)
    truth: list[float] = []

    def lossy(at: int) -> tuple[ShardView, NDArray[np.float32], Found]:
        query = asked[at % 400 : at % 400 + 1]
        (best,) = search_views([view], query, 40, True)
        kept = np.flatnonzero(source.random(40) > 0.2)[:10].tolist()
        truth.append(sum(place < 10 for place in kept) / 10)
        return view, query, Found([best.scores[i] for i in kept], [best.ids[i] for i in kept])

    with auditor() as it:
        found = audited(it, lossy, 300)
    assert (found.namespace, found.collection, found.index_kind, found.k) == (
        "default",
        "books",
        "hnsw",
        10,
    )
    estimate = found.estimate
    assert estimate.low < 0.8 < estimate.high < 0.9
    assert estimate.recall == pytest.approx(np.mean(truth), abs=0.03)


def test_the_recall_of_segments_in_which_a_fifth_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SealedView.search

    def part(
        self: SealedView,
        queries: NDArray[np.float32],
        k: int,
        ef_search: int | None,
        allowed: Allowed | None = None,
    ) -> Hits:
        hits = whole(self, queries, k, ef_search, allowed)
        if ef_search is not None:
            lost = hits.ids % 5 == 0
            hits.scores[lost], hits.ids[lost] = -np.inf, NO_PASSAGE
        return hits

    monkeypatch.setattr(SealedView, "search", part)
    with opened(tmp_path) as books, auditor() as it:
        books.index([f"d{at}" for at in range(1500)], seed=11)
        books.seal()
        books.delete([f"d{at}" for at in range(0, 1500, 7)])
        books.index([f"new{at}" for at in range(40)], seed=12)
        views = [shard.view for shard in books.books.shards]
        asked = queries(300)
        answers = search_views(views, asked, 10, False)
        exact = search_views(views, asked, 10, True)
        true = np.mean([len({*a.ids} & {*b.ids}) / 10 for a, b in zip(answers, exact, strict=True)])
        assert 0.7 < true < 0.9
        for at in range(300):
            until(lambda: len(it._waiting) < 8)
            it.offer(KEY, views, asked[at : at + 1], 10, answers[at : at + 1])
        until(lambda: bool(it.estimates()) and not it._waiting)
        (found,) = it.estimates()
    assert found.estimate.low <= true <= found.estimate.high
    assert found.estimate.recall == pytest.approx(true, abs=0.02)


def test_a_view_is_searched_again_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as books:
        books.index([f"d{at}" for at in range(500)], seed=13)
        books.seal()
        made = Auditor(cpus=MANY_CPUS)
        made.track(KEY, "default", "books", "hnsw")
        views = [shard.view for shard in books.books.shards]
        answers = search_views(views, queries(5), 10, True)
        made.offer(KEY, views, queries(5), 10, answers)
        del views
        # All that answered is deleted, and what it was found in is merged away.
        books.delete([f"d{at}" for at in range(450)])
        books.index([f"new{at}" for at in range(500)], seed=14)
        books.seal()
        made.start()
        until(lambda: bool(made.estimates()) and made.estimates()[0].estimate.queries == 5)
        assert made.estimates()[0].estimate.recall == 1.0
        made.close()
        made.forget(KEY)


def test_what_scores_the_same_is_as_right() -> None:
    rows = np.concatenate([np.repeat(vectors(1, seed=15), 50, axis=0), vectors(50, seed=16)])
    view = view_of(rows, removed=[0, 1, 2])
    query = rows[:1].astype(np.float32)
    again = ExactSearch([view], query, 10)
    while not again.done:
        again.step()
    score = float(query[0] @ query[0])

    def recall(ids: Sequence[int], scores: Sequence[float]) -> float | None:
        return again.recall(np.array(scores, np.float32), np.array(ids, np.int64))

    assert not {0, 1, 2} & set(again.ids.tolist())
    assert recall(range(40, 50), [score] * 10) == 1.0
    assert recall(range(40, 45), [score] * 5) == 0.5
    assert recall(range(90, 100), [score * 0.9] * 10) == 0.0
    # A score that is too good is not that of a passage.
    assert recall(range(90, 100), [score * 1.1] * 10) == 0.0


def test_fewer_live_passages_than_asked_for_and_none() -> None:
    few = ExactSearch([view_of(vectors(4))], queries(1), 10)
    while not few.done:
        few.step()
    assert few.recall(few.scores[:2], few.ids[:2]) == 0.5
    none = ExactSearch((), queries(1), 10)
    assert none.done
    assert none.recall(np.empty(0, np.float32), np.empty(0, np.int64)) is None


def test_long_segments_are_searched_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retriever.recall.exact._STEP_VALUES", 100 * DIMENSIONS)
    with opened(tmp_path) as books:
        books.index([f"d{at}" for at in range(800)], seed=17)
        books.seal()
        books.delete([f"d{at}" for at in range(0, 800, 3)])
        books.index([f"new{at}" for at in range(90)], seed=18)
        views = [shard.view for shard in books.books.shards]
        for query in np.split(queries(4), 4):
            again = ExactSearch(views, query, 10)
            steps = 0
            while not again.done:
                again.step()
                steps += 1
            (exact,) = search_views(views, query, 10, True)
            assert steps > 15
            assert again.ids.tolist() == exact.ids


def test_filtered_queries_are_searched_again_with_their_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retriever.recall.exact._STEP_VALUES", 100 * DIMENSIONS)
    it = library(tmp_path, {})
    try:
        it.set_schema(RANK)
        it.put([f"d{at}" for at in range(700)], ranked(700), 21)
        it.seal()
        it.drop([f"d{at}" for at in range(0, 700, 3)])
        it.put([f"new{at}" for at in range(90)], ranked(90), 22)
        condition = requests.condition(rank_filter(40, 400), [RANK])
        views = [shard.view for shard in it.books.shards]
        assert all(len(view.segments) > 1 for view in views)
        for query in np.split(queries(4), 4):
            again = ExactSearch(views, query, 10, condition)
            while not again.done:
                again.step()
            (exact,) = search_views(views, query, 10, True, condition)
            assert again.ids.tolist() == exact.ids
        answers = search_views(views, queries(3), 10, False, condition)
        with auditor() as made:
            made.offer(KEY, views, queries(3), 10, answers, condition)
            until(lambda: bool(made.estimates()) and made.estimates()[0].estimate.queries == 3)
            assert made.estimates()[0].estimate.recall == 1.0
    finally:
        it.close()


def test_a_flood_is_sampled_less_and_loses_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    it = Auditor(cpus=2, wall=lambda: now[0])
    for key in (1, 2):
        it.track(key, "default", f"flood{key}", "hnsw")
    view = view_of(vectors(20))
    found = search_views([view], queries(1), 10, True)
    for _ in range(10):
        for _ in range(3000):
            it.offer(1, [view], queries(1), 10, found)
        it.offer(2, [view], queries(1), 10, found)
        now[0] += 10
        it._adjust()
    busy, quiet = (it._tracked[key].sampler.probability for key in (1, 2))
    # 300 queries a second that cost 1 ms each, and 16 ms a second to spend on them.
    assert busy == pytest.approx(0.016 / 0.3, rel=0.1)
    assert quiet == 1.0
    assert len(it._waiting) == auditing._MAX_WAITING


def test_a_forgotten_collection_leaves_no_metric() -> None:
    view = view_of(vectors(20))
    found = search_views([view], queries(1), 10, True)[0]
    labels = {"tenant": "default", "collection": "books", "index_kind": "hnsw", "k": "10"}
    with auditor() as it:
        audited(it, lambda at: (view, queries(1), found), 1)
        assert REGISTRY.get_sample_value("sirdar_retriever_recall", labels) == 1.0
    assert it.estimates() == []
    assert REGISTRY.get_sample_value("sirdar_retriever_recall", labels) is None
    it.offer(KEY, [view], queries(1), 10, [found])
    assert not it._waiting
