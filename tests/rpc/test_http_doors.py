"""The doors for other APIs' clients: those clients themselves, and what they are refused."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import cohere
import httpx
import openai
import pytest

from sirdar.errors import InvalidArgument, ResourceExhausted
from tests.rpc.gateway_http import HttpGateway, running_http

MODEL = "double"


@pytest.fixture
async def gateway() -> AsyncIterator[HttpGateway]:
    async with running_http(reranker=True) as running:
        running.embedder.word = "sea"
        yield running


@pytest.fixture
async def client(gateway: HttpGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as connected:
        yield connected


async def test_openai_reads_floats_and_base64_alike(client: openai.AsyncOpenAI) -> None:
    for encoding in ("float", "base64"):
        made = await client.embeddings.create(
            model=MODEL,
            input=["the sea", "bread"],
            encoding_format=encoding,
        )
        # Asked for base64 by name, the client hands it out as it came.
        vectors = [
            list(struct.unpack("<2f", base64.b64decode(item.embedding)))
            if isinstance(item.embedding, str)
            else item.embedding
            for item in made.data
        ]
        assert vectors == [[1.0, 0.0], [0.0, 1.0]]
        assert [item.index for item in made.data] == [0, 1]
        assert (made.model, made.object) == (MODEL, "list")
        assert made.usage.prompt_tokens == made.usage.total_tokens == 6


async def test_openai_takes_one_text_and_its_own_default_encoding(
    client: openai.AsyncOpenAI,
) -> None:
    made = await client.embeddings.create(model=MODEL, input="the sea", dimensions=2)
    assert [item.embedding for item in made.data] == [[1.0, 0.0]]
    assert [model.id async for model in client.models.list()] == [MODEL]


@pytest.mark.parametrize(
    ("arguments", "status", "param", "words"),
    [
        ({"model": "gpt"}, 404, "model", "'double'"),
        ({"dimensions": 3}, 400, "dimensions", "has 2"),
        ({"input": [1, 2, 3]}, 400, "input", "token ids"),
        ({"input": [[1, 2], [3]]}, 400, "input", "token ids"),
        ({"input": []}, 400, "input", "0 texts"),
        ({"input": ["x"] * 2_049}, 400, "input", "2048"),
        ({"input": [None]}, 400, "input", "input"),
        ({"input": ["ok", "refused"]}, 400, "input[1]", "is odd"),
        ({"encoding_format": "int8"}, 400, "encoding_format", "base64"),
    ],
)
async def test_openai_is_refused_in_its_own_shape(
    gateway: HttpGateway,
    client: openai.AsyncOpenAI,
    arguments: dict[str, Any],
    status: int,
    param: str,
    words: str,
) -> None:
    gateway.embedder.refused_texts["refused"] = InvalidArgument.field("texts[1]", "is odd")
    with pytest.raises(openai.APIStatusError) as refused:
        await client.embeddings.create(**{"model": MODEL, "input": "x", **arguments})
    assert refused.value.status_code == status
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert words in refused.value.message


async def test_openai_is_told_of_overload(gateway: HttpGateway, client: openai.AsyncOpenAI) -> None:
    gateway.embedder.failures = [ResourceExhausted("busy", reason="QUEUE_FULL")]
    with pytest.raises(openai.RateLimitError) as refused:
        await client.embeddings.create(model=MODEL, input="x")
    assert refused.value.code == "queue_full"


def cohere_client(url: str) -> cohere.AsyncClientV2:
    return cohere.AsyncClientV2(
        "none", base_url=url, httpx_client=httpx.AsyncClient(trust_env=False)
    )


DOCUMENTS = ["bread and salt", "the salt of the sea", "ships"]


async def test_cohere_reranks_by_its_second_api(gateway: HttpGateway) -> None:
    client = cohere_client(gateway.url)
    found = await client.rerank(model="words", query="salt sea", documents=DOCUMENTS, top_n=2)
    assert [(item.index, item.relevance_score) for item in found.results] == [(1, 1.0), (0, 0.5)]
    assert found.id


async def test_cohere_reranks_by_its_first_api(gateway: HttpGateway) -> None:
    client = cohere.AsyncClient(
        "none", base_url=gateway.url, httpx_client=httpx.AsyncClient(trust_env=False)
    )
    found = await client.rerank(
        model="words",
        query="salt sea",
        documents=[{"text": text} for text in DOCUMENTS],
        return_documents=True,
    )
    assert [item.index for item in found.results] == [1, 0, 2]
    assert found.results[0].document is not None
    assert found.results[0].document.text == DOCUMENTS[1]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"model": "gpt"}, cohere.NotFoundError),
        ({"query": " "}, cohere.BadRequestError),
        ({"documents": []}, cohere.BadRequestError),
        ({"documents": [""] * 1_000}, cohere.BadRequestError),
        ({"documents": ["x"] * 1_001}, cohere.BadRequestError),
        ({"top_n": 0}, cohere.BadRequestError),
    ],
)
async def test_cohere_is_refused_in_its_own_shape(
    gateway: HttpGateway, arguments: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as refused:
        await cohere_client(gateway.url).rerank(
            **{"model": "words", "query": "salt", "documents": DOCUMENTS, **arguments}
        )
    assert "message" in refused.value.body  # type: ignore[attr-defined]


async def test_jina_reranks(gateway: HttpGateway) -> None:
    body = {"query": "salt sea", "documents": DOCUMENTS, "top_n": 1, "return_documents": True}
    answer = (await gateway.http.post("/v1/rerank", json=body)).json()
    assert answer["model"] == "words"
    assert answer["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": DOCUMENTS[1]}}
    ]
    refused = await gateway.http.post("/v1/rerank", json={"query": "x"})
    assert refused.status_code == 400
    assert "documents" in refused.json()["detail"]


async def test_without_a_reranker_its_doors_are_closed() -> None:
    async with running_http() as gateway:
        for path in ("/v1/rerank", "/v2/rerank"):
            answer = await gateway.http.post(path, json={"query": "x", "documents": ["y"]})
            assert (answer.status_code, answer.json()["reason"]) == (503, "NO_RERANKER")
        answer = await gateway.http.post("/rerank", json={"query": "x", "texts": ["y"]})
        assert (answer.status_code, answer.json()["error_type"]) == (503, "Backend")


async def test_embed_takes_one_text_or_several(gateway: HttpGateway) -> None:
    one = await gateway.http.post("/embed", json={"inputs": "the sea"})
    two = await gateway.http.post("/embed", json={"inputs": ["the sea", "x"], "normalize": False})
    assert one.json() == [[1.0, 0.0]]
    assert two.json() == [[1.0, 0.0], [0.0, 1.0]]


async def test_embed_refuses_what_would_be_cut_unless_told_to_cut(gateway: HttpGateway) -> None:
    gateway.embedder.truncated = True
    refused = await gateway.http.post("/embed", json={"inputs": "long"})
    assert refused.status_code == 400
    assert refused.json()["error_type"] == "Validation"
    cut = await gateway.http.post("/embed", json={"inputs": "long", "truncate": True})
    assert cut.status_code == 200


async def test_embed_names_the_prompts_that_there_are(gateway: HttpGateway) -> None:
    named = await gateway.http.post("/embed", json={"inputs": "x", "prompt_name": "query"})
    assert named.status_code == 200
    other = await gateway.http.post("/embed", json={"inputs": "x", "prompt_name": "poem"})
    assert other.status_code == 400
    assert "prompt_name" in other.json()["error"]


async def test_tei_reranks_and_says_who_it_is(gateway: HttpGateway) -> None:
    body = {"query": "salt sea", "texts": DOCUMENTS, "return_text": True}
    ranked = (await gateway.http.post("/rerank", json=body)).json()
    assert [item["index"] for item in ranked] == [1, 0, 2]
    assert ranked[0]["text"] == DOCUMENTS[1]
    assert (await gateway.http.get("/info")).json()["model_id"] == MODEL


async def test_a_body_that_is_not_json_is_refused_in_the_doors_shape(
    gateway: HttpGateway,
) -> None:
    json_body = {"content-type": "application/json"}
    for path, member in (
        ("/v1/embeddings", "error"),
        ("/v2/rerank", "message"),
        ("/embed", "error"),
    ):
        for body in (b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"input": "\\ud800", "model": "x"}'):
            answer = await gateway.http.post(path, content=body, headers=json_body)
            assert 400 <= answer.status_code < 500, (path, body[:20])
            assert member in answer.json()


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v1/rerank", "/v2/rerank", "/embed", "/rerank"]
)
async def test_a_body_without_end_is_refused_at_the_limit(path: str) -> None:
    async with running_http(reranker=True, max_message_bytes=2**20) as gateway:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def send() -> None:
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                f"content-length: {2**40}\r\n\r\n".encode()
            )
            while True:
                writer.write(b" " * 2**16)
                await writer.drain()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(20):
            assert (await reader.readline()).split()[1] == b"413"
        sending.cancel()
        writer.close()
        await asyncio.gather(sending, return_exceptions=True)


async def test_tei_names_its_own_fields(gateway: HttpGateway) -> None:
    none = await gateway.http.post("/embed", json={"inputs": []})
    assert (none.status_code, none.json()["error"][:7]) == (400, "inputs ")
    none = await gateway.http.post("/rerank", json={"query": "q", "texts": []})
    assert (none.status_code, none.json()["error"][:6]) == (400, "texts ")
