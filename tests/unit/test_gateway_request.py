"""Requests of searches that contradict themselves: the refusal names the field."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.pipeline.request import read_query
from sirdar.v1 import collection_pb2, common_pb2, query_pb2, search_pb2
from tests.gateway_plans import DENSE, LEXICAL, SETTINGS, fuse, refused_fields, stage

STAGES = [DENSE]
# Of a newer contract.
_UNKNOWN: Any = 9
LIKE = query_pb2.MoreLikeThis(document_id="a")
BAD_REQUESTS: Mapping[str, tuple[dict[str, Any], str]] = {
    "mode beside stages": ({"stages": STAGES, "mode": 1}, "mode"),
    "fusion beside stages": ({"stages": STAGES, "fusion": query_pb2.Fusion()}, "fusion"),
    "candidates beside stages": ({"stages": STAGES, "candidates": 50}, "candidates"),
    "exact beside stages": ({"stages": STAGES, "exact": True}, "exact"),
    "unit beside stages": ({"stages": STAGES, "unit": 2}, "unit"),
    "collapse beside stages": ({"stages": STAGES, "collapse": query_pb2.Collapse()}, "collapse"),
    "rerank beside stages": (
        {"stages": STAGES, "rerank": collection_pb2.RerankSettings(depth=5)},
        "rerank",
    ),
    "diversify beside stages": (
        {"stages": STAGES, "diversify": query_pb2.Diversity()},
        "diversify",
    ),
    "group beside stages": ({"stages": STAGES, "group": query_pb2.Grouping(field="a")}, "group"),
    "passages and documents": ({"unit": 2, "collapse": query_pb2.Collapse()}, "collapse"),
    "exact words": ({"mode": 2, "exact": True}, "exact"),
    "one list to fuse": ({"mode": 1, "fusion": query_pb2.Fusion()}, "fusion"),
    "similarity of words": (
        {"mode": 2, "threshold": query_pb2.ScoreThreshold(similarity=0.5)},
        "threshold.similarity",
    ),
    "words of meaning": (
        {"mode": 1, "threshold": query_pb2.ScoreThreshold(lexical_score=1)},
        "threshold.lexical_score",
    ),
    "logits of no reranker": (
        {
            "rerank": collection_pb2.RerankSettings(enabled=False),
            "threshold": query_pb2.ScoreThreshold(rerank_score=1),
        },
        "threshold.rerank_score",
    ),
    "NaN to meet": ({"threshold": query_pb2.ScoreThreshold(score=math.nan)}, "threshold.score"),
    "query and like": ({"like": LIKE}, "like"),
    "like of nothing": ({"query": "", "like": query_pb2.MoreLikeThis()}, "like.document_id"),
    "like in several": ({"query": "", "like": LIKE, "collections": ["a", "b"]}, "like"),
    "a page before the first": ({"offset": -1}, "offset"),
    "a page too far": ({"offset": 991}, "offset"),
    "candidates below the page": ({"offset": 20, "candidates": 29}, "candidates"),
    "a relevance over 1": ({"diversify": query_pb2.Diversity(relevance=2)}, "diversify.relevance"),
    "no relevance": (
        {"diversify": query_pb2.Diversity(relevance=math.nan)},
        "diversify.relevance",
    ),
    "a shallow diversity": (
        {"offset": 5, "top_k": 10, "diversify": query_pb2.Diversity(depth=14)},
        "diversify.depth",
    ),
    "a diversity below the usual page": (
        {"diversify": query_pb2.Diversity(depth=9)},
        "diversify.depth",
    ),
    "a deep diversity": ({"diversify": query_pb2.Diversity(depth=1001)}, "diversify.depth"),
    "a group without a field": ({"group": query_pb2.Grouping()}, "group.field"),
    "an empty group": ({"group": query_pb2.Grouping(field="a", limit=0)}, "group.limit"),
    "a mean of nothing": (
        {"collapse": query_pb2.Collapse(method=query_pb2.COLLAPSE_METHOD_MEAN_OF_BEST, passages=0)},
        "collapse.passages",
    ),
    "a mean that is none": ({"collapse": query_pb2.Collapse(passages=3)}, "collapse.passages"),
    "an unknown unit": ({"unit": 9}, "unit"),
    "an unknown collapse": ({"collapse": query_pb2.Collapse(method=_UNKNOWN)}, "collapse.method"),
    "an unknown cache": ({"cache": 9}, "cache"),
    "fields of no metadata": (
        {"fields": query_pb2.ReturnedFields(metadata=False, metadata_fields=["a"])},
        "fields.metadata_fields",
    ),
    "marks in no text": (
        {"highlight": True, "fields": query_pb2.ReturnedFields(text=False)},
        "fields.text",
    ),
}


@pytest.mark.parametrize("fault", BAD_REQUESTS)
def test_what_contradicts_itself_is_refused_by_its_field(fault: str) -> None:
    fields, field = BAD_REQUESTS[fault]
    collection = {} if "collections" in fields else {"collection": "notes"}
    request = search_pb2.SearchRequest(**{"query": "words", **collection, **fields})
    assert refused_fields(request) == [field]


@pytest.mark.parametrize(
    ("names_", "field"),
    [
        ([f"c{at}" for at in range(1_000)], "collections"),
        (["a", "b", "a"], "collections[2]"),
        (["a", ""], "collections[1]"),
    ],
)
def test_collections_are_few_and_different(names_: list[str], field: str) -> None:
    request = search_pb2.SearchRequest(query="words", collections=names_)
    assert refused_fields(request) == [field]
    request = search_pb2.SearchRequest(query="words", collections=["a"], collection="b")
    assert refused_fields(request) == ["collections"]


def test_tokens_are_of_one_collection() -> None:
    request = search_pb2.SearchRequest(
        query="words",
        collections=["a", "b"],
        consistency=common_pb2.CONSISTENCY_SESSION,
        consistency_tokens=["t"],
    )
    assert refused_fields(request) == ["consistency_tokens"]


def test_a_query_is_needed_only_where_a_stage_asks_for_it() -> None:
    own = stage("own", "", dense=query_pb2.DensePrefetch(query="sea"))
    request = search_pb2.SearchRequest(collection="notes", stages=[own])
    assert read_query(request, SETTINGS).text == ""
    request = search_pb2.SearchRequest(
        collection="notes", stages=[own, LEXICAL, fuse(inputs="own lexical")]
    )
    assert refused_fields(request) == ["query"]
