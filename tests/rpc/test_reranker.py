"""The reranker over gRPC, with the real built-in model."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from services.reranker.__main__ import wire
from services.reranker.builtin import DEFAULT_MODEL
from services.reranker.settings import RerankerSettings
from services.runtime.server import TierServer, serve
from sirdar.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SirdarError,
    from_rpc_error,
    from_status,
)
from sirdar.v1 import common_pb2, reranker_pb2
from sirdar.v1.reranker_pb2_grpc import RerankerServiceStub
from tests.reranker_model import builtin_reranker
from tests.small_model import MINILM, model_cache

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.reranker_pb2_grpc import RerankerServiceAsyncStub

Rerank = reranker_pb2.RerankPassagesRequest
Event = reranker_pb2.StreamRerankPassagesRequest
Options = reranker_pb2.RerankOptions
Passage = reranker_pb2.RerankPassage

QUERY = "What is the height of Everest?"
TEXTS = [
    "Paris is the capital of France.",
    "Mount Everest is 8,849 metres tall.",
    "The K2 is the second highest mountain on Earth.",
]


def settings(**changes: object) -> RerankerSettings:
    builtin_reranker()  # converts the model, once for all tests of a run
    values = {"port": 0, "metrics_port": None, "cache_folder": model_cache(), **changes}
    return RerankerSettings(**values)  # type: ignore[arg-type]


@pytest.fixture
async def stub() -> AsyncIterator["RerankerServiceAsyncStub"]:
    async with (
        serve("reranker", settings(), wire) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield connect(channel)


def connect(channel: grpc.aio.Channel) -> "RerankerServiceAsyncStub":
    stub: RerankerServiceAsyncStub = RerankerServiceStub(channel)  # type: ignore[assignment]
    return stub


def request(texts: Sequence[str], query: str = QUERY, *, raw_scores: bool = False) -> Rerank:
    """Passages named by their places."""
    passages = [Passage(id=str(place), text=text) for place, text in enumerate(texts)]
    return Rerank(options=Options(query=query, raw_scores=raw_scores), passages=passages)


async def events(
    texts: Sequence[str], query: str = QUERY, *, raw_scores: bool = False
) -> AsyncIterator[reranker_pb2.StreamRerankPassagesRequest]:
    yield Event(options=Options(query=query, raw_scores=raw_scores))
    for place, text in enumerate(texts):
        yield Event(passage=Passage(id=str(place), text=text))


async def error_of(call: Awaitable[object]) -> SirdarError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_best_passage_comes_first(stub: "RerankerServiceAsyncStub") -> None:
    answer = await stub.RerankPassages(request(TEXTS))
    assert [score.id for score in answer.scores] == ["1", "2", "0"]
    assert answer.scores[0].score > 0.99
    assert 0 < answer.scores[2].score < 0.5
    assert answer.model.name == DEFAULT_MODEL


async def test_raw_scores_are_the_logits(stub: "RerankerServiceAsyncStub") -> None:
    answer = await stub.RerankPassages(request(TEXTS, raw_scores=True))
    logits = [score.score for score in answer.scores]
    assert logits == pytest.approx([9.86, -0.36, -2.25], abs=0.1)


async def test_top_n_is_the_start_of_the_whole_answer(stub: "RerankerServiceAsyncStub") -> None:
    texts = [*TEXTS, ""]
    whole = await stub.RerankPassages(request(texts))
    best = request(texts)
    best.top_n = 2
    answer = await stub.RerankPassages(best)
    # What could not be scored is said all the same.
    assert [score.id for score in answer.scores] == ["1", "2", "3"]
    assert list(answer.scores[:2]) == list(whole.scores[:2])
    assert answer.scores[2].HasField("error")


async def test_bad_passage_has_its_own_error(stub: "RerankerServiceAsyncStub") -> None:
    texts = ["", "Everest", " \n", "with \0 NUL"]
    answer = await stub.RerankPassages(request(texts))
    assert [score.WhichOneof("outcome") for score in answer.scores] == ["score"] + ["error"] * 3
    fields = {
        score.id: from_status(score.error).fields[0].field
        for score in answer.scores
        if score.HasField("error")
    }
    assert fields == {"0": "passages[0].text", "2": "passages[2].text", "3": "passages[3].text"}
    assert from_status(answer.scores[1].error).reason == "EMPTY"


async def test_a_thousand_empty_candidates_cost_nothing(stub: "RerankerServiceAsyncStub") -> None:
    answer = await stub.RerankPassages(request([""] * 1_000))
    assert len(answer.scores) == 1_000
    assert all(score.HasField("error") for score in answer.scores)


async def test_candidate_of_a_megabyte_is_scored_by_its_start(
    stub: "RerankerServiceAsyncStub",
) -> None:
    texts = [TEXTS[1] + " Snow is white." * 70_000, TEXTS[0], TEXTS[1]]
    answer = await stub.RerankPassages(request(texts))
    assert answer.scores[2].id == "1"
    assert {score.id: score.truncated for score in answer.scores} == {
        "0": True,
        "1": False,
        "2": False,
    }


async def test_ids_are_the_callers_and_may_repeat(stub: "RerankerServiceAsyncStub") -> None:
    passages = [Passage(id="same", text=text) for text in TEXTS]
    answer = await stub.RerankPassages(Rerank(options=Options(query=QUERY), passages=passages))
    assert [score.id for score in answer.scores] == ["same"] * 3


async def test_equal_passages_keep_their_order(stub: "RerankerServiceAsyncStub") -> None:
    answer = await stub.RerankPassages(request(["Everest is high."] * 12))
    assert [score.id for score in answer.scores] == [str(place) for place in range(12)]


NAMED = common_pb2.ModelRef(name="other")
REVISION = common_pb2.ModelRef(name=DEFAULT_MODEL, revision="v9")


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (Rerank(), InvalidArgument, "options.query must not be empty"),
        (request(TEXTS, query=" "), InvalidArgument, "options.query must not be empty"),
        (request(TEXTS, query="a\0b"), InvalidArgument, "must not contain NUL"),
        (request(TEXTS, query="a" * 8_193), InvalidArgument, "the limit is 8192"),
        (request([]), InvalidArgument, "passages must not be empty"),
        (request(["a"] * 1_001), InvalidArgument, "the limit is 1000 a message"),
        (
            Rerank(options=Options(query="a"), passages=[Passage(text="a")], top_n=0),
            InvalidArgument,
            "top_n must be at least 1",
        ),
        (Rerank(options=Options(query="a", model=NAMED)), NotFound, f"serves {DEFAULT_MODEL}"),
        (Rerank(options=Options(query="a", model=REVISION)), NotFound, "at revision v9"),
    ],
)
async def test_bad_request_is_refused(
    stub: "RerankerServiceAsyncStub", bad: Rerank, error: type[SirdarError], words: str
) -> None:
    caught = await error_of(stub.RerankPassages(bad))
    assert type(caught) is error
    assert words in caught.message


async def test_scores_leave_while_the_stream_is_open(stub: "RerankerServiceAsyncStub") -> None:
    call = stub.StreamRerankPassages()
    await call.write(Event(options=Options(query=QUERY, raw_scores=True)))
    for place, text in enumerate(TEXTS):
        await call.write(Event(passage=Passage(id=str(place), text=text)))
        answer = await call.read()
        assert isinstance(answer, reranker_pb2.StreamRerankPassagesResponse)
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


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([Event(passage=Passage(text="a"))], "options must come first"),
        ([Event(options=Options())], "options.query must not be empty"),
        ([Event(options=Options(query="a"))] * 2, "passage must be set after the first message"),
        ([Event(options=Options(query="a")), Event()], "passage must be set"),
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


async def test_draining_server_answers_what_it_took_and_says_goodbye() -> None:
    forever = asyncio.Event()

    async def requests() -> AsyncIterator[Event]:
        async for event in events(TEXTS):
            yield event
        await forever.wait()

    async with serve("reranker", settings(), wire) as server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        answers = aiter(connect(channel).StreamRerankPassages(requests()))
        kinds = [(await anext(answers)).WhichOneof("event") for _ in TEXTS]
    kinds += [event.WhichOneof("event") async for event in answers]
    assert kinds == ["score"] * 3 + ["shutting_down"]
    await channel.close()


async def overloaded(server: TierServer, call: str) -> list[SirdarError]:
    """The refusals of thirty calls at once to a server whose queue holds eight pairs."""
    texts = ["Snow is white. " * 60] * 8
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = connect(channel)
        if call == "unary":
            answers = await asyncio.gather(
                *(stub.RerankPassages(request(texts)) for _ in range(30)), return_exceptions=True
            )
            return [from_rpc_error(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
        scores = [event.score async for event in stub.StreamRerankPassages(events(texts * 30))]
        assert len(scores) == 240
        return [from_status(score.error) for score in scores if score.HasField("error")]


@pytest.mark.parametrize("call", ["unary", "stream"])
async def test_overload_is_refused_with_a_delay(call: str) -> None:
    async with serve("reranker", settings(queue_items=8, threads=1), wire) as server:
        errors = await overloaded(server, call)
    assert errors
    assert all(isinstance(error, ResourceExhausted) for error in errors)
    assert all(error.retry_after for error in errors)


async def test_deadline_is_kept(stub: "RerankerServiceAsyncStub") -> None:
    texts = ["Snow is white. " * 60] * 1_000
    caught = await error_of(stub.RerankPassages(request(texts), timeout=0.2))
    assert isinstance(caught, DeadlineExceeded)
    # What was given up does not hold others up.
    answer = await stub.RerankPassages(request(TEXTS), timeout=30)
    assert answer.scores[0].id == "1"


async def test_listed_model_says_what_it_is(stub: "RerankerServiceAsyncStub") -> None:
    answer = await stub.ListModels(reranker_pb2.RerankerServiceListModelsRequest())
    (model,) = answer.models
    assert (model.model.name, model.max_tokens) == (DEFAULT_MODEL, 320)
    assert (model.engine, model.device) == ("openvino", "cpu")
    assert not model.HasField("space")
    assert model.is_default


def test_bi_encoder_ends_the_process_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.reranker", "--model", MINILM]
    ports = ["--port", "0", "--metrics-port", "0", "--cache-folder", str(tmp_path)]
    child = subprocess.run(
        [*command, *ports], capture_output=True, text=True, check=False, timeout=60
    )
    assert child.returncode == 1
    (line,) = child.stderr.strip().splitlines()
    assert "bi-encoder" in line
