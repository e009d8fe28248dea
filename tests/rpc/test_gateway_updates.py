"""Updates through the gateway, and index streams that are told to slow down."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import grpc
import pytest

from sirdar.client import AsyncClient, Client, Document, DocumentUpdate
from sirdar.client.calls import Calls
from sirdar.client.index_session import IndexSession
from sirdar.errors import Aborted, InvalidArgument, NotFound, ResourceExhausted
from sirdar.v1 import collection_pb2, common_pb2, document_pb2, search_pb2
from tests.rpc.gateway_http import problem_of, running_http
from tests.rpc.search_double import Double, running_double
from tests.rpc.test_gateway_modes import running

SOON = datetime(2026, 12, 1, tzinfo=UTC)
ONE = "/collections/notes/documents/a/b"


def items(*identities: str) -> list[search_pb2.IndexDocumentsRequest]:
    target = search_pb2.IndexTarget(collection="notes")
    return [
        search_pb2.IndexDocumentsRequest(target=target),
        *(
            search_pb2.IndexDocumentsRequest(
                item=search_pb2.IndexItem(document=document_pb2.Document(id=identity, text="t"))
            )
            for identity in identities
        ),
    ]


async def test_updates_pass_through_and_each_is_answered() -> None:
    async with running() as gateway:
        gateway.retriever.outcome_of["b"] = [NotFound("no b")]
        request = search_pb2.UpdateDocumentsRequest(
            collection="notes",
            updates=[
                document_pb2.DocumentUpdate(document_id="a", remove=["x"], if_version=1),
                document_pb2.DocumentUpdate(document_id="b", never_expires=True),
            ],
        )
        response = await gateway.stub.UpdateDocuments(request)
        assert [outcome.WhichOneof("outcome") for outcome in response.outcomes] == [
            "receipt",
            "error",
        ]
        (passed,) = gateway.retriever.updates
        assert list(passed.updates) == list(request.updates)
        with pytest.raises(grpc.aio.AioRpcError):
            await gateway.stub.UpdateDocuments(search_pb2.UpdateDocumentsRequest())


async def test_a_tier_that_pushes_back_slows_the_sender_once_and_loses_nothing() -> None:
    async with running() as gateway:
        busy = ResourceExhausted("full", retry_after=timedelta(milliseconds=5))
        gateway.retriever.write_failures = [busy] * 3
        events = [event async for event in gateway.stub.IndexDocuments(iter(items("a", "b")))]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds == ["slow_down", "outcome", "outcome"]
        assert events[0].slow_down.retry_delay.ToTimedelta() == timedelta(milliseconds=5)
        assert events[0].slow_down.detail == "full"
        assert {write.document.id for write in gateway.retriever.writes} == {"a", "b"}
        gateway.retriever.write_failures = [busy]
        again = [event async for event in gateway.stub.IndexDocuments(iter(items("c")))]
        assert [event.WhichOneof("event") for event in again] == ["slow_down", "outcome"]


async def test_an_upload_over_http_is_slowed_by_its_connection_alone() -> None:
    async with running_http() as gateway:
        busy = ResourceExhausted("full", retry_after=timedelta(milliseconds=5))
        gateway.retriever.write_failures = [busy]
        answer = await gateway.http.post(
            "/index", params={"collection": "notes"}, json=[{"id": "a", "text": "t"}]
        )
        assert [item["document_id"] for item in answer.json()["outcomes"]] == ["a"]


async def test_a_document_is_patched_over_http() -> None:
    async with running_http() as gateway:
        body = {"set": {"year": {"int64_value": "7"}}, "remove": ["x"], "never_expires": True}
        answer = await gateway.http.patch(ONE, json=body)
        assert (answer.status_code, answer.json()["version"]) == (200, "2")
        (passed,) = gateway.retriever.updates
        (update,) = passed.updates
        assert (update.document_id, passed.collection) == ("a/b", "notes")
        assert (update.set["year"].int64_value, list(update.remove)) == (7, ["x"])
        described = (await gateway.http.get("/openapi.json")).json()
        operation = described["paths"]["/collections/{name}/documents/{document_id}"]["patch"]
        assert "requestBody" in operation


async def test_a_patch_that_is_refused_is_a_problem() -> None:
    async with running_http() as gateway:
        gateway.retriever.outcome_of["a/b"] = [
            NotFound("no such document", reason="DOCUMENT_NOT_FOUND"),
            Aborted("stale"),
            InvalidArgument.field("updates[0].set[year]", "must be an integer"),
            InvalidArgument.field("updates[0]", "must set or remove something"),
        ]
        body = {"remove": ["x"]}
        assert problem_of(await gateway.http.patch(ONE, json=body)) == (404, "DOCUMENT_NOT_FOUND")
        assert problem_of(await gateway.http.patch(ONE, json=body)) == (409, "VERSION_MISMATCH")
        for field in ("set[year]", "body"):
            refused = await gateway.http.patch(ONE, json=body)
            assert refused.status_code == 400
            assert [item["field"] for item in refused.json()["fields"]] == [field]
        other = await gateway.http.patch(ONE, json={"document_id": "z", "remove": ["x"]})
        assert [item["field"] for item in other.json()["fields"]] == ["document_id"]
        assert (await gateway.http.patch(ONE, json={"set": {"a": 1}})).status_code == 400


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        double.collections["docs"] = collection_pb2.Collection(name="docs")
        yield double


def test_both_clients_update_and_show_when_a_document_ends(double: Double) -> None:
    ending = Document("a", "text", metadata={"x": 1, "y": "z"}, expires=SOON)
    updates = [
        DocumentUpdate("a", set={"x": 2.5}, remove=["y"]),
        DocumentUpdate("absent", remove=["y"]),
    ]
    with Client(double.address) as client:
        list(client.index("docs", [ending]))
        assert client.get_document("docs", "a").document == ending
        good, bad = client.update_documents("docs", updates)
        assert good.ok
        assert good.receipt is not None
        assert good.receipt.version == 2
        assert isinstance(bad.error, NotFound)
        stored = client.get_document("docs", "a").document
        assert (stored.metadata, stored.expires) == ({"x": 2.5}, SOON)
        later = DocumentUpdate("a", expires=SOON + timedelta(days=1))
        many = client.update_documents("docs", [later] * 1001)
        assert [item.ok for item in many] == [True] * 1001
        assert double.calls["UpdateDocuments"] == 3

    async def never() -> Document:
        async with AsyncClient(double.address) as client:
            (outcome,) = await client.update_documents(
                "docs", [DocumentUpdate("a", never_expires=True)]
            )
            assert outcome.ok
            return (await client.get_document("docs", "a")).document

    assert asyncio.run(never()).expires is None


@pytest.mark.parametrize(
    ("update", "field"),
    [
        (DocumentUpdate("a", expires=datetime(2026, 1, 1)), "updates[0].expires"),
        (DocumentUpdate("a", expires=SOON, never_expires=True), "updates[0].expires"),
        (DocumentUpdate("a", set={"x": {}}), "updates[0].set.x"),  # type: ignore[dict-item]
        (DocumentUpdate("a", remove="x"), "updates[0].remove"),
        (DocumentUpdate("a", if_version=2**63), "updates[0].if_version"),
        (DocumentUpdate("\ud800"), "updates[0].document_id"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_any_call(
    double: Double, update: DocumentUpdate, field: str
) -> None:
    with Client(double.address) as client, pytest.raises(InvalidArgument) as refused:
        client.update_documents("docs", [update])
    assert [item.field for item in refused.value.fields] == [field]
    assert not double.calls["UpdateDocuments"]


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_a_client_that_is_slowed_down_loses_nothing(double: Double, kind: str) -> None:
    double.slow_before = {0, 3, 49}
    documents = [Document(f"d{at}", "text") for at in range(50)]

    async def run() -> list[bool]:
        async with AsyncClient(double.address) as client:
            return [outcome.ok async for outcome in client.index("docs", documents)]

    if kind == "sync":
        with Client(double.address) as client:
            answered = [outcome.ok for outcome in client.index("docs", documents)]
    else:
        answered = asyncio.run(run())
    assert answered == [True] * 50
    assert double.received == [document.id for document in documents]


def test_a_session_sends_nothing_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("sirdar.client.index_session.time", clock)
    target = Calls("").index_target("docs")
    session = IndexSession(target, patience_seconds=1, max_message_bytes=2**20)
    session.add(Document("a", "text"))
    assert len(list(session.requests())) == 2
    slow = common_pb2.SlowDown()
    slow.retry_delay.FromSeconds(3)
    assert session.take(search_pb2.IndexDocumentsResponse(slow_down=slow)) is None
    session.add(Document("b", "text"))
    assert session.held_seconds == 3
    assert not list(session.requests())
    now += 3
    assert [request.item.document.id for request in session.requests()] == ["b"]
    assert session.awaiting
