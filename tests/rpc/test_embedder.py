"""The embedder over gRPC, with the real small model."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import pytest_asyncio

from services.embedder.__main__ import wire
from services.runtime.server import TierServer, serve
from sirdar.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SirdarError,
    from_rpc_error,
    from_status,
)
from sirdar.v1 import common_pb2, document_pb2, embedder_pb2
from tests.rpc.embedder_calls import array, connect, error_of, settings
from tests.small_model import MINILM, minilm

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.embedder_pb2_grpc import EmbedderServiceAsyncStub

Texts = embedder_pb2.EmbedTextsRequest
Documents = embedder_pb2.EmbedDocumentsRequest
Document = document_pb2.Document
ModelRef = common_pb2.ModelRef


# One server for most of the tests: to load a model takes seconds.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[TierServer]:
    limits = {"max_texts": 50, "max_text_characters": 5_000, "max_document_bytes": 200_000}
    async with serve("embedder", settings(**limits), wire) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stub(server: TierServer) -> AsyncIterator["EmbedderServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield connect(channel)


async def test_texts_that_mean_the_same_are_near(stub: "EmbedderServiceAsyncStub") -> None:
    texts = ["How do I read a CSV file?", "load comma separated values", "a cat sleeps"]
    answer = await stub.EmbedTexts(Texts(texts=texts))
    question, same, other = (array(item.vector) for item in answer.embeddings)
    assert question @ same > question @ other + 0.2
    assert np.linalg.norm(question) == pytest.approx(1, abs=1e-5)
    assert answer.space.dimensions == 384
    assert answer.space.fingerprint == minilm().fingerprint
    assert answer.space.model.name == MINILM


async def test_half_precision_is_the_same_vector_in_half_the_bytes(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    full = await stub.EmbedTexts(Texts(texts=["wing"], dtype=common_pb2.DTYPE_FLOAT32))
    half = await stub.EmbedTexts(Texts(texts=["wing"], dtype=common_pb2.DTYPE_FLOAT16))
    assert len(half.embeddings[0].vector.data) == 768
    assert np.allclose(
        array(half.embeddings[0].vector), array(full.embeddings[0].vector), atol=1e-3
    )


async def test_bad_text_has_its_own_error_and_truncation_is_said(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    texts = ["good", " \n", "with \0 NUL", "x" * 5_000_000, "long " * 900]
    answer = await stub.EmbedTexts(Texts(texts=texts))
    outcomes = [item.WhichOneof("outcome") for item in answer.embeddings]
    assert outcomes == ["vector", "vector", "error", "error", "vector"]
    error = from_status(answer.embeddings[2].error)
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == "texts[2]"
    assert "limit is 5000" in from_status(answer.embeddings[3].error).message
    assert [item.truncated for item in answer.embeddings] == [False] * 4 + [True]
    assert [item.empty for item in answer.embeddings] == [False, True, False, False, False]
    assert answer.embeddings[4].tokens == 256


@pytest.mark.parametrize(
    ("request_", "error", "reason"),
    [
        (Texts(), InvalidArgument, "EMPTY"),
        (Texts(texts=["a"] * 51), InvalidArgument, "INVALID_ARGUMENT"),
        (Texts(texts=["a"], dtype=9), InvalidArgument, "INVALID_ARGUMENT"),  # type: ignore[arg-type]
        (Texts(texts=["a"], model=ModelRef(name="other")), NotFound, "MODEL_NOT_FOUND"),
        (
            Texts(texts=["a"], model=ModelRef(name=MINILM, revision="v9")),
            NotFound,
            "MODEL_NOT_FOUND",
        ),
        (Texts(texts=["a"], model=ModelRef(revision="v9")), InvalidArgument, "EMPTY"),
        (Texts(texts=["a"], expected_fingerprint="ff"), FailedPrecondition, "SPACE_MISMATCH"),
    ],
)
async def test_bad_request_is_refused(
    stub: "EmbedderServiceAsyncStub", request_: Texts, error: type[SirdarError], reason: str
) -> None:
    caught = await error_of(stub.EmbedTexts(request_))
    assert type(caught) is error
    assert caught.reason == reason


async def test_named_model_and_expected_space_are_accepted(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    request = Texts(
        texts=["a"], model=ModelRef(name=MINILM), expected_fingerprint=minilm().fingerprint
    )
    assert len((await stub.EmbedTexts(request)).embeddings) == 1


async def test_last_sentence_of_a_long_document_is_findable(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    text = "The committee met and discussed the budget at length. " * 300
    text += "The penguin escaped through the cafeteria window."
    answer = await stub.EmbedDocuments(
        Documents(documents=[Document(id="d", title="Minutes", text=text)])
    )
    passages = answer.documents[0].embedded.passages
    query = (await stub.EmbedTexts(Texts(texts=["a bird got away"]))).embeddings[0].vector
    scores = [float(array(query) @ array(passage.vector)) for passage in passages]
    best = passages[int(np.argmax(scores))]
    assert "penguin" in text[best.span.start : best.span.end]
    assert best.span.end == len(text)
    assert max(passage.tokens for passage in passages) <= 256


async def test_each_document_has_its_own_outcome(stub: "EmbedderServiceAsyncStub") -> None:
    documents = [
        Document(id="good", text="some text"),
        Document(id="white", text=" \n"),
        Document(id="nul", title="a\0b", text="text"),
        Document(id="large", text="word " * 50_000),
        Document(id="also good", title="title", text="other text"),
    ]
    answer = await stub.EmbedDocuments(Documents(documents=documents))
    assert [item.document_id for item in answer.documents] == [d.id for d in documents]
    fields = {
        item.document_id: from_status(item.error).fields[0].field
        for item in answer.documents
        if item.HasField("error")
    }
    assert fields == {
        "white": "documents[1].text",
        "nul": "documents[2].title",
        "large": "documents[3]",
    }
    assert len(answer.documents[4].embedded.passages) == 1


async def test_document_vector_is_that_of_title_and_text(stub: "EmbedderServiceAsyncStub") -> None:
    answer = await stub.EmbedDocuments(
        Documents(documents=[Document(id="d", title="Title", text=" text ")])
    )
    same = await stub.EmbedTexts(
        Texts(texts=["Title\ntext"], input_type=embedder_pb2.INPUT_TYPE_DOCUMENT)
    )
    passage = answer.documents[0].embedded.passages[0]
    assert (passage.span.start, passage.span.end) == (1, 5)
    cosine = array(passage.vector) @ array(same.embeddings[0].vector)
    assert cosine == pytest.approx(1, abs=1e-3)


async def test_no_documents_is_refused(stub: "EmbedderServiceAsyncStub") -> None:
    assert isinstance(await error_of(stub.EmbedDocuments(Documents())), InvalidArgument)


async def test_stream_answers_in_order_and_survives_a_bad_request(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    async def requests() -> AsyncIterator[embedder_pb2.StreamEmbedTextsRequest]:
        for number in range(30):
            texts = [] if number == 7 else ["word " * (1 + number % 5)] * (1 + number % 3)
            yield embedder_pb2.StreamEmbedTextsRequest(request=Texts(texts=texts))

    events = [event async for event in stub.StreamEmbedTexts(requests())]
    assert len(events) == 30
    assert isinstance(from_status(events[7].error), InvalidArgument)
    sizes = [len(event.response.embeddings) for event in events]
    assert sizes == [0 if number == 7 else 1 + number % 3 for number in range(30)]


async def test_stream_of_documents(stub: "EmbedderServiceAsyncStub") -> None:
    async def requests() -> AsyncIterator[embedder_pb2.StreamEmbedDocumentsRequest]:
        for number in range(9):
            documents = [Document(id=str(number), text=f"text {number}")]
            yield embedder_pb2.StreamEmbedDocumentsRequest(request=Documents(documents=documents))

    events = [event async for event in stub.StreamEmbedDocuments(requests())]
    ids = [event.response.documents[0].document_id for event in events]
    assert ids == [str(number) for number in range(9)]


async def test_draining_server_answers_what_it_took_and_says_goodbye() -> None:
    forever = asyncio.Event()

    async def requests() -> AsyncIterator[embedder_pb2.StreamEmbedTextsRequest]:
        for _ in range(3):
            yield embedder_pb2.StreamEmbedTextsRequest(request=Texts(texts=["text"]))
        await forever.wait()

    async with serve("embedder", settings(), wire) as server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        events = aiter(connect(channel).StreamEmbedTexts(requests()))
        kinds = [(await anext(events)).WhichOneof("event") for _ in range(3)]
    kinds += [event.WhichOneof("event") async for event in events]
    assert kinds == ["response"] * 3 + ["shutting_down"]
    await channel.close()


async def test_overload_is_refused_with_a_delay() -> None:
    async with (
        serve("embedder", settings(queue_items=8, threads=1), wire) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = connect(channel)
        request = Texts(texts=["word " * 250] * 8)
        calls = [stub.EmbedTexts(request) for _ in range(30)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    errors = [from_rpc_error(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert errors
    assert all(isinstance(error, ResourceExhausted) for error in errors)
    assert all(error.retry_after for error in errors)
    assert len(errors) < 30


async def test_model_that_cannot_be_loaded_ends_the_process_with_one_line() -> None:
    command = [sys.executable, "-m", "services.embedder", "--model", "path:/no/such/model"]
    ports = ["--port", "0", "--metrics-port", "0"]
    run = partial(subprocess.run, capture_output=True, text=True, check=False, timeout=60)
    child = await asyncio.to_thread(run, [*command, *ports])
    assert child.returncode == 1
    (line,) = child.stderr.strip().splitlines()
    assert "there is no folder /no/such/model" in line


async def test_listed_model_says_what_it_is(stub: "EmbedderServiceAsyncStub") -> None:
    answer = await stub.ListModels(embedder_pb2.EmbedderServiceListModelsRequest())
    (model,) = answer.models
    assert model.model.name == MINILM
    assert (model.engine, model.device) == ("openvino", "cpu")
    assert model.precision in {"bf16", "fp32"}
    assert (model.max_tokens, model.space.dimensions) == (256, 384)
    assert model.is_default
