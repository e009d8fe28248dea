"""What the client can ask of a search, and what it reads of the answer."""

from collections.abc import Iterator

import pytest

from sirdar.client import (
    Client,
    Collapse,
    Diversity,
    Grouping,
    QueryStage,
    ReturnedFields,
    StageScore,
    Threshold,
)
from sirdar.errors import InvalidArgument
from sirdar.v1 import collection_pb2, query_pb2, search_pb2
from tests.rpc.search_double import Double, running_double


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        for name in ("docs", "mail"):
            double.collections[name] = collection_pb2.Collection(name=name)
        yield double


@pytest.fixture
def client(double: Double) -> Iterator[Client]:
    with Client(double.address, timeout_seconds=10) as client:
        yield client


def test_every_option_reaches_the_server(double: Double, client: Client) -> None:
    client.search(
        ["docs", "mail"],
        "words",
        offset=3,
        unit="passages",
        group=Grouping("kind", 2),
        diversify=Diversity(0.5, 20),
        threshold=Threshold(score=0.25, similarity=0.5, lexical_score=1, rerank_score=-1),
        fields=ReturnedFields(text=False, metadata_fields=["kind"]),
        explain=True,
    )
    client.search("docs", like="a", collapse=Collapse("mean_of_best", 4))
    stage = QueryStage(name="d", dense=query_pb2.DensePrefetch())
    client.search("docs", "words", stages=[stage], fields=ReturnedFields(metadata=False))
    first, second, third = double.requests
    assert first == search_pb2.SearchRequest(
        collections=["docs", "mail"],
        query="words",
        offset=3,
        unit=query_pb2.SEARCH_UNIT_PASSAGES,
        group=query_pb2.Grouping(field="kind", limit=2),
        diversify=query_pb2.Diversity(relevance=0.5, depth=20),
        threshold=query_pb2.ScoreThreshold(
            score=0.25, similarity=0.5, lexical_score=1, rerank_score=-1
        ),
        fields=query_pb2.ReturnedFields(text=False, title=True, metadata_fields=["kind"]),
        explain=True,
    )
    assert (second.like.document_id, second.query) == ("a", "")
    assert second.collapse == query_pb2.Collapse(
        method=query_pb2.COLLAPSE_METHOD_MEAN_OF_BEST, passages=4
    )
    assert list(third.stages) == [stage]
    assert not third.fields.metadata and third.fields.HasField("metadata")


def test_what_cannot_be_sent_is_named(client: Client) -> None:
    for options, field in (
        ({"unit": "pages"}, "unit"),
        ({"group": Grouping("kind", 2**31)}, "group.limit"),
        ({"diversify": Diversity("much")}, "diversify.relevance"),  # type: ignore[arg-type]
        ({"offset": 0.5}, "offset"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            client.search("docs", "words", **options)
        assert [item.field for item in refused.value.fields] == [field]
    with pytest.raises(InvalidArgument):
        client.search([], "words")


def test_the_answer_tells_collections_groups_and_explanations(
    double: Double, client: Client
) -> None:
    double.answer.pool = 7
    double.answer.collections.add(collection="docs").coverage.shards_asked = 2
    result = double.answer.results.add(document_id="a", collection="docs")
    result.group.int64_value = 2026
    result.explanation.stages.add(stage="dense", rank=3, score=0.5, detail="similarity 0.5")
    found = client.search(["docs"], "words")
    assert found.pool == 7
    assert [(item.collection, item.coverage.shards_asked) for item in found.collections] == [
        ("docs", 2)
    ]
    (read,) = found
    assert (read.collection, read.group) == ("docs", 2026)
    assert read.explanation == (StageScore("dense", 3, 0.5, "similarity 0.5"),)
