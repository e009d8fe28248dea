"""What a caller may ask of vectors: dimensions, dtypes, prompts, what is cut of long texts."""

import itertools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from prometheus_client import REGISTRY
from sentence_transformers import SentenceTransformer

from services.embedder.__main__ import wire
from services.runtime.server import serve
from sirdar.errors import FailedPrecondition, InvalidArgument, from_status
from sirdar.v1 import common_pb2, document_pb2, embedder_pb2
from tests.rpc.embedder_calls import array, connect, error_of, settings, tiny_model
from tests.small_model import minilm

if TYPE_CHECKING:  # generated for type checkers only
    from sirdar.v1.embedder_pb2_grpc import EmbedderServiceAsyncStub

Texts = embedder_pb2.EmbedTextsRequest
Documents = embedder_pb2.EmbedDocumentsRequest
Document = document_pb2.Document
QUERY, DOCUMENT = embedder_pb2.INPUT_TYPE_QUERY, embedder_pb2.INPUT_TYPE_DOCUMENT

# Each is one token of the tiny model.
WORDS = ["the", "flow", "of", "a", "supersonic", "jet", "wave", "heat", "boundary", "layer", "drag"]
TEXTS = [" ".join(WORDS[start:]) for start in range(len(WORDS))]


# One server for all: it loads two models.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stub() -> AsyncIterator["EmbedderServiceAsyncStub"]:
    """Serves MiniLM, and a tiny model with prompts."""
    async with (
        serve("embedder", settings(models=[tiny()]), wire) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield connect(channel)


def tiny() -> str:
    return f"path:{tiny_model()}"


def ref() -> common_pb2.ModelRef:
    return common_pb2.ModelRef(name=tiny())


def rows(answer: embedder_pb2.EmbedTextsResponse) -> NDArray[np.float32]:
    return np.array([array(item.vector) for item in answer.embeddings])


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products: NDArray[np.float32] = np.einsum("ij,ij->i", one, other) / lengths
    return products


async def test_fewer_dimensions_are_cut_and_normalised_again(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    full = rows(await stub.EmbedTexts(Texts(texts=TEXTS)))
    answer = await stub.EmbedTexts(Texts(texts=TEXTS, dimensions=100))
    assert answer.space.dimensions == 100
    assert np.allclose(np.linalg.norm(rows(answer), axis=1), 1, atol=1e-5)
    assert (cosines(rows(answer), full[:, :100]) > 0.99999).all()


async def test_model_that_does_not_normalise_is_only_cut(stub: "EmbedderServiceAsyncStub") -> None:
    full = rows(await stub.EmbedTexts(Texts(texts=TEXTS, model=ref())))
    cut = rows(await stub.EmbedTexts(Texts(texts=TEXTS, model=ref(), dimensions=5)))
    assert np.allclose(cut, full[:, :5], atol=1e-3)


@pytest.mark.parametrize("dimensions", [0, -1, 385, 2**31 - 1])
async def test_dimensions_that_the_model_does_not_have_are_refused(
    stub: "EmbedderServiceAsyncStub", dimensions: int
) -> None:
    error = await error_of(stub.EmbedTexts(Texts(texts=["a"], dimensions=dimensions)))
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == "dimensions"
    assert "1 to 384" in error.message
    documents = [Document(id="d", text="text")]
    request = Documents(documents=documents, dimensions=dimensions)
    assert isinstance(await error_of(stub.EmbedDocuments(request)), InvalidArgument)


@pytest.mark.parametrize("dimensions", [None, 96])
async def test_int8_restored_by_the_listed_ranges_is_the_same_vector(
    stub: "EmbedderServiceAsyncStub", dimensions: int | None
) -> None:
    full = rows(await stub.EmbedTexts(Texts(texts=TEXTS, dimensions=dimensions)))
    answer = await stub.EmbedTexts(
        Texts(texts=TEXTS, dtype=common_pb2.DTYPE_INT8, dimensions=dimensions)
    )
    assert len(answer.embeddings[0].vector.data) == (dimensions or 384)
    models = await stub.ListModels(embedder_pb2.EmbedderServiceListModelsRequest())
    calibration = models.models[0].int8_calibration
    grown = np.sqrt(384 / (dimensions or 384))
    low = np.frombuffer(calibration.minimums, "<f4")[:dimensions] * grown
    high = np.frombuffer(calibration.maximums, "<f4")[:dimensions] * grown
    restored = low + (rows(answer) + 128) * (high - low) / 255
    assert (cosines(restored.astype(np.float32), full) > 0.999).all()


async def test_binary_is_the_signs(stub: "EmbedderServiceAsyncStub") -> None:
    full = rows(await stub.EmbedTexts(Texts(texts=TEXTS, model=ref())))
    request = Texts(texts=TEXTS, model=ref(), dtype=common_pb2.DTYPE_BINARY, dimensions=11)
    answer = await stub.EmbedTexts(request)
    for item, row in zip(answer.embeddings, full, strict=True):
        assert item.vector.dimensions == 11
        bits = np.unpackbits(np.frombuffer(item.vector.data, np.uint8))
        assert bits.tolist() == [*(row[:11] > 0).astype(int), 0, 0, 0, 0, 0]


async def test_documents_come_in_every_form(stub: "EmbedderServiceAsyncStub") -> None:
    documents = [Document(id=str(number), text=text) for number, text in enumerate(TEXTS)]
    request = Documents(documents=documents, model=ref(), dtype=common_pb2.DTYPE_INT8, dimensions=8)
    answer = await stub.EmbedDocuments(request)
    same = await stub.EmbedTexts(
        Texts(
            texts=TEXTS,
            model=ref(),
            input_type=DOCUMENT,
            dtype=common_pb2.DTYPE_INT8,
            dimensions=8,
        )
    )
    assert answer.space == same.space
    passages = [item.embedded.passages[0] for item in answer.documents]
    difference = np.array([array(passage.vector) for passage in passages]) - rows(same)
    assert np.abs(difference).max() <= 1


async def test_fingerprints_differ_exactly_where_vectors_must_not_be_compared(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    same = [
        Texts(),
        Texts(dtype=common_pb2.DTYPE_FLOAT16),
        Texts(input_type=QUERY),
        Texts(input_type=DOCUMENT),
        Texts(dimensions=16),
        Texts(prompt_name="query"),
        Texts(prompt_name="document", dtype=common_pb2.DTYPE_FLOAT16),
    ]
    other = [
        Texts(dimensions=15),
        Texts(dimensions=8),
        Texts(dtype=common_pb2.DTYPE_INT8),
        Texts(dtype=common_pb2.DTYPE_INT8, dimensions=8),
        Texts(dtype=common_pb2.DTYPE_BINARY),
        Texts(prompt_name="topic"),
        Texts(prompt_name="topic", dimensions=8),
    ]
    prints = []
    for request in (*same, *other):
        request.model.name = tiny()
        request.texts.append("wing")
        prints.append((await stub.EmbedTexts(request)).space.fingerprint)
    listed = await stub.ListModels(embedder_pb2.EmbedderServiceListModelsRequest())
    plain = listed.models[1].space.fingerprint
    assert set(prints[: len(same)]) == {plain}
    assert len({plain, *prints[len(same) :]}) == 1 + len(other)
    assert listed.models[0].space.fingerprint == minilm().fingerprint


async def test_expected_space_is_that_of_the_answer(stub: "EmbedderServiceAsyncStub") -> None:
    request = Texts(texts=["wing"], dimensions=64)
    fingerprint = (await stub.EmbedTexts(request)).space.fingerprint
    request.expected_fingerprint = fingerprint
    assert (await stub.EmbedTexts(request)).space.fingerprint == fingerprint
    request.dimensions = 65
    error = await error_of(stub.EmbedTexts(request))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "SPACE_MISMATCH"


async def test_prompts_are_those_of_sentence_transformers(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    reference = SentenceTransformer(str(tiny_model()), device="cpu")
    for request, name in (
        (Texts(prompt_name="topic"), "topic"),
        (Texts(prompt_name="topic", input_type=QUERY), "topic"),
        (Texts(input_type=QUERY), "query"),
        (Texts(prompt_name="document"), "document"),
        (Texts(), None),
    ):
        request.model.name = tiny()
        request.texts.extend(TEXTS)
        expected = reference.encode(TEXTS, prompt_name=name, convert_to_numpy=True)
        assert (cosines(rows(await stub.EmbedTexts(request)), expected) > 0.998).all()
        # The bar tells prompts apart.
        other = reference.encode(TEXTS, prompt="wing: ", convert_to_numpy=True)
        assert (cosines(other, expected) < 0.99).all()


async def test_unknown_prompt_is_refused_with_the_known_ones(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    request = Texts(texts=["a"], model=ref(), prompt_name="tpoic")
    error = await error_of(stub.EmbedTexts(request))
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == "prompt_name"
    assert "document, query, topic" in error.message


async def test_prompts_that_are_mixed_in_one_batch_do_not_touch(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    """Many calls at once, of each text with each prompt, share batches."""
    names = ("query", "document", "topic")
    requests = [
        Texts(texts=[text], model=ref(), prompt_name=name)
        for text, name in itertools.product(TEXTS, names)
    ]
    calls = [stub.EmbedTexts(request) for request in requests]
    together = np.array([rows(await call)[0] for call in calls])
    alone = np.array([rows(await stub.EmbedTexts(request))[0] for request in requests])
    assert (cosines(together, alone) > 0.9999).all()


async def test_start_is_cut_and_the_prompt_stays(stub: "EmbedderServiceAsyncStub") -> None:
    """Of 48 tokens four are [CLS], [SEP] and the prompt's."""
    words = [WORDS[number % len(WORDS)] for number in range(200)]

    async def embed(texts: list[str], truncation: int) -> embedder_pb2.EmbedTextsResponse:
        return await stub.EmbedTexts(
            Texts(
                texts=texts,
                model=ref(),
                prompt_name="topic",
                truncation=truncation,  # type: ignore[arg-type]
            )
        )

    long, short = " ".join(words), " ".join(words[-44:])
    cut = await embed([long, short], embedder_pb2.TRUNCATION_START)
    assert [item.truncated for item in cut.embeddings] == [True, False]
    assert [item.tokens for item in cut.embeddings] == [48, 48]
    assert cosines(rows(cut)[:1], rows(cut)[1:]) > 0.9999
    for other in (embedder_pb2.TRUNCATION_END, embedder_pb2.TRUNCATION_UNSPECIFIED):
        end = await embed([long, " ".join(words[:44])], other)
        assert cosines(rows(end)[:1], rows(end)[1:]) > 0.9999
        assert cosines(rows(end)[:1], rows(cut)[:1]) < 0.99


async def test_refused_truncation_is_an_error_of_the_text_alone(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    texts = ["wing", "flow " * 49, "jet", "drag " * 46]
    answer = await stub.EmbedTexts(
        Texts(texts=texts, model=ref(), truncation=embedder_pb2.TRUNCATION_REFUSE)
    )
    outcomes = [item.WhichOneof("outcome") for item in answer.embeddings]
    assert outcomes == ["vector", "error", "vector", "vector"]
    error = from_status(answer.embeddings[1].error)
    assert error.reason == "TEXT_TOO_LONG"
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == "texts[1]"
    assert "48 tokens" in error.message
    alone = rows(await stub.EmbedTexts(Texts(texts=["jet"], model=ref())))[0]
    assert np.allclose(array(answer.embeddings[2].vector), alone, atol=2e-2)


async def test_texts_that_were_cut_are_counted(stub: "EmbedderServiceAsyncStub") -> None:
    def count() -> float:
        labels = {"model": tiny(), "class": "interactive"}
        name = "sirdar_inference_truncated_items_total"
        return REGISTRY.get_sample_value(name, labels) or 0

    before = count()
    await stub.EmbedTexts(Texts(texts=["flow " * 100, "jet", "drag " * 47], model=ref()))
    assert count() == before + 2


async def test_call_of_nothing_but_bad_texts_is_answered(
    stub: "EmbedderServiceAsyncStub",
) -> None:
    answer = await stub.EmbedTexts(Texts(texts=["\0", "x" * 5_000_000], model=ref()))
    errors = [from_status(item.error) for item in answer.embeddings]
    assert [error.fields[0].field for error in errors] == ["texts[0]", "texts[1]"]


async def test_empty_text_is_embedded_as_the_model_does(stub: "EmbedderServiceAsyncStub") -> None:
    texts = ["", "  \n\t ", "wing"]
    answer = await stub.EmbedTexts(Texts(texts=texts, model=ref()))
    assert [item.empty for item in answer.embeddings] == [True, True, False]
    assert [item.tokens for item in answer.embeddings] == [2, 2, 3]
    reference = SentenceTransformer(str(tiny_model()), device="cpu")
    expected = reference.encode(texts, convert_to_numpy=True)
    assert (cosines(rows(answer), expected) > 0.998).all()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Texts(texts=["a"], dtype=9), "dtype"),  # type: ignore[arg-type]
        (Texts(texts=["a"], truncation=9), "truncation"),  # type: ignore[arg-type]
        (Texts(texts=["a"], priority=9), "priority"),  # type: ignore[arg-type]
        (Texts(texts=["a"], input_type=9), "input_type"),  # type: ignore[arg-type]
        (Texts(texts=["a"] * 100_000), "texts"),
        (Texts(), "texts"),
    ],
    ids=["dtype", "truncation", "priority", "input_type", "100,000 texts", "no texts"],
)
async def test_unknown_word_and_wrong_count_are_refused_by_their_field(
    stub: "EmbedderServiceAsyncStub", request_: Texts, field: str
) -> None:
    error = await error_of(stub.EmbedTexts(request_))
    assert isinstance(error, InvalidArgument)
    assert error.fields[0].field == field
