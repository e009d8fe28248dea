"""Shards over a real store, and an oracle that compares with every live vector by hand."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.retriever.catalog import Catalog
from services.retriever.lexical.indexer import Indexer
from services.retriever.open_collection import OpenCollection
from services.retriever.sealer import Sealer
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.records import Collection
from services.retriever.store.sqlite.store import SqliteStore
from services.retriever.view_search import search_views
from tests.retriever_data import definition, document, vectors, write

SEAL_VECTORS = 200


SEAL_SECONDS = 60


class Opened:
    """A catalog over a store in a folder, and the vectors that should be found in it."""

    def __init__(
        self, folder: Path, index_kind: str = "hnsw", snapshots: Snapshots | None = None
    ) -> None:
        self.sealer = Sealer(build_threads=1, quiet_seconds=0.05)
        self.catalog = Catalog(
            folder / "segments",
            self.sealer,
            Indexer(max_writers=1, max_readers=1, max_waiting_bytes=2**20),
            seal_vectors=SEAL_VECTORS,
            snapshots=snapshots,
        )
        self.store = SqliteStore(
            folder / "store.sqlite3", self.catalog.apply, max_waiting_bytes=2**26
        )
        self.catalog.open_all(self.store)
        self.sealer.start()
        if not self.catalog.all():
            made = definition("books", shards=2, index_kind=index_kind)
            self.catalog.open(self.store.create_collection(made).result(), self.store)

    @property
    def collection(self) -> Collection:
        return self.store.collection("default", "books")

    @property
    def books(self) -> OpenCollection:
        return self.catalog.get("default", "books")

    def close(self) -> None:
        self.sealer.close()
        self.store.close()

    def index(self, ids: Sequence[str], seed: int) -> NDArray[np.float16]:
        """Writes documents of two passages each; their vectors, two rows a document."""
        rows = vectors(2 * len(ids), seed)
        for start in range(0, len(ids), 50):
            batch = [
                document(ids[at], passages=2, vectors=rows[2 * at : 2 * at + 2])
                for at in range(start, min(start + 50, len(ids)))
            ]
            write(self.store, self.collection, *batch)
        return rows

    def delete(self, ids: Sequence[str]) -> None:
        self.store.delete_documents(self.collection.generation, ids).result()

    def seal(self) -> None:
        assert self.sealer.wait_idle(SEAL_SECONDS)

    def search(
        self, queries: NDArray[np.float32], k: int, *, exact: bool
    ) -> list[list[tuple[str, int]]]:
        """(document id, passage index) of each query's candidates, best first."""
        views = [shard.view for shard in self.books.shards]
        answers = []
        for found in search_views(views, queries, k, exact):
            passages = self.store.passages(found.ids, with_text=False)
            answers.append([(passages[at].document_id, passages[at].position) for at in found.ids])
        return answers


@contextmanager
def opened(folder: Path, index_kind: str = "hnsw") -> Iterator[Opened]:
    it = Opened(folder, index_kind)
    try:
        yield it
    finally:
        it.close()


def oracle(
    live: dict[str, NDArray[np.float16]], queries: NDArray[np.float32], k: int
) -> list[list[tuple[str, int]]]:
    names = [(name, index) for name in live for index in range(len(live[name]))]
    scores = queries @ np.concatenate(list(live.values())).astype(np.float32).T
    return [[names[at] for at in np.argsort(-row)[:k]] for row in scores]


def queries(count: int) -> NDArray[np.float32]:
    return vectors(count, seed=77).astype(np.float32)


def by_document(ids: Sequence[str], rows: NDArray[np.float16]) -> dict[str, NDArray[np.float16]]:
    return {name: rows[2 * at : 2 * at + 2] for at, name in enumerate(ids)}
