"""The client, sync and asyncio, against a SearchService that misbehaves on request."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from sirdar.client import (
    AsyncClient,
    Client,
    ConditionalDocument,
    Consistency,
    Document,
    FieldType,
    FilterDeletion,
    Fusion,
    FusionMethod,
    Health,
    IndexOutcome,
    LexicalSettings,
    RerankSettings,
    SearchMode,
    Span,
)
from sirdar.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from sirdar.filter_text import parse_filter
from sirdar.v1 import collection_pb2, query_pb2, search_pb2
from tests.rpc.search_double import Double, running_double

Item = Document | ConditionalDocument
Index = Callable[..., list[IndexOutcome]]


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        double.collections["docs"] = collection_pb2.Collection(name="docs")
        yield double


@pytest.fixture
def client(double: Double) -> Iterator[Client]:
    with Client(double.address, timeout_seconds=10) as client:
        yield client


def documents(count: int) -> list[Document]:
    return [Document(id=f"d{number}", text=f"text {number}") for number in range(count)]


def test_metadata_and_text_survive_the_trip(client: Client) -> None:
    document = Document(
        id="ünïcode",
        title="t",
        text="naïve 😀",
        metadata={
            "flag": True,
            "one": 1,
            "float": 1.0,
            "big": 2**63 - 1,
            "small": -(2**63),
            "word": "1",
            "words": ["a", ""],
            "none": [],
            "when": datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        },
    )
    assert [outcome.ok for outcome in client.index("docs", [document])] == [True]
    stored = client.get_document("docs", "ünïcode").document
    assert stored == document
    for key, value in document.metadata.items():
        assert type(stored.metadata[key]) is type(value)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda client: client.search("docs", "a\ud800"), "query"),
        (lambda client: client.search("docs", "a", top_k=2**31), "top_k"),
        (lambda client: client.search("docs", "a", top_k=True), "top_k"),
        (lambda client: client.search("docs", "a", tokens="abc"), "tokens"),
        (lambda client: client.search("docs", "a", mode="fuzzy"), "mode"),
        (lambda client: client.search("docs", "a", filter="year"), "filter"),
        (lambda client: client.search("docs", "a", limit=20), "limit"),
        (lambda client: client.create_collection("x", shard=2), "shard"),
        (lambda client: client.update_collection("docs", title="t"), "title"),
        (lambda client: client.search("docs", "a", fusion=Fusion("sum")), "fusion.method"),
        (lambda client: client.delete_by_filter("docs", ""), "filter"),
        (lambda client: client.create_collection("x", schema={"a": "int"}), "schema[a]"),
        (lambda client: client.get_document("docs", 7), "document_id"),
        (lambda client: client.delete_documents("docs", ["a", "\ud800"]), "document_ids[1]"),
        (lambda client: client.create_collection("x", labels={"a": "\ud800"}), "labels[a]"),
        (
            lambda client: client.search("docs", "a", rerank=RerankSettings(depth=2**31)),
            "rerank.depth",
        ),
        (
            lambda client: client.update_collection("docs", rerank=RerankSettings(weight="1")),  # type: ignore[arg-type]
            "rerank.weight",
        ),
    ],
)
def test_bad_arguments_are_refused_before_the_call(
    double: Double, client: Client, call: Callable[[Client], object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call(client)
    assert caught.value.fields[0].field == field
    assert not double.calls


def test_reads_are_retried_while_the_server_is_unavailable(double: Double, client: Client) -> None:
    double.refusals.extend([Unavailable("gone")] * 2)
    assert client.get_collection("docs").name == "docs"
    assert double.calls["GetCollection"] == 3


def test_overload_is_retried_after_the_delay_that_the_server_asks_for(
    double: Double, client: Client
) -> None:
    double.refusals.append(ResourceExhausted("busy", retry_after=timedelta(milliseconds=20)))
    client.search("docs", "question")
    assert double.calls["Search"] == 2


def test_creating_and_deleting_are_not_retried(double: Double, client: Client) -> None:
    for call in (
        lambda: client.create_collection("new"),
        lambda: client.delete_collection("docs"),
    ):
        double.refusals.append(Unavailable("gone"))
        with pytest.raises(Unavailable):
            call()
    assert double.calls["CreateCollection"] == 1
    assert double.calls["DeleteCollection"] == 1


def test_errors_keep_reason_and_details(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        client.search("nowhere", "question")
    assert caught.value.reason == "COLLECTION_NOT_FOUND"


def test_options_of_a_search_reach_the_server(double: Double, client: Client) -> None:
    client.search("docs", "a", top_k=0)
    client.search(
        "docs", "b", exact=True, consistency=Consistency.SESSION, tokens=["t"], candidates=50
    )
    first, second = double.requests
    assert first.HasField("top_k")
    assert first.top_k == 0
    assert not second.HasField("top_k")
    assert (second.exact, second.candidates, list(second.consistency_tokens)) == (True, 50, ["t"])
    assert not second.HasField("rerank")
    assert not second.highlight
    client.search("docs", "c", rerank=RerankSettings(enabled=False, weight=0.0), highlight=True)
    rerank = double.requests[2].rerank
    assert (rerank.HasField("enabled"), rerank.enabled) == (True, False)
    assert (rerank.HasField("weight"), rerank.HasField("depth")) == (True, False)
    assert double.requests[2].highlight


def test_a_search_answer_is_read_whole(double: Double, client: Client) -> None:
    double.answer = search_pb2.SearchResponse()
    result = double.answer.results.add(document_id="d", score=0.5, similarity=0.25, version=3)
    result.metadata["n"].int64_value = 7
    result.snippet.text = "snip"
    result.snippet.span.end = 4
    result.snippet.highlights.add(start=1, end=3)
    result.rerank_score = 0.0
    result.retriever_rank = 5
    double.answer.results.add(document_id="e")
    double.answer.timings.add(stage=1).duration.FromMilliseconds(12)
    double.answer.timings.add(stage=99)
    double.answer.coverage.shards_asked = 2
    double.answer.coverage.shards_answered = 1
    double.answer.coverage.missing_shards.append(1)
    double.answer.degraded.add(reason=1, detail="shard 1 is away")
    double.answer.space.model.name = "model"
    results = client.search("docs", "question")
    assert [result.metadata for result in results] == [{"n": 7}, {}]
    assert [result.rerank_score for result in results] == [0.0, None]
    assert results.results[0].retriever_rank == 5
    assert results.results[0].snippet.highlights == (Span(1, 3),)
    assert (results.results[0].snippet.text, results.results[0].snippet.end) == ("snip", 4)
    assert [timing.stage for timing in results.timings] == ["embed", "unknown_99"]
    assert results.timings[0].duration == timedelta(milliseconds=12)
    assert not results.coverage.complete
    assert results.coverage.missing_shards == (1,)
    assert results.degraded[0].reason == "shard_unreachable"
    assert results.space.model.name == "model"


def test_modes_fusion_and_filters_reach_the_server(double: Double, client: Client) -> None:
    message = parse_filter("year >= 2020")
    client.search("docs", "a", mode="hybrid", filter="year >= 2020")
    client.search("docs", "a", mode=SearchMode.DENSE, filter=message)
    fusion = Fusion(FusionMethod.WEIGHTED_SCORES, lexical_weight=0.5)
    client.search("docs", "a", fusion=fusion)
    hybrid, dense, fused = double.requests
    assert hybrid.mode == query_pb2.SEARCH_MODE_HYBRID
    assert dense.mode == query_pb2.SEARCH_MODE_DENSE
    assert hybrid.filter == dense.filter == message
    assert not fused.HasField("filter")
    assert fused.fusion == query_pb2.Fusion(
        method=query_pb2.FUSION_METHOD_WEIGHTED_SCORES, lexical_weight=0.5
    )


def test_a_schema_is_set_read_and_added_to(double: Double, client: Client) -> None:
    schema = {"year": "integer", "title": FieldType.TEXT}
    client.create_collection("new", schema=schema, lexical=False, language="de")
    made = client.get_collection("new")
    assert made.schema == {"year": FieldType.INTEGER, "title": FieldType.TEXT}
    assert made.lexical == LexicalSettings(enabled=False, language="de")
    client.update_collection("new", schema={**made.schema, "tags": "keyword_list"})
    assert list(client.get_collection("new").schema) == ["year", "title", "tags"]


async def test_documents_are_deleted_by_filter(double: Double, client: Client) -> None:
    assert client.delete_by_filter("docs", "year < 2000") == FilterDeletion(7, ("t",))
    async with AsyncClient(double.address) as other:
        message = parse_filter("year < 2000")
        await other.delete_by_filter("docs", message, count_only=True)
    first, second = double.deletions
    assert first.filter == second.filter == parse_filter("year < 2000")
    assert (first.count_only, second.count_only) == (False, True)


def test_lists_run_over_all_pages(double: Double, client: Client) -> None:
    list(client.index("docs", documents(25)))
    stored = list(client.list_documents("docs", page_size=10))
    assert len({item.document.id for item in stored}) == 25
    assert double.calls["ListDocuments"] == 3


def test_deleting_many_takes_as_many_calls_as_the_contract_asks(
    double: Double, client: Client
) -> None:
    list(client.index("docs", documents(2)))
    outcomes = client.delete_documents("docs", [f"d{number}" for number in range(1500)])
    assert [outcome.existed for outcome in outcomes[:3]] == [True, True, False]
    assert len(outcomes) == 1500
    assert double.calls["DeleteDocuments"] == 2


def test_collections_are_created_changed_and_deleted(client: Client) -> None:
    client.create_collection("new", description="d", labels={"a": "b"})
    client.update_collection("new", description="e", rerank=RerankSettings(depth=7))
    collection = client.get_collection("new")
    assert (collection.description, collection.labels) == ("e", {"a": "b"})
    assert collection.rerank == RerankSettings(depth=7)
    assert {item.name for item in client.list_collections()} == {"docs", "new"}
    client.delete_collection("new")
    with pytest.raises(NotFound):
        client.get_collection("new")
    with pytest.raises(InvalidArgument, match="nothing to update"):
        client.update_collection("docs")


def test_health_and_absence(double: Double, client: Client) -> None:
    assert client.health() is Health.SERVING
    assert client.health("sirdar.v1.SearchService") is Health.SERVING
    with Client("127.0.0.1:1", timeout_seconds=5) as nobody, pytest.raises(Unavailable):
        nobody.health()


def test_a_call_ends_at_its_deadline(double: Double) -> None:
    double.delay_seconds = 30
    with Client(double.address) as client, pytest.raises(DeadlineExceeded):
        client.search("docs", "question", timeout_seconds=0.1)


def test_a_closed_client_says_so(double: Double) -> None:
    client = Client(double.address)
    client.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        client.search("docs", "question")


@pytest.mark.parametrize("address", ["localhost", "http://localhost:1", "localhost:", ":7", "h:x"])
def test_a_bad_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(InvalidArgument, match="host:port"):
        Client(address)


async def test_asyncio_has_the_same_calls(double: Double) -> None:
    async with AsyncClient(double.address) as client:
        await client.create_collection("new")
        assert {item.name async for item in client.list_collections()} == {"docs", "new"}
        assert await client.health() is Health.SERVING
        async for _ in client.index("docs", documents(3)):
            pass
        assert len([item async for item in client.list_documents("docs", page_size=2)]) == 3
        assert (await client.get_document("docs", "d1")).document.text == "text 1"
        outcomes = await client.delete_documents("docs", ["d1"])
        assert outcomes[0].existed
        with pytest.raises(NotFound):
            await client.search("nowhere", "question")
