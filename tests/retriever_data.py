"""Documents and collections to test the retriever's insides with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.retriever.store.interface import Store
from services.retriever.store.records import (
    Change,
    Collection,
    CollectionDefinition,
    DocumentWrite,
    Receipt,
    Similarity,
    Space,
)

DIMENSIONS = 8


class Log:
    """What a store told its listener."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def __call__(self, changes: Sequence[Change]) -> None:
        self.changes.extend(changes)


def definition(
    name: str, namespace: str = "default", shards: int = 3, index_kind: str = "hnsw"
) -> CollectionDefinition:
    return CollectionDefinition(
        namespace=namespace,
        name=name,
        description="",
        rerank=b"",
        labels={},
        space=Space("model", "main", DIMENSIONS, "print"),
        shards=shards,
        index_kind=index_kind,
        similarity=Similarity.COSINE,
    )


def vectors(count: int, seed: int = 0) -> NDArray[np.float16]:
    random = np.random.default_rng(seed)
    return random.standard_normal((count, DIMENSIONS)).astype(np.float16)


def document(
    document_id: str, text: str = "one two", passages: int = 1, **changed: object
) -> DocumentWrite:
    values: dict[str, object] = {
        "id": document_id,
        "title": f"title of {document_id}",
        "text": text,
        "metadata": b"",
        "content_hash": text.encode(),
        "spans": tuple((at, len(text)) for at in range(passages)),
        "vectors": vectors(passages, seed=len(text)),
    }
    return DocumentWrite(**(values | changed))  # type: ignore[arg-type]


def write(store: Store, collection: Collection, *documents: DocumentWrite) -> list[Receipt]:
    results = store.write_documents(collection.generation, documents).result()
    receipts = [result for result in results if isinstance(result, Receipt)]
    assert len(receipts) == len(results), results
    return receipts
