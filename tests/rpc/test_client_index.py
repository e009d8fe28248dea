"""Index streams of both clients, against a SearchService that breaks them on request."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.stack.ports import free_ports
from sirdar.client import (
    AsyncClient,
    Client,
    ConditionalDocument,
    Document,
    IndexOutcome,
)
from sirdar.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SirdarError,
    Unavailable,
)
from sirdar.v1 import collection_pb2
from tests.rpc.search_double import Double, Ending, running_double

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


@pytest.fixture(params=["sync", "asyncio"])
def index(request: pytest.FixtureRequest, double: Double) -> Index:
    """`index` of either client: all outcomes as a list."""

    def sync(documents: Iterable[Item], **options: Any) -> list[IndexOutcome]:
        with Client(double.address) as client:
            return list(client.index("docs", documents, **options))

    async def collect(documents: Iterable[Item], **options: Any) -> list[IndexOutcome]:
        async with AsyncClient(double.address) as client:
            return [outcome async for outcome in client.index("docs", documents, **options)]

    def aio(documents: Iterable[Item], **options: Any) -> list[IndexOutcome]:
        return asyncio.run(collect(documents, **options))

    return sync if request.param == "sync" else aio


def documents(count: int) -> list[Document]:
    return [Document(id=f"d{number}", text=f"text {number}") for number in range(count)]


def ids(outcomes: list[IndexOutcome]) -> list[str]:
    return [outcome.document_id for outcome in outcomes]


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"n": 2**63}, "metadata.n"),
        ({"n": -(2**63) - 1}, "metadata.n"),
        ({"n": None}, "metadata.n"),
        ({"n": ["a", 1]}, "metadata.n[1]"),
        ({"n": "\ud800"}, "metadata.n"),
        ({"\udfff": "x"}, "metadata key"),
        ({"n": datetime(2025, 1, 1)}, "metadata.n"),
    ],
)
def test_what_protobuf_cannot_carry_is_refused_by_name_and_holds_up_no_other(
    index: Index, metadata: dict[str, Any], field: str
) -> None:
    bad = Document(id="bad", text="text", metadata=metadata)
    outcomes = index([*documents(1), bad, Document(id="after", text="text")])
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    error = outcomes[1].error
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == f"document.{field}"


def test_outcomes_come_in_order_with_the_refused_among_them(index: Index) -> None:
    given = documents(3000)
    given[1500] = Document(id="d1500", text="refuse me")
    outcomes = index(given)
    assert [outcome.index for outcome in outcomes] == list(range(3000))
    assert ids(outcomes) == [document.id for document in given]
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [1500]
    error = outcomes[1500].error
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == "document.text"


def test_indexing_nothing_opens_no_stream(double: Double, index: Index) -> None:
    assert index([]) == []
    assert double.calls["IndexDocuments"] == 0


@pytest.mark.parametrize(
    "ending",
    [
        Ending(answers=7),
        Ending(answers=7, error=Unavailable("gone")),
        Ending(answers=7, extra=5, error=Unavailable("gone")),
        Ending(answers=0, error=ResourceExhausted("busy", retry_after=timedelta(seconds=0.01))),
    ],
)
def test_a_broken_stream_is_resumed_without_losing_or_repeating_an_outcome(
    double: Double, index: Index, ending: Ending
) -> None:
    double.endings.extend([ending, ending])
    outcomes = index(documents(50))
    assert ids(outcomes) == [f"d{number}" for number in range(50)]
    assert [outcome.index for outcome in outcomes] == list(range(50))
    assert all(outcome.ok for outcome in outcomes)
    assert double.calls["IndexDocuments"] == 3
    assert double.received.count("d0") <= 3
    assert len(double.documents) == 50


def test_a_server_that_stays_away_is_given_up(double: Double, index: Index) -> None:
    double.refusals.extend([Unavailable("gone", reason="GONE")] * 50)
    with pytest.raises(Unavailable) as caught:
        index(documents(3), patience_seconds=0.5)
    assert caught.value.reason == "GONE"
    assert 2 <= double.calls["IndexDocuments"] < 20


def test_an_unknown_collection_is_told_from_a_broken_stream(index: Index, double: Double) -> None:
    del double.collections["docs"]
    with pytest.raises(NotFound) as caught:
        index(documents(2000))
    assert caught.value.reason == "COLLECTION_NOT_FOUND"


@pytest.mark.parametrize("error", [Internal("fault"), ResourceExhausted("the disk is full")])
def test_a_fault_that_another_stream_would_not_pass_is_raised_at_once(
    double: Double, index: Index, error: SirdarError
) -> None:
    double.endings.append(Ending(answers=2, error=error))
    with pytest.raises(type(error), match=error.message):
        index(documents(10))
    assert double.calls["IndexDocuments"] == 1


async def test_what_was_answered_before_a_fault_is_handed_out(double: Double) -> None:
    for _ in range(2):
        double.endings.append(Ending(answers=7, error=Internal("fault")))
    seen = []
    with Client(double.address) as client, pytest.raises(Internal):
        for outcome in client.index("docs", documents(50)):
            seen.append(outcome.index)
    assert seen == list(range(7))
    seen.clear()
    async with AsyncClient(double.address) as aio:
        with pytest.raises(Internal):
            async for outcome in aio.index("docs", documents(50)):
                seen.append(outcome.index)
                # The rest of the answers and the fault arrive meanwhile.
                await asyncio.sleep(0.05)
    assert seen == list(range(7))


def test_a_server_that_answers_nothing_raises_deadline_exceeded(
    double: Double, index: Index
) -> None:
    double.endings.append(Ending(answers=2, hang=True))
    with pytest.raises(DeadlineExceeded) as caught:
        index(documents(10), stall_seconds=0.3)
    assert caught.value.reason == "STALLED"


def test_a_conditional_write_of_unknown_outcome_is_not_repeated(
    double: Double, index: Index
) -> None:
    # The server wrote d1 and d2 before the connection broke: to send d1 again would report a
    # conflict with itself.
    double.endings.append(Ending(answers=1, extra=2, error=Unavailable("gone")))
    given: list[Item] = [
        Document(id="d0", text="text"),
        ConditionalDocument(Document(id="d1", text="text"), if_version=0),
        Document(id="d2", text="text"),
        Document(id="d3", text="text"),
    ]
    outcomes = index(given)
    assert ids(outcomes) == ["d0", "d1", "d2", "d3"]
    assert [outcome.ok for outcome in outcomes] == [True, False, True, True]
    assert outcomes[1].error is not None
    assert outcomes[1].error.reason == "OUTCOME_UNKNOWN"
    assert double.received.count("d1") == 1


def test_a_conditional_write_is_repeated_after_a_goodbye(double: Double, index: Index) -> None:
    double.endings.append(Ending(answers=1))
    given: list[Item] = [
        Document(id="d0", text="text"),
        ConditionalDocument(Document(id="d1", text="text"), if_version=0),
        ConditionalDocument(Document(id="d0", text="text"), if_version=7),
    ]
    outcomes = index(given)
    assert [outcome.ok for outcome in outcomes] == [True, True, False]
    assert outcomes[2].error is not None
    assert outcomes[2].error.reason == "VERSION_MISMATCH"


def test_a_conditional_write_waits_for_a_server_that_is_not_there_yet() -> None:
    """Nothing was sent while nobody listened: its outcome is known."""
    document = ConditionalDocument(Document(id="d", text="text"), if_version=0)
    port = free_ports(1)[0]
    late = ExitStack()

    def listen() -> None:
        late.enter_context(running_double(port=port)).collections["docs"] = (
            collection_pb2.Collection(name="docs")
        )

    timer = threading.Timer(0.8, listen)
    timer.start()
    with Client(f"127.0.0.1:{port}") as client:
        outcomes = list(client.index("docs", [document]))
    timer.join()
    late.close()
    assert [outcome.ok for outcome in outcomes] == [True]


def test_a_document_larger_than_a_message_is_refused_alone(double: Double) -> None:
    with Client(double.address, max_message_bytes=2**20) as client:
        big = Document(id="big", text="x" * 2**20)
        outcomes = list(client.index("docs", [big, *documents(2)]))
    assert [outcome.ok for outcome in outcomes] == [False, True, True]
    assert outcomes[0].error is not None
    assert outcomes[0].error.fields[0].field == "document"


def test_documents_are_taken_no_faster_than_they_are_answered(double: Double) -> None:
    double.endings.append(Ending(answers=10, hang=True))
    taken = 0

    def endless() -> Iterator[Document]:
        nonlocal taken
        while True:
            taken += 1
            yield Document(id=f"d{taken}", text="text")

    with Client(double.address) as client, pytest.raises(DeadlineExceeded):
        list(client.index("docs", endless(), stall_seconds=0.5))
    assert taken <= 10 + 1024


def test_an_error_of_the_source_reaches_the_caller(index: Index) -> None:
    def broken() -> Iterator[Document]:
        yield from documents(5)
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        index(broken())


def test_sync_indexing_leaves_no_thread_behind(double: Double, client: Client) -> None:
    client.get_collection("docs")
    before = threading.active_count()
    for _ in range(5):
        outcomes = client.index("docs", documents(20))
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "sirdar-stream":
            thread.join(5)
            assert not thread.is_alive()
    assert threading.active_count() <= before + 2


async def test_async_documents_are_indexed_as_they_come(double: Double) -> None:
    answered = asyncio.Event()

    async def source() -> AsyncIterator[Document]:
        yield Document(id="first", text="text")
        # The second comes only after the first was answered.
        await answered.wait()
        yield Document(id="second", text="text")

    seen = []
    async with AsyncClient(double.address) as client:
        async for outcome in client.index("docs", source()):
            seen.append(outcome.document_id)
            answered.set()
    assert seen == ["first", "second"]
