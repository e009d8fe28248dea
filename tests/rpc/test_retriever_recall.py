"""Live recall as operators see it: in ListShards and in a scrape of /metrics."""

import asyncio
import socket
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    create,
    document_write,
    retriever,
    search_request,
    vector,
    write,
)

LABELS = {"tenant": "default", "collection": "books", "index_kind": "auto"}
WAIT_SECONDS = 60


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels in (LABELS | {"k": "10"}, LABELS | {"k": "3"}, {})
    }


T = TypeVar("T")

SAMPLES = "sirdar_retriever_recall_samples_total"


async def until(read: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    end = time.monotonic() + WAIT_SECONDS
    while not wanted(found := await read()):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)
    return found


async def test_live_queries_tell_the_recall_of_their_collection(tmp_path: Path) -> None:
    port = free_port()
    async with retriever(tmp_path, metrics_port=port) as stub:
        await create(stub)
        await write(stub, *(document_write(f"d{at}") for at in range(30)))
        # Counted for the whole process.
        before = (await asyncio.to_thread(scrape, port)).get(SAMPLES, 0.0)
        # Exact searches say nothing about the index.
        await stub.SearchPassages(search_request(vector("x"), exact=True))
        for at in range(5):
            await stub.SearchPassages(search_request(vector(at)))

        async def estimates() -> list[pb.RecallEstimate]:
            return list((await stub.ListShards(pb.ListShardsRequest())).recall)

        (estimate,) = await until(estimates, lambda found: [item.queries for item in found] == [5])
        assert (estimate.namespace, estimate.collection) == ("default", "books")
        assert (estimate.index_kind, estimate.k, estimate.queries) == ("auto", 10, 5)
        assert (estimate.recall, estimate.high) == (1.0, 1.0)
        assert 0 < estimate.low < 1
        elsewhere = pb.ListShardsRequest(collection="films")
        assert not (await stub.ListShards(elsewhere)).recall

        seen = await asyncio.to_thread(scrape, port)
        assert seen["sirdar_retriever_recall"] == 1.0
        assert seen["sirdar_retriever_recall_low"] == estimate.low
        assert seen["sirdar_retriever_recall_high"] == 1.0
        assert seen[SAMPLES] - before == 5
        assert seen["sirdar_retriever_recall_cpu_seconds_total"] > 0

        await stub.SearchPassages(search_request(vector("few"), candidates=3))
        await until(estimates, lambda found: [item.k for item in found] == [3, 10])
