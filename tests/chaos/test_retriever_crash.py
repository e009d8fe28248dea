"""A retriever process that is killed with SIGKILL while it takes writes."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from sirdar.errors import NotFound, from_rpc_error
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import (
    FINGERPRINT,
    Stub,
    connect,
    create,
    document_write,
    search_request,
    vector,
)

START_SECONDS = 60
KILLS = 3
SPANS = ((0, 5), (6, 11), (12, 17))


@dataclass
class Acknowledged:
    """The last acknowledged version of each id; ids whose last call was not answered."""

    versions: dict[str, int] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)


@asynccontextmanager
async def process(folder: Path, port: int) -> AsyncIterator[tuple[Process, Stub]]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.retriever", "--port", str(port)),
        *("--data-folder", str(folder), "--seal-vectors", "200"),
        env={**os.environ, "SIRDAR_RETRIEVER_METRICS_PORT": "0"},
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = connect(channel)
            ready = pb.ListShardsRequest()
            await asyncio.wait_for(serving(stub, ready, child), START_SECONDS)
            yield child, stub
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def serving(stub: Stub, request: pb.ListShardsRequest, child: Process) -> None:
    while True:
        assert child.returncode is None, "the retriever ended"
        try:
            await stub.ListShards(request)
            return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def text_of(version: int) -> str:
    """A text whose three passages all say which version they are of."""
    return " ".join([f"v{version:04}"] * 3)


async def write_until_killed(stub: Stub, writer: int, acknowledged: Acknowledged) -> int:
    """Writes batches of documents over and over; how many were acknowledged."""
    count = 0
    turn = 0
    while True:
        turn += 1
        ids = [f"w{writer}-{(turn * 7 + at) % 120}" for at in range(5)]
        writes = []
        for document_id in ids:
            version = acknowledged.versions.get(document_id, 0) + 1
            writes.append(document_write(document_id, text_of(version), spans=SPANS))
        acknowledged.unsure.update(ids)
        try:
            response = await stub.WriteDocuments(
                pb.WriteDocumentsRequest(collection="books", writes=writes, fingerprint=FINGERPRINT)
            )
        except grpc.aio.AioRpcError:
            return count
        for outcome in response.outcomes:
            acknowledged.versions[outcome.document_id] = outcome.receipt.version
            acknowledged.unsure.discard(outcome.document_id)
            count += 1


async def stored(stub: Stub, document_id: str) -> tuple[int, str]:
    request = pb.RetrieverServiceGetDocumentRequest(collection="books", document_id=document_id)
    try:
        document = (await stub.GetDocument(request)).document
    except grpc.aio.AioRpcError as error:
        assert isinstance(from_rpc_error(error), NotFound)
        return 0, ""
    return document.receipt.version, document.document.text


async def check(stub: Stub, acknowledged: Acknowledged) -> dict[str, int]:
    """Every acknowledged write is there and whole; the versions that are there now."""
    versions: dict[str, int] = {}
    for document_id in sorted(acknowledged.versions.keys() | acknowledged.unsure):
        version, text = await stored(stub, document_id)
        last = acknowledged.versions.get(document_id, 0)
        # A call that was not answered may have been committed, once and whole.
        assert version in ((last, last + 1) if document_id in acknowledged.unsure else (last,))
        if version == 0:
            continue
        versions[document_id] = version
        assert text == text_of(version)
        queries = [vector(f"{document_id}/{text}/{at}") for at in range(3)]
        response = await stub.SearchPassages(search_request(*queries, candidates=5, exact=True))
        for at, result in enumerate(response.results):
            best = result.passages[0]
            assert (best.document_id, best.index, best.version) == (document_id, at, version)
            assert result.dense[0].score == pytest.approx(1, abs=2e-3)
    return versions


async def check_nothing_else(stub: Stub, versions: dict[str, int]) -> None:
    """No half-written document, and each live vector once."""
    shards = (await stub.ListShards(pb.ListShardsRequest())).shards
    assert sum(shard.vectors for shard in shards) == 3 * len(versions)
    collection = await stub.GetCollection(pb.RetrieverServiceGetCollectionRequest(name="books"))
    assert collection.collection.documents == len(versions)
    assert collection.collection.passages == 3 * len(versions)


async def test_acknowledged_writes_survive_kills(tmp_path: Path) -> None:
    port = free_port()
    acknowledged = Acknowledged()
    for round_ in range(KILLS):
        async with process(tmp_path, port) as (child, stub):
            if round_ == 0:
                await create(stub, shards=2)
            writers = [
                asyncio.create_task(write_until_killed(stub, writer, acknowledged))
                for writer in range(4)
            ]
            # Into the midst of commits, and of builds of sealed segments.
            await asyncio.sleep(1.5 + 0.7 * round_)
            child.send_signal(signal.SIGKILL)
            counts = await asyncio.gather(*writers)
            assert sum(counts) > 0
        async with process(tmp_path, port) as (child, stub):
            versions = await check(stub, acknowledged)
            await check_nothing_else(stub, versions)
            child.send_signal(signal.SIGTERM)
            await asyncio.wait_for(child.wait(), START_SECONDS)
            assert child.returncode == 0
        acknowledged = Acknowledged(versions)
