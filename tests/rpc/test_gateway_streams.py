"""StreamSearch and BatchSearch: every search answered for itself, in bounded memory."""

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from sirdar.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    from_status,
)
from sirdar.v1 import search_pb2
from tests.rpc.streams_gateway import ORDER, ids, item, options, refusal, running, search, until


async def test_each_is_answered_when_it_is_ready() -> None:
    async with running() as gateway:
        gate = gateway.gate("slow")
        call = gateway.stub.StreamSearch()
        await call.write(item(7, "slow"))
        await call.write(item(8, "quick"))
        assert (await call.read()).outcome.id == 8
        gate.set()
        last = (await call.read()).outcome
        assert (last.id, ids(last)) == (7, ORDER)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_answers_come_in_the_order_of_sending_where_that_is_asked_for() -> None:
    async with running() as gateway:
        gate = gateway.gate("slow")
        call = gateway.stub.StreamSearch()
        await call.write(options(ordered=True))
        for number, query in ((3, "slow"), (2, "quick"), (1, "quicker")):
            await call.write(item(number, query, progressive=number == 2))
        reading = asyncio.ensure_future(call.read())
        await until(lambda: len(gateway.reranker.seen) == 2)
        assert not reading.done()
        gate.set()
        outcomes = [(await reading).outcome]
        outcomes += [(await call.read()).outcome for _ in range(3)]
        assert [(each.id, each.preliminary) for each in outcomes] == [
            (3, False),
            (2, True),
            (2, False),
            (1, False),
        ]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_the_order_of_the_retriever_comes_first_and_then_the_better_one() -> None:
    async with running() as gateway:
        call = gateway.stub.StreamSearch()
        await call.write(item(1, "q", progressive=True))
        first, second = (await call.read()).outcome, (await call.read()).outcome
        assert (first.preliminary, ids(first)) == (True, ["b", "a", "c"])
        assert not any(result.HasField("rerank_score") for result in first.response.results)
        assert (second.preliminary, ids(second)) == (False, ORDER)
        # What is not reranked is answered once.
        once = search("q")
        once.rerank.enabled = False
        asked = search_pb2.StreamSearchItem(id=2, search=once, progressive=True)
        await call.write(search_pb2.StreamSearchRequest(item=asked))
        only = (await call.read()).outcome
        assert (only.id, only.preliminary) == (2, False)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_one_that_fails_does_not_end_the_stream() -> None:
    async with running() as gateway:
        gateway.gate("never")
        call = gateway.stub.StreamSearch()
        await call.write(item(1, ""))
        assert isinstance(from_status((await call.read()).outcome.error), InvalidArgument)
        await call.write(item(2, "q", collection="unknown"))
        assert isinstance(from_status((await call.read()).outcome.error), NotFound)
        await call.write(item(3, "never", timeout=Duration(nanos=50_000_000)))
        late = (await call.read()).outcome
        assert (late.id, type(from_status(late.error))) == (3, DeadlineExceeded)
        await call.write(item(4, "q", timeout=Duration(seconds=-1)))
        negative = from_status((await call.read()).outcome.error)
        assert isinstance(negative, InvalidArgument)
        assert "timeout" in negative.message
        await call.write(item(5, "q"))
        assert ids((await call.read()).outcome) == ORDER
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_a_fault_of_ours_is_one_search_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the house")

    async with running() as gateway:
        with monkeypatch.context() as patch:
            patch.setattr("gateway.cache.known_requests.read_query", broken)
            response = await gateway.stub.BatchSearch(
                search_pb2.BatchSearchRequest(searches=[search("q")])
            )
        (outcome,) = response.outcomes
        assert outcome.error.code == grpc.StatusCode.INTERNAL.value[0]
        assert "secret" not in outcome.error.message


@pytest.mark.parametrize(
    ("messages", "field_name"),
    [
        ([options(in_flight=0)], "options.in_flight"),
        ([options(in_flight=1000)], "options.in_flight"),
        ([item(1, "q"), options()], "item"),
        ([options(), options()], "item"),
        ([options(), search_pb2.StreamSearchRequest()], "item"),
    ],
)
async def test_messages_that_do_not_belong_end_the_stream_with_a_reason(
    messages: list[search_pb2.StreamSearchRequest], field_name: str
) -> None:
    async with running() as gateway:
        call = gateway.stub.StreamSearch(iter(messages))
        answered = []
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for response in call:
                answered.append(response.outcome.id)
        error = refusal(refused.value)
        assert isinstance(error, InvalidArgument)
        assert field_name in error.message
        # What was asked before is answered.
        assert answered == [1] * (messages[0].HasField("item"))


async def test_who_does_not_read_is_not_read_from() -> None:
    async with running(max_stream_searches=4) as gateway:
        # Answers of 200 kB fill what gRPC itself keeps on the way.
        gateway.retriever.text_of = dict.fromkeys("abcd", "x" * 50_000)
        call = gateway.stub.StreamSearch()
        sent = 0

        async def send() -> None:
            nonlocal sent
            for number in range(400):
                await call.write(item(number, f"q{number}"))
                sent += 1
            await call.done_writing()

        sending = asyncio.create_task(send())
        searched = -1
        while searched != len(gateway.retriever.searches) or searched < 4:
            searched = len(gateway.retriever.searches)
            await asyncio.sleep(0.3)
        assert searched < 100
        # Reading again lets all of it through.
        seen = set()
        while (response := await call.read()) is not grpc.aio.EOF:
            seen.add(response.outcome.id)
        await sending
        assert seen == set(range(400))


async def test_at_most_so_many_are_under_way_at_once() -> None:
    async with running() as gateway:
        call = gateway.stub.StreamSearch()
        await call.write(options(in_flight=2))
        for number in range(4):
            gateway.gate(f"q{number}")
            await call.write(item(number, f"q{number}"))
        await until(lambda: len(gateway.embedder.asked) == 2)
        await asyncio.sleep(0.05)
        assert sorted(gateway.embedder.asked) == ["q0", "q1"]
        gateway.gate("q1").set()
        assert (await call.read()).outcome.id == 1
        await until(lambda: len(gateway.embedder.asked) == 3)
        assert gateway.embedder.asked[2] == "q2"
        call.cancel()


async def test_who_leaves_ends_what_is_under_way_and_streams_are_counted() -> None:
    async with running(max_search_streams=1) as gateway:
        gateway.gate("slow")
        call = gateway.stub.StreamSearch()
        await call.write(item(1, "slow"))
        await until(lambda: bool(gateway.embedder.asked))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.StreamSearch(iter([item(1, "q")])).read()
        error = refusal(refused.value)
        assert isinstance(error, ResourceExhausted)
        assert error.retry_after is not None
        call.cancel()
        # The place is free again once the work of the one that left is ended.
        for _ in range(400):
            call = gateway.stub.StreamSearch(iter([item(2, "q")]))
            try:
                assert (await call.read()).outcome.id == 2
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
        else:
            raise AssertionError("the stream that left is still open")


async def test_a_server_that_stops_answers_what_it_has_and_says_so() -> None:
    async with running() as gateway:
        assert gateway.server is not None
        gate = gateway.gate("slow")
        call = gateway.stub.StreamSearch()
        await call.write(item(1, "slow"))
        await until(lambda: bool(gateway.embedder.asked))
        gateway.server.drain.begin()
        await asyncio.sleep(0.02)
        gate.set()
        assert (await call.read()).outcome.id == 1
        stop = await call.read()
        assert stop.shutting_down.retry_delay.ToMilliseconds() > 0
        assert await call.read() is grpc.aio.EOF


async def test_a_batch_answers_each_in_its_place() -> None:
    async with running(max_stream_searches=2) as gateway:
        batch = search_pb2.BatchSearchRequest(
            searches=[search("q"), search(""), search("q", "unknown"), search("again")]
        )
        outcomes = (await gateway.stub.BatchSearch(batch)).outcomes
        assert [outcome.id for outcome in outcomes] == [0, 1, 2, 3]
        assert ids(outcomes[0]) == ids(outcomes[3]) == ORDER
        assert isinstance(from_status(outcomes[1].error), InvalidArgument)
        assert isinstance(from_status(outcomes[2].error), NotFound)


@pytest.mark.parametrize("count", [0, 101])
async def test_a_batch_of_none_or_too_many_is_refused(count: int) -> None:
    async with running() as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.BatchSearch(
                search_pb2.BatchSearchRequest(searches=[search("q")] * count)
            )
        error = refusal(refused.value)
        assert isinstance(error, InvalidArgument)
        assert "searches" in error.message
