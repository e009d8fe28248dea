"""Requests that are read once."""

from dataclasses import replace

import pytest

from gateway.cache.known_requests import KnownRequests
from gateway.cache.use import CacheUse
from gateway.catalog import CollectionEntry
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, common_pb2, query_pb2, search_pb2

ENTRY = CollectionEntry(
    "default",
    "notes",
    common_pb2.EmbeddingSpace(),
    collection_pb2.SIMILARITY_COSINE,
    collection_pb2.RerankSettings(),
    lexical=True,
    read_at=0.0,
)


def known_requests() -> KnownRequests:
    return KnownRequests(GatewaySettings())


def request(query: str = "where", **more: object) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection="notes", query=query, **more)  # type: ignore[arg-type]


def test_equal_requests_are_one_and_others_are_others() -> None:
    known = known_requests()
    first = known.get(request())
    assert (first.namespace, first.collections) == ("default", ("notes",))
    assert known.get(request()) is first
    assert known.get(request("when")).key([ENTRY]) != first.key([ENTRY])
    assert known.get(request(cache=query_pb2.CACHE_USE_NONE)).use is CacheUse.NONE


def test_a_key_is_of_the_collections_that_are_known_now() -> None:
    known = known_requests().get(request())
    key = known.key([ENTRY])
    assert known.key([ENTRY]) is key
    reranked = replace(ENTRY, rerank=collection_pb2.RerankSettings(enabled=True, depth=7))
    changed = known.key([reranked])
    assert changed.slot != key.slot
    assert known.key([ENTRY]).slot == key.slot
    assert known.key([reranked], b"one").slot != known.key([reranked], b"other").slot


def test_an_invalid_request_is_refused_each_time() -> None:
    known = known_requests()
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="top_k"):
            known.get(request(top_k=-1))


def test_a_large_request_is_not_kept() -> None:
    known = known_requests()
    large = request(" ".join(["word"] * 1_000))
    assert known.get(large) is not known.get(large)
