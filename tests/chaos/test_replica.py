"""A retriever and its read replica as processes, each killed in the midst of writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from services.retriever.store.sqlite.followed import FollowedSqliteStore
from sirdar.v1 import common_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.chaos.model.process import RetrieverProcess
from tests.rpc.replica_calls import everything, single
from tests.rpc.retriever_calls import Stub, create, search_request, vector, write

DOCUMENTS = 200


@dataclass
class Writes:
    """What was acknowledged, by document: its last version at least."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    count: int = 0

    async def run(self, stub: Stub) -> None:
        """Writes and deletes until the writer is gone."""
        while True:
            items = [
                single(f"d{(self.count + n) % DOCUMENTS}", f"text number{self.count + n}")
                for n in range(8)
            ]
            self.count += 8
            try:
                receipts = await write(stub, *items)
                for item, receipt in zip(items, receipts, strict=True):
                    self.acknowledged[item.document.id] = receipt.version
                if self.count % 40 == 0:
                    await self._delete(stub, items[0].document.id)
            except grpc.aio.AioRpcError:
                return

    async def _delete(self, stub: Stub, document_id: str) -> None:
        # Whatever becomes of the call, it may have been done.
        self.acknowledged.pop(document_id)
        self.deleted.add(document_id)
        await stub.DeleteDocuments(
            pb.RetrieverServiceDeleteDocumentsRequest(
                collection="books", document_ids=[document_id]
            )
        )

    def check(self, there: dict[str, tuple[int, str]]) -> None:
        assert all(there[key][0] >= version for key, version in self.acknowledged.items())

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.count < count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


@asynccontextmanager
async def processes(folder: Path) -> AsyncIterator[tuple[RetrieverProcess, RetrieverProcess]]:
    logs = [folder / "logs-of-writer", folder / "logs-of-replica"]
    for path in logs:
        path.mkdir()
    small: dict[str, object] = {"seal-vectors": 48, "default-shards": 2}
    writer = RetrieverProcess(folder / "writer", logs[0], small)
    replica = RetrieverProcess(folder / "replica", logs[1], small | {"follow": folder / "writer"})
    try:
        yield writer, replica
    finally:
        await writer.close()
        await replica.close()


def stored(folder: Path) -> dict[str, tuple[int, str]]:
    """What the store itself has."""
    store = FollowedSqliteStore(folder / "writer" / "store.sqlite3")
    try:
        (collection,) = store.all_collections()
        page = store.documents(collection.generation, "", 10 * DOCUMENTS, 2**30)
        return {item.id: (item.receipt.version, item.text) for item in page.documents}
    finally:
        store.close()


async def test_the_writer_is_killed_and_the_replica_has_all_that_it_acknowledged(
    tmp_path: Path,
) -> None:
    writes = Writes()
    async with processes(tmp_path) as (writer, replica):
        for round_ in range(2):
            stub = await writer.start()
            if round_ == 0:
                await create(stub)
                reading = await replica.start()
            running = asyncio.create_task(writes.run(stub))
            await writes.until(400 * (round_ + 1))
            assert await _versions(reading)
            await writer.kill()
            await running
            there = await everything(reading)
            writes.check(there)
            assert there == stored(tmp_path)
            assert await _words(reading) == len(there)
        replica.check_log()


async def test_the_replica_is_killed_again_and_again_and_is_right_each_time(
    tmp_path: Path,
) -> None:
    writes = Writes()
    async with processes(tmp_path) as (writer, replica):
        stub = await writer.start()
        await create(stub)
        running = asyncio.create_task(writes.run(stub))
        for round_ in range(3):
            reading = await replica.start()
            # Strong reads while writes go on: none shows a document as it was before, or misses
            # one that is written again meanwhile.
            for _ in range(10):
                before = dict(writes.acknowledged)
                seen = await _versions(reading)
                kept = before.keys() - writes.deleted
                assert all(seen.get(key, 0) >= before[key] for key in kept)
            await writes.until(300 * (round_ + 1))
            await replica.kill()
        await writer.stop()
        await running
        reading = await replica.start()
        there = await everything(reading)
        writes.check(there)
        assert there == stored(tmp_path)
        assert await _words(reading) == len(there)
        await replica.stop()


async def _versions(stub: Stub) -> dict[str, int]:
    request = search_request(
        vector(1), candidates=10_000, exact=True, consistency=common_pb2.CONSISTENCY_STRONG
    )
    (result,) = (await stub.SearchPassages(request)).results
    return {item.document_id: item.version for item in result.passages}


async def _words(stub: Stub) -> int:
    """How many documents a word finds that all of them have."""
    request = search_request(candidates=10_000, consistency=common_pb2.CONSISTENCY_STRONG)
    request.queries.add(lexical="text")
    response = await stub.SearchPassages(request)
    assert not response.missing_lexical_shards
    return len(response.results[0].lexical)
