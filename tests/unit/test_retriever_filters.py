"""Filters over columns and shards, against a brute-force oracle; seeds are in the test's names."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from services.retriever.filters import columns as columns_module
from services.retriever.filters import numbers, requests
from services.retriever.filters.allowed import Allowed
from services.retriever.filters.columns import Columns
from services.retriever.filters.conditions import Condition
from services.retriever.filters.deletion import delete_matching
from services.retriever.metadata import stored
from services.retriever.store.records import (
    CollectionUpdate,
    DocumentPatch,
    FieldSchema,
    FieldType,
)
from services.retriever.store.sqlite.store import SqliteStore
from services.retriever.store.tombstones import DocumentKeys
from services.retriever.view_search import search_views
from sirdar.v1.document_pb2 import MetadataValue
from sirdar.v1.filter_pb2 import Filter
from tests import filter_oracle as oracle
from tests.opened_shards import Opened, opened
from tests.retriever_data import document, vectors, write

KIND = FieldSchema("kind", FieldType.KEYWORD)
RANK = FieldSchema("rank", FieldType.INTEGER)


def forget(columns: Columns, live: dict[int, oracle.Metadata], draw: random.Random) -> None:
    """Some of the documents are gone, and nobody said so."""
    for key in draw.sample(sorted(live), len(live) // 3):
        del live[key]
    columns.keep_only(DocumentKeys(np.array(sorted(live), np.int64), 0))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dense", [1, 16])
def test_columns_answer_what_the_oracle_answers(
    seed: int, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorted parts and tails, masks and bitmaps, before and after being made anew."""
    monkeypatch.setattr(numbers, "_MIN_TAIL", 20)
    monkeypatch.setattr(numbers, "_DENSE", dense)
    monkeypatch.setattr(columns_module, "_SPARE_DEAD", 50)
    draw = random.Random(seed)
    fields = oracle.schema(draw)
    columns = Columns(fields)
    live: dict[int, oracle.Metadata] = {}
    views = []
    for _ in range(15):
        batch: list[tuple[int, bytes | None]] = []
        for _ in range(draw.randint(1, 40)):
            old = draw.random() < 0.4 and live
            newest = max([0, *columns.keys.read()[-1:], *(item[0] for item in batch)])
            key = draw.choice(list(live)) if old else newest + 3
            if not old and draw.random() < 0.2:
                # A document that is older than others and comes after them.
                key = draw.randint(1, newest + 1)
            if key in {item[0] for item in batch} or (not old and key in columns.keys.read()):
                continue
            if old and draw.random() < 0.3:
                live.pop(key)
                batch.append((key, None))
                continue
            made = oracle.metadata(draw, fields)
            live[key] = made
            batch.append((key, stored(made, "")))
        columns = columns.with_room(batch)
        columns.apply(batch)
        if draw.random() < 0.1:
            forget(columns, live, draw)
        if columns.wasteful:
            columns = columns.compacted()
        views.append((columns.view(), dict(live)))
    for _ in range(60):
        message = oracle.filter_(draw, fields)
        condition = requests.condition(message, fields)
        # Older views are as they were.
        for view, then in draw.sample(views, 3) + views[-1:]:
            wanted = sorted(key for key in then if oracle.meets(message, then[key], fields))
            allowed = Allowed(condition, view)
            assert allowed.keys.tolist() == wanted, (seed, message)
            assert allowed.documents == len(wanted)


class Library(Opened):
    """Documents of one passage with metadata, and what is live of them."""

    live: dict[str, tuple[np.ndarray, oracle.Metadata]]

    def put(self, ids: Sequence[str], made: Sequence[oracle.Metadata], seed: int) -> None:
        self.put_rows(ids, made, vectors(len(ids), seed))

    def put_rows(
        self, ids: Sequence[str], made: Sequence[oracle.Metadata], rows: np.ndarray
    ) -> None:
        for start in range(0, len(ids), 100):
            batch = [
                document(ids[at], vectors=rows[at : at + 1], metadata=stored(made[at], ""))
                for at in range(start, min(start + 100, len(ids)))
            ]
            write(self.store, self.collection, *batch)
        self.live |= {ids[at]: (rows[at], made[at]) for at in range(len(ids))}

    def drop(self, ids: Sequence[str]) -> None:
        self.delete(ids)
        self.live = {key: item for key, item in self.live.items() if key not in set(ids)}

    def set_schema(self, *fields: FieldSchema) -> None:
        update = CollectionUpdate(schema=fields)
        changed = self.store.update_collection("default", "books", update).result()
        self.catalog.update(changed, self.store)

    def among(
        self, queries: np.ndarray, k: int, condition: Condition, *, exact: bool
    ) -> list[list[str]]:
        views = [shard.view for shard in self.books.shards]
        answers = []
        for found in search_views(views, queries, k, exact, condition):
            passages = self.store.passages(found.ids, with_text=False)
            answers.append([passages[at].document_id for at in found.ids])
        return answers

    def expected(
        self, queries: np.ndarray, k: int, message: Filter, fields: Sequence[FieldSchema]
    ) -> list[list[str]]:
        ids = [key for key, (_, made) in self.live.items() if oracle.meets(message, made, fields)]
        if not ids:
            return [[] for _ in queries]
        rows = np.array([self.live[key][0] for key in ids]).astype(np.float32)
        return [[ids[at] for at in np.argsort(-row)[:k]] for row in queries @ rows.T]


def library(folder: Path, live: dict[str, tuple[np.ndarray, oracle.Metadata]]) -> Library:
    it = Library(folder)
    it.live = live
    return it


@pytest.mark.parametrize("seed", [1, 2])
def test_exact_filtered_searches_are_brute_force_through_segments_updates_and_restarts(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    fields = oracle.schema(draw)
    queries = vectors(3, seed=99).astype(np.float32)
    live: dict[str, tuple[np.ndarray, oracle.Metadata]] = {}
    for start in range(3):
        it = library(tmp_path, live)
        try:
            if start == 0:
                it.set_schema(*fields)
            for round_ in range(3):
                new = [f"d{start}-{round_}-{at}" for at in range(draw.randint(50, 250))]
                old = draw.sample(sorted(it.live), min(40, len(it.live)))
                ids = new + old
                it.put(
                    ids,
                    [oracle.metadata(draw, fields) for _ in ids],
                    100 * start + 10 * round_ + seed,
                )
                it.drop(draw.sample(sorted(it.live), len(it.live) // 10))
                if round_ == 1:
                    it.seal()
                for _ in range(15):
                    message = oracle.filter_(draw, fields)
                    condition = requests.condition(message, fields)
                    for k in (1, 10, 2000):
                        assert it.among(queries, k, condition, exact=True) == it.expected(
                            queries, k, message, fields
                        ), (seed, start, round_, message)
            live = it.live
        finally:
            it.close()


def rank_filter(low: int, high: int) -> Filter:
    made = Filter()
    made.range.field = "rank"
    made.range.at_least.int64_value = low
    made.range.less_than.int64_value = high
    return made


def ranked(count: int) -> list[oracle.Metadata]:
    return [{"rank": MetadataValue(int64_value=at)} for at in range(count)]


def test_a_schema_that_comes_later_finds_what_was_there(tmp_path: Path) -> None:
    it = library(tmp_path, {})
    try:
        it.put([f"d{at}" for at in range(300)], ranked(300), 1)
        it.drop(["d7"])
        it.set_schema(RANK)
        queries = vectors(2, seed=3).astype(np.float32)
        message = rank_filter(5, 10)
        condition = requests.condition(message, [RANK])
        found = it.among(queries, 10, condition, exact=True)
        assert found == it.expected(queries, 10, message, [RANK])
        assert sorted(found[0]) == ["d5", "d6", "d8", "d9"]
    finally:
        it.close()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("goes", ["independent", "with the query", "against the query"])
def test_recall_holds_at_every_selectivity(big: Library, share: float, goes: str) -> None:
    """A document's rank is its place on an axis (`with`, `against`), or means nothing."""
    count = len(big.live)
    size = max(10, int(share * count))
    found = wanted = 0
    name = "free" if goes == "independent" else "rank"
    for query in vectors(25, seed=31).astype(np.float32):
        # Documents of high rank lie where the first component is high.
        low = 0
        if goes == "with the query":
            low = count - size if query[0] > 0 else 0
        elif goes == "against the query":
            low = 0 if query[0] > 0 else count - size
        message = rank_filter(low, low + size)
        message.range.field = name
        fields = [RANK, FieldSchema("free", FieldType.INTEGER)]
        condition = requests.condition(message, fields)
        right = big_best(big, name, low, low + size, query)
        (got,) = big.among(query[None], 10, condition, exact=False)
        assert len(got) == len(right)
        found += len(set(right) & set(got))
        wanted += len(right)
    assert found / wanted >= 0.95


def big_best(big: Library, name: str, low: int, high: int, query: np.ndarray) -> list[str]:
    rows, ids = [], []
    for key, (row, made) in big.live.items():
        if low <= made[name].int64_value < high:
            ids.append(key)
            rows.append(row)
    scores = np.array(rows).astype(np.float32) @ query
    return [ids[at] for at in np.argsort(-scores)[:10]]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Library:  # type: ignore[misc]
    """12,000 documents in two shards, all sealed, some written again and some deleted since."""
    it = library(tmp_path_factory.mktemp("big"), {})
    it.set_schema(RANK, FieldSchema("free", FieldType.INTEGER))
    count = 12_000
    axis = np.argsort(np.argsort(vectors(count, seed=21)[:, 0].astype(np.float32)))
    free = np.random.default_rng(4).permutation(count)
    made: list[oracle.Metadata] = [
        {"rank": MetadataValue(int64_value=int(a)), "free": MetadataValue(int64_value=int(b))}
        for a, b in zip(axis, free, strict=True)
    ]
    ids = [f"d{at}" for at in range(count)]
    it.put(ids, made, 21)
    it.seal()
    it.drop(ids[5::50])
    yield it
    it.close()


def test_deleting_by_filter_leaves_what_was_rewritten_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = library(tmp_path, {})
    try:
        it.set_schema(RANK)
        it.put([f"d{at}" for at in range(1200)], ranked(1200), 1)
        condition = requests.condition(rank_filter(100, 1100), [RANK])
        shards = it.books.shards
        counted = delete_matching(it.store, shards, condition, count_only=True, until=None)
        assert (counted.documents, counted.positions) == (1000, ())
        plain = type(it.store).delete_documents
        rewritten: list[str] = []

        def between(self: SqliteStore, generation, ids, versions=None):  # type: ignore[no-untyped-def]
            if not rewritten:
                rewritten.extend(ids[:2])
                # One that no longer meets the filter, and one that still does.
                it.put(ids[:2], [ranked(1)[0], ranked(201)[200]], 5)
            return plain(self, generation, ids, versions)

        monkeypatch.setattr(type(it.store), "delete_documents", between)
        done = delete_matching(it.store, shards, condition, count_only=False, until=None)
        assert done.documents == 999
        assert {item.shard for item in done.positions} == {0, 1}
        left = delete_matching(it.store, shards, condition, count_only=True, until=None)
        assert left.documents == 0
        states = it.store.document_states(it.collection.generation, rewritten)
        assert [item.id for item in states] == rewritten[:1]
    finally:
        it.close()


def test_what_is_expired_is_not_counted_and_not_said_to_be_deleted(tmp_path: Path) -> None:
    it = library(tmp_path, {})
    try:
        it.set_schema(RANK)
        it.put([f"d{at}" for at in range(20)], ranked(20), 1)
        over = [
            DocumentPatch(f"d{at}", lambda data: data, 100, changes_expiry=True, expires_ns=1)
            for at in (3, 11, 17)
        ]
        it.store.update_documents(it.collection.generation, over).result()
        condition = requests.condition(rank_filter(10, 20), [RANK])
        shards = it.books.shards
        assert it.store.has_expired()
        for count_only in (True, False):
            done = delete_matching(it.store, shards, condition, count_only=count_only, until=None)
            assert done.documents == 8
    finally:
        it.close()


def test_without_a_schema_there_are_no_columns(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        it.index(["a", "b"], seed=1)
        assert all(shard.view.columns is None for shard in it.books.shards)
