"""What the reranker does when there is more work than time: real server, tokenizer and batcher
before an engine that waits for the test."""

import asyncio
from collections.abc import AsyncIterable

import pytest
from prometheus_client import REGISTRY

from sirdar.errors import ResourceExhausted, from_status
from sirdar.v1 import common_pb2
from tests.rpc.reranker_calls import (
    GatedEngine,
    error_of,
    events,
    outcomes,
    request,
    running_slow,
)

PASSAGES = ["Everest is high."] * 100
# Of these some thirty are promised in half a minute, which no test waits for.
ROW_SECONDS, TIMEOUT_SECONDS = 0.8, 30
_QUEUED = "sirdar_inference_queued_items"
BULK, INTERACTIVE = common_pb2.PRIORITY_BULK, common_pb2.PRIORITY_INTERACTIVE


async def started(engine: GatedEngine) -> None:
    assert await asyncio.to_thread(engine.started.acquire, timeout=20)


async def queued(priority: str, items: int) -> None:
    """Returns when so many pairs wait, as the metrics tell."""
    labels = {"model": "fake", "class": priority}
    async with asyncio.timeout(20):
        while REGISTRY.get_sample_value(_QUEUED, labels) != items:  # noqa: ASYNC110 - a gauge
            await asyncio.sleep(0.01)


async def test_near_deadline_drops_the_last_passages_and_says_which() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running_slow(engine, ROW_SECONDS) as stub:
        answer = await stub.RerankPassages(request(["", *PASSAGES]), timeout=TIMEOUT_SECONDS)
    scored = len(answer.scores) - 1 - answer.dropped
    assert 10 < scored < 60
    names = [str(place) for place in range(1, 101)]
    assert outcomes(answer.scores) == [
        *((name, "score") for name in names[:scored]),
        ("0", "error"),
        *((name, "dropped") for name in names[scored:]),
    ]
    # What was dropped was not computed.
    assert len(engine.tokens) == scored


async def test_without_a_deadline_nothing_is_dropped() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running_slow(engine, ROW_SECONDS) as stub:
        answer = await stub.RerankPassages(request(PASSAGES))
    assert answer.dropped == 0
    assert len(engine.tokens) == 100


@pytest.mark.parametrize(("passages", "all_of_them"), [(100, True), (1, True), (1, False)])
async def test_what_cannot_be_in_time_is_refused_at_once(
    passages: int, *, all_of_them: bool
) -> None:
    engine = GatedEngine()
    timeout = TIMEOUT_SECONDS if passages > 1 else 5
    async with running_slow(engine, ROW_SECONDS if passages > 1 else 20) as stub:
        asked = request(PASSAGES[:passages], require_all=all_of_them)
        caught = await error_of(stub.RerankPassages(asked, timeout=timeout))
    assert isinstance(caught, ResourceExhausted)
    assert caught.reason == "DEADLINE_TOO_NEAR"
    assert caught.retry_after
    assert engine.tokens == []


async def test_stream_answers_dropped_for_what_would_be_late() -> None:
    engine = GatedEngine()
    async with running_slow(engine, 5 * ROW_SECONDS) as stub:
        call = stub.StreamRerankPassages(events(PASSAGES, top_n=100), timeout=TIMEOUT_SECONDS)
        answers = aiter(call)
        # While nothing is computed yet, what has no chance is answered already.
        early = [(await anext(answers)).score for _ in range(80)]
        assert {outcome for _, outcome in outcomes(early)} == {"dropped"}
        engine.gate.set()
        late = [answer async for answer in answers]
    assert late[-1].WhichOneof("event") == "ranking"
    done = outcomes([*early, *(answer.score for answer in late[:-1])])
    assert sorted(name for name, _ in done) == sorted(str(place) for place in range(100))
    scored = sorted(int(name) for name, outcome in done if outcome == "score")
    # The first that came are the most promising. What came last may have found time again.
    assert scored[:3] == [0, 1, 2]
    assert len(scored) == len(engine.tokens) <= 20
    assert list(late[-1].ranking.ids) == [str(place) for place in scored]


async def test_stream_that_wants_all_is_refused_what_would_be_late() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with running_slow(engine, 20) as stub:
        call = stub.StreamRerankPassages(events(PASSAGES[:3], require_all=True), timeout=5)
        scores = [answer.score async for answer in call]
    assert outcomes(scores) == [("0", "error"), ("1", "error"), ("2", "error")]
    assert {from_status(score.error).reason for score in scores} == {"DEADLINE_TOO_NEAR"}


@pytest.mark.parametrize(("first", "second"), [(BULK, INTERACTIVE), (None, INTERACTIVE)])
async def test_interactive_call_goes_before_a_bulk_stream(first: int | None, second: int) -> None:
    engine = GatedEngine()
    async with running_slow(engine, ROW_SECONDS) as stub:
        # A stream is bulk unless it says otherwise.
        options = {} if first is None else {"priority": first}
        bulk = asyncio.create_task(_read(stub.StreamRerankPassages(events(PASSAGES, **options))))
        await started(engine)
        long = asyncio.ensure_future(
            stub.RerankPassages(request(["Everest is very high indeed."] * 4, priority=second))
        )
        await queued("interactive", 4)
        engine.gate.set()
        await asyncio.gather(bulk, long)
    short, interactive = engine.tokens[0], max(engine.tokens)
    # Behind the batch that ran already, at most one of bulk in between.
    assert engine.tokens[:6].count(interactive) == 4
    assert engine.tokens.count(short) == 100


async def test_callers_of_one_priority_share_the_model_whoever_sends_more() -> None:
    engine = GatedEngine()
    async with running_slow(engine, ROW_SECONDS) as stub:
        greedy = asyncio.ensure_future(
            stub.RerankPassages(
                request(PASSAGES, priority=BULK), metadata=(("x-sirdar-caller", "greedy"),)
            )
        )
        await started(engine)
        modest = asyncio.ensure_future(
            stub.RerankPassages(
                request(["Everest is very high indeed."] * 4, priority=BULK),
                metadata=(("x-sirdar-caller", "modest"),),
            )
        )
        # One is computed already.
        await queued("bulk", 103)
        engine.gate.set()
        await asyncio.gather(greedy, modest)
    share = max(engine.tokens)
    assert engine.tokens[:14].count(share) == 4


async def _read(call: AsyncIterable[object]) -> int:
    return len([answer async for answer in call])
