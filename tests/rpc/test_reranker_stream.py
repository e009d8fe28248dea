"""Passages that arrive at the reranker, and scores that leave, while the stream is open."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio

from sirdar.errors import InvalidArgument, ResourceExhausted, from_status
from tests.rpc.reranker_calls import (
    QUERY,
    TEXTS,
    Answer,
    Event,
    Options,
    Passage,
    connect,
    connected,
    error_of,
    events,
    request,
    running,
)

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.reranker_pb2_grpc import RerankerServiceAsyncStub

# One server for all of the file: a model takes a second to load.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub() -> AsyncIterator["RerankerServiceAsyncStub"]:
    async with running() as server, connected(server) as stub:
        yield stub


async def test_scores_leave_while_the_stream_is_open(stub: "RerankerServiceAsyncStub") -> None:
    call = stub.StreamRerankPassages()
    await call.write(Event(options=Options(query=QUERY, raw_scores=True)))
    for place, text in enumerate(TEXTS):
        await call.write(Event(passage=Passage(id=str(place), text=text)))
        answer = await call.read()
        assert isinstance(answer, Answer)
        assert answer.score.id == str(place)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_stream_scores_as_a_call_does(stub: "RerankerServiceAsyncStub") -> None:
    texts = [f"{TEXTS[place % 3]} {'Snow. ' * (place % 7)}" for place in range(100)]
    texts[40] = ""
    whole = {s.id: s for s in (await stub.RerankPassages(request(texts))).scores}
    answers = [event.score async for event in stub.StreamRerankPassages(events(texts))]
    assert len(answers) == 100
    for answer in answers:
        if answer.id == "40":
            assert from_status(answer.error).fields[0].field == "passage.text"
        else:
            # In bf16 a logit depends a little on what else is in the batch.
            assert answer.score == pytest.approx(whole[answer.id].score, abs=0.02)


async def test_ranking_of_the_best_ends_the_stream(stub: "RerankerServiceAsyncStub") -> None:
    texts = ["", *TEXTS, "Bread is baked from flour."]
    answers = [event async for event in stub.StreamRerankPassages(events(texts, top_n=2))]
    assert [answer.WhichOneof("event") for answer in answers] == ["score"] * 5 + ["ranking"]
    assert list(answers[-1].ranking.ids) == ["2", "3"]
    # More than there are is all that were scored.
    answers = [event async for event in stub.StreamRerankPassages(events(texts, top_n=900))]
    scored = {a.score.id: a.score.score for a in answers if a.score.HasField("score")}
    assert list(answers[-1].ranking.ids) == sorted(scored, key=lambda name: -scored[name])


async def test_ranking_of_equal_passages_is_in_their_order(
    stub: "RerankerServiceAsyncStub",
) -> None:
    texts = ["Everest is high."] * 40
    answers = [event async for event in stub.StreamRerankPassages(events(texts, top_n=3))]
    assert list(answers[-1].ranking.ids) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([Event(passage=Passage(text="a"))], "options must come first"),
        ([Event(options=Options())], "options.query must not be empty"),
        ([Event(options=Options(query="a"))] * 2, "passage must be set after the first message"),
        ([Event(options=Options(query="a")), Event()], "passage must be set"),
        ([Event(options=Options(query="a", top_n=0))], "options.top_n must be at least 1"),
        ([Event(options=Options(query="a", top_n=1_001))], "the limit is 1000"),
    ],
)
async def test_stream_out_of_order_is_refused(
    stub: "RerankerServiceAsyncStub", sent: list[Event], words: str
) -> None:
    async def read() -> None:
        async for _ in stub.StreamRerankPassages(iter(sent)):
            pass

    caught = await error_of(read())
    assert isinstance(caught, InvalidArgument)
    assert words in caught.message


async def test_stream_of_nothing_ends(stub: "RerankerServiceAsyncStub") -> None:
    assert [event async for event in stub.StreamRerankPassages(events([]))] == []
    assert [event async for event in stub.StreamRerankPassages(iter([]))] == []
    (last,) = [event async for event in stub.StreamRerankPassages(events([], top_n=1))]
    assert list(last.ranking.ids) == []


async def test_draining_server_answers_what_it_took_and_says_goodbye() -> None:
    forever = asyncio.Event()

    async def requests() -> AsyncIterator[Event]:
        async for event in events(TEXTS, top_n=1):
            yield event
        await forever.wait()

    async with running() as server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        answers = aiter(connect(channel).StreamRerankPassages(requests()))
        kinds = [(await anext(answers)).WhichOneof("event") for _ in TEXTS]
    kinds += [event.WhichOneof("event") async for event in answers]
    # No ranking: the caller has more passages, and sends them elsewhere.
    assert kinds == ["score"] * 3 + ["shutting_down"]
    await channel.close()


async def test_full_queue_refuses_passages_and_not_the_stream() -> None:
    texts = ["Snow is white. " * 60] * 240
    async with running(queue_items=8, threads=1) as server, connected(server) as stub:
        scores = [event.score async for event in stub.StreamRerankPassages(events(texts))]
    assert len(scores) == 240
    errors = [from_status(score.error) for score in scores if score.HasField("error")]
    assert 0 < len(errors) < 240
    assert all(isinstance(error, ResourceExhausted) for error in errors)
    assert all(error.retry_after for error in errors)
