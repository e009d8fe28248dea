"""WatchShards: who routes calls is told what there is, what changes, and when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.retriever import watching
from services.retriever.__main__ import wire
from services.retriever.announcements import Announcements
from services.retriever.catalog import Catalog
from services.retriever.opening import open_retriever
from services.retriever.settings import RetrieverSettings
from services.runtime.drain import Drain
from services.runtime.server import TierServer, serve
from sirdar.errors import ResourceExhausted
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.replica_calls import paired
from tests.rpc.retriever_calls import Stub, connect, create, document_write, retriever, write

READY, DRAINING = pb.SHARD_STATE_READY, pb.SHARD_STATE_DRAINING
Picture = dict[tuple[str, int], pb.ShardAnnouncement]


class Watch:
    """A stream, and all that it has said so far."""

    def __init__(self, stub: Stub) -> None:
        self.stream = stub.WatchShards(pb.WatchShardsRequest())
        self.picture: Picture = {}
        self.messages: list[pb.WatchShardsResponse] = []

    async def read(self) -> bool:
        """Whether there was another message."""
        message: Any = await self.stream.read()
        if message is grpc.aio.EOF:
            return False
        self.messages.append(message)
        for shard in message.shards:
            key = (shard.collection, shard.shard)
            if shard.state == pb.SHARD_STATE_GONE:
                del self.picture[key]
            else:
                self.picture[key] = shard
        return True

    async def until_ready(self, collection: str, *, writes: int = 0) -> None:
        while not self._shows(collection, writes):
            assert await self.read()

    def _shows(self, collection: str, writes: int) -> bool:
        shards = [item for (name, _), item in self.picture.items() if name == collection]
        seen = sum(item.applied_seq for item in shards)
        return bool(shards) and all(item.state == READY for item in shards) and seen == writes


@asynccontextmanager
async def stoppable(folder: Path) -> AsyncIterator[tuple[TierServer, Stub]]:
    settings = RetrieverSettings(data_folder=folder, port=0, metrics_port=None)
    async with (
        serve("retriever", settings, wire) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield server, connect(channel)


async def test_what_there_is_comes_first_and_then_what_changes(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub, "books", shards=2)
        await write(stub, document_write("a"), document_write("b"))
        watch = Watch(stub)
        await watch.read()
        assert {key: item.shards for key, item in watch.picture.items()} == {
            ("books", 0): 2,
            ("books", 1): 2,
        }
        await watch.until_ready("books", writes=2)
        assert all(message.accepts_writes for message in watch.messages)
        said = len(watch.messages)
        await write(stub, document_write("c"))
        await watch.until_ready("books", writes=3)
        (changed,) = (shard for message in watch.messages[said:] for shard in message.shards)
        assert changed.state == READY
        await create(stub, "others", shards=3)
        await watch.until_ready("others")
        assert len(watch.picture) == 5
        await stub.DeleteCollection(pb.RetrieverServiceDeleteCollectionRequest(name="books"))
        while len(watch.picture) > 3:
            await watch.read()
        assert {name for name, _ in watch.picture} == {"others"}


async def test_nothing_new_is_said_by_a_heartbeat(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        watch = Watch(stub)
        for _ in range(2):
            assert await watch.read()
        assert [list(message.shards) for message in watch.messages] == [[], []]


async def test_a_replica_says_what_it_has_and_takes_no_writes(tmp_path: Path) -> None:
    async with paired(tmp_path) as pair:
        watch = Watch(pair.replica)
        await create(pair.writer, "books", shards=2)
        await write(pair.writer, document_write("a"))
        await watch.until_ready("books", writes=1)
        assert not any(message.accepts_writes for message in watch.messages)


async def test_a_server_that_drains_says_so_and_ends_the_stream(tmp_path: Path) -> None:
    async with stoppable(tmp_path) as (server, stub):
        await create(stub, "books", shards=2)
        watch = Watch(stub)
        await watch.until_ready("books")
        stopping = asyncio.create_task(server.stop())
        while await watch.read():
            pass
        await stopping
        assert await watch.stream.code() is grpc.StatusCode.OK
        assert [item.state for item in watch.picture.values()] == [DRAINING, DRAINING]


@asynccontextmanager
async def announced(folder: Path) -> AsyncIterator[tuple[Announcements, Catalog]]:
    settings = RetrieverSettings(data_folder=folder, port=0, metrics_port=None)
    async with open_retriever(settings) as opened:
        yield Announcements(opened.catalog, Drain()), opened.catalog


async def test_who_does_not_read_finds_what_happened_meanwhile_as_one(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub, "books", shards=1)
    async with announced(tmp_path) as (announcements, catalog):
        stream = announcements.watch()
        (key,) = await anext(stream)
        (shard,) = catalog.get("default", "books").shards
        for seq in range(1, 501):
            shard.ready(seq)
        (news,) = (await anext(stream)).values()
        assert (key.shard, news.applied_seq) == (0, 500)
        assert await anext(stream) == {}
        await stream.aclose()


async def test_too_many_watchers_are_refused_and_those_who_leave_make_room(tmp_path: Path) -> None:
    async with announced(tmp_path) as (announcements, _):
        streams = [announcements.watch() for _ in range(256)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(ResourceExhausted):
            await anext(announcements.watch())
        await streams.pop().aclose()
        await anext(one_more := announcements.watch())
        for stream in [*streams, one_more]:
            await stream.aclose()


async def test_a_large_picture_comes_in_parts_that_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_MAX_SHARDS", 3)
    async with retriever(tmp_path) as stub:
        await create(stub, "books", shards=7)
        watch = Watch(stub)
        for _ in range(3):
            await watch.read()
        await watch.until_ready("books")
        first = watch.messages[:3]
        assert [(len(message.shards), message.more) for message in first] == [
            (3, True),
            (3, True),
            (1, False),
        ]
        await write(stub, *(document_write(f"d{at}") for at in range(50)))
        await watch.until_ready("books", writes=50)
        assert not any(message.more for message in watch.messages[3:])
