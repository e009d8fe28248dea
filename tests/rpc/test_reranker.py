"""The reranker over gRPC, with the real built-in model."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio

from services.reranker.builtin import DEFAULT_MODEL
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
from tests.rpc.reranker_calls import (
    QUERY,
    TEXTS,
    Options,
    Passage,
    Rerank,
    connected,
    error_of,
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


async def test_best_passage_comes_first(stub: "RerankerServiceAsyncStub") -> None:
    answer = await stub.RerankPassages(request(TEXTS))
    assert [score.id for score in answer.scores] == ["1", "2", "0"]
    assert answer.scores[0].score > 0.99
    assert 0 < answer.scores[2].score < 0.5
    assert answer.model.name == DEFAULT_MODEL
    assert answer.dropped == 0


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
NAMELESS = common_pb2.ModelRef(revision="v9")
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
        (request(TEXTS, top_n=2), InvalidArgument, "options.top_n is for streams"),
        (Rerank(options=Options(query="a", model=NAMED)), NotFound, f"serves {DEFAULT_MODEL}"),
        (Rerank(options=Options(query="a", model=REVISION)), NotFound, "at revision v9"),
        (
            Rerank(options=Options(query="a", model=NAMELESS)),
            InvalidArgument,
            "options.model.name must not be empty",
        ),
        (request(TEXTS, priority=9), InvalidArgument, "options.priority is unknown"),
    ],
)
async def test_bad_request_is_refused(
    stub: "RerankerServiceAsyncStub", bad: Rerank, error: type[SirdarError], words: str
) -> None:
    caught = await error_of(stub.RerankPassages(bad))
    assert type(caught) is error
    assert words in caught.message


async def test_overload_is_refused_with_a_delay() -> None:
    """Thirty calls at once to a server whose queue holds eight pairs."""
    texts = ["Snow is white. " * 60] * 8
    async with running(queue_items=8, threads=1) as server, connected(server) as stub:
        answers = await asyncio.gather(
            *(stub.RerankPassages(request(texts)) for _ in range(30)), return_exceptions=True
        )
    errors = [from_rpc_error(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert 0 < len(errors) < 30
    assert all(isinstance(error, ResourceExhausted) for error in errors)
    assert all(error.retry_after for error in errors)


async def test_deadline_is_kept(stub: "RerankerServiceAsyncStub") -> None:
    texts = ["Snow is white. " * 60] * 1_000
    call = stub.RerankPassages(request(texts, require_all=True), timeout=0.2)
    assert isinstance(await error_of(call), (DeadlineExceeded, ResourceExhausted))
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
    assert model.state == common_pb2.MODEL_STATE_SERVING
    assert 0.9 < model.parity.required_cosine <= model.parity.min_cosine <= 1.001
    assert model.parity.texts > 0
