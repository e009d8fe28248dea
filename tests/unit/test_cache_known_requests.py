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
    assert (first.query.namespace, first.query.collections) == ("default", ("notes",))
    assert known.get(request()) == first
    other = known.get(request("when"))
    assert (other.query.text, first.query.text) == ("when", "where")
    assert other.key([ENTRY]).slot != first.key([ENTRY]).slot
    assert other.key([ENTRY]).shape == first.key([ENTRY]).shape
    assert known.get(request(cache=query_pb2.CACHE_USE_NONE)).use is CacheUse.NONE


def test_a_key_is_of_the_collections_that_are_known_now() -> None:
    known = known_requests().get(request())
    key = known.key([ENTRY])
    assert known.key([ENTRY]) == key
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


def test_what_differs_in_its_text_alone_is_read_once_and_its_text_is_checked_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = known_requests()
    known.get(request())
    monkeypatch.setattr("gateway.cache.known_requests.read_query", None)
    assert known.get(request("when")).query.text == "when"
    for text in ("  ", "a\0b", "x" * 100_000):
        with pytest.raises(InvalidArgument, match="query"):
            known.get(request(text))
    # Their caller's request is as it was.
    asked = request("when")
    known.get(asked)
    assert asked == request("when")


def test_whether_a_text_may_be_absent_is_told_by_the_rest_of_the_request() -> None:
    known = known_requests()
    known.get(request())
    with pytest.raises(InvalidArgument, match="query must not be empty"):
        known.get(request(""))
    like = query_pb2.MoreLikeThis(document_id="a")
    assert known.get(request("", like=like)).query.like == "a"
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="like"):
            known.get(request("where", like=like))


def test_a_text_is_not_kept() -> None:
    first = known_requests().get(request("secret " * 1_000))
    assert first.query.text.startswith("secret")
    assert b"secret" not in first._shape._request.SerializeToString()
    assert "secret" not in first._shape.query.text


def test_a_large_request_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_requests()
    tokens = ["token" * 200] * 5
    known.get(request(consistency_tokens=tokens))
    monkeypatch.setattr("gateway.cache.known_requests.read_query", None)
    with pytest.raises(TypeError):
        known.get(request(consistency_tokens=tokens))
