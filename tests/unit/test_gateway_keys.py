"""Which searches are equal, and which the semantic cache is for."""

import time

from gateway.cache.keys import Keys
from gateway.catalog import CollectionEntry
from gateway.settings import GatewaySettings
from sirdar.v1 import collection_pb2, common_pb2, query_pb2, search_pb2

ENTRY = CollectionEntry(
    "default",
    "notes",
    common_pb2.EmbeddingSpace(),
    collection_pb2.SIMILARITY_COSINE,
    collection_pb2.RerankSettings(),
    True,
    time.monotonic(),
)


def shape(*stages: query_pb2.QueryStage, explain: bool = False) -> bytes | None:
    request = search_pb2.SearchRequest(
        collection="notes", query="words", stages=stages, explain=explain
    )
    return Keys(GatewaySettings()).of_shape(request, [ENTRY]).with_text(request.query).shape


def test_stages_that_search_for_the_query_by_words_alone_are_not_for_the_semantic_cache() -> None:
    lexical = query_pb2.QueryStage(name="words", lexical=query_pb2.LexicalPrefetch())
    dense = query_pb2.QueryStage(name="meaning", dense=query_pb2.DensePrefetch())
    other = query_pb2.QueryStage(name="other", dense=query_pb2.DensePrefetch(query="ships"))
    assert shape(lexical) is None
    assert shape(lexical, other) is None
    assert shape(lexical, dense) is not None


def test_an_explanation_is_of_the_query_that_was_asked() -> None:
    assert shape() is not None
    assert shape(explain=True) is None


def test_only_what_is_reranked_depends_on_the_model_that_reranks() -> None:
    keys = Keys(GatewaySettings())
    for enabled in (True, False):
        request = search_pb2.SearchRequest(collection="notes", query="words")
        request.rerank.enabled = enabled
        slots = {keys.of_shape(request, [ENTRY], model).digest for model in (b"", b"one", b"other")}
        assert len(slots) == (3 if enabled else 1)
