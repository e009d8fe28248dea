"""Positions over one long stream: as the retriever answers, and as the gateway asks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from gateway.backends import Retriever
from services.retriever.__main__ import wire
from services.retriever.settings import RetrieverSettings
from services.runtime.server import serve
from sirdar.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable, from_status
from sirdar.v1 import retriever_pb2 as pb
from sirdar.v1 import retriever_pb2_grpc
from tests.rpc.retriever_calls import connect, create, document_write, retriever, write

QUESTION = pb.GetPositionRequest(collection="books")


async def read(call: Any) -> pb.StreamPositionsResponse:
    response: pb.StreamPositionsResponse = await asyncio.wait_for(call.read(), 20)
    return response


def asked(collection: str, **more: Any) -> pb.StreamPositionsRequest:
    return pb.StreamPositionsRequest(request=pb.GetPositionRequest(collection=collection), **more)


async def test_a_stream_answers_in_order_and_an_error_does_not_end_it(tmp_path: Path) -> None:
    async with retriever(tmp_path) as stub:
        await create(stub, shards=2)
        call = stub.StreamPositions()
        await call.write(asked("books"))
        await call.write(asked("none"))
        await call.write(asked("books", timeout=Duration(seconds=-1)))
        first, second, third = [await read(call) for _ in range(3)]
        await write(stub, document_write("a"))
        await call.write(asked("books", timeout=Duration(seconds=5)))
        fourth = await read(call)
        assert fourth.response == await stub.GetPosition(QUESTION)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert sum(first.response.committed_seqs) == 0
    assert isinstance(from_status(second.error), NotFound)
    refused = from_status(third.error)
    assert isinstance(refused, InvalidArgument)
    assert "timeout" in refused.message
    assert sum(fourth.response.committed_seqs) == 1


async def test_a_retriever_that_stops_ends_its_streams(tmp_path: Path) -> None:
    settings = RetrieverSettings(data_folder=tmp_path, port=0, metrics_port=None)
    async with serve("retriever", settings, wire) as server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        stub = connect(channel)
        await create(stub)
        call = stub.StreamPositions()
        await call.write(asked("books"))
        await call.read()
        ended = asyncio.ensure_future(call.read())
    # Not cut off when the time to drain was over.
    assert await asyncio.wait_for(ended, 20) is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    await channel.close()


class Counting(retriever_pb2_grpc.RetrieverServiceServicer):
    """Answers as it is told to, and counts streams and calls."""

    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.streams = 0
        self.calls = 0
        self.arrived = asyncio.Event()

    async def GetPosition(self, request: pb.GetPositionRequest, context: Any) -> Any:
        self.calls += 1
        return pb.GetPositionResponse(identity="by call")

    async def StreamPositions(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        self.streams += 1
        if self.behaviour == "older":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        async for _ in requests:
            self.arrived.set()
            if self.behaviour == "ends":
                return
            if self.behaviour == "hangs":
                await asyncio.sleep(60)
            yield pb.StreamPositionsResponse(response=pb.GetPositionResponse(identity="by stream"))


@asynccontextmanager
async def asking(servicer: Counting) -> AsyncIterator[Retriever]:
    server = grpc.aio.server()
    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    backend = Retriever([f"127.0.0.1:{port}"], 2**20, None)
    try:
        yield backend
    finally:
        await backend.close()
        await server.stop(None)


async def identity(backend: Retriever, seconds: float = 20.0) -> str:
    answer = await backend.call(backend.rpc.GetPosition, QUESTION, seconds)
    return answer.identity


async def test_many_questions_are_one_stream() -> None:
    servicer = Counting("answers")  # type: ignore[abstract]
    async with asking(servicer) as backend:
        found = await asyncio.gather(*(identity(backend) for _ in range(50)))
    assert set(found) == {"by stream"}
    assert (servicer.streams, servicer.calls) == (1, 0)


async def test_an_older_retriever_is_called_and_not_asked_for_a_stream_each_time() -> None:
    servicer = Counting("older")  # type: ignore[abstract]
    async with asking(servicer) as backend:
        assert [await identity(backend) for _ in range(5)] == ["by call"] * 5
    assert (servicer.streams, servicer.calls) == (1, 5)


async def test_a_question_whose_stream_ends_is_called() -> None:
    servicer = Counting("ends")  # type: ignore[abstract]
    async with asking(servicer) as backend:
        assert await identity(backend) == "by call"
        servicer.behaviour = "answers"
        assert await identity(backend) == "by stream"


async def test_a_stream_that_hangs_is_left_for_a_new_one() -> None:
    servicer = Counting("hangs")  # type: ignore[abstract]
    async with asking(servicer) as backend:
        with pytest.raises(DeadlineExceeded):
            await identity(backend, 0.05)
        servicer.behaviour = "answers"
        assert await identity(backend) == "by stream"
    assert servicer.streams == 2


async def test_who_is_cancelled_takes_nobodys_answer() -> None:
    servicer = Counting("hangs")  # type: ignore[abstract]
    async with asking(servicer) as backend:
        first = asyncio.create_task(identity(backend))
        await asyncio.wait_for(servicer.arrived.wait(), 20)
        first.cancel()
        servicer.behaviour = "answers"
        # It is behind the first on a stream that hangs.
        with pytest.raises(DeadlineExceeded):
            await identity(backend, 0.05)
        assert await identity(backend) == "by stream"


async def test_a_retriever_that_is_away_is_asked_again_when_it_is_back(tmp_path: Path) -> None:
    settings = RetrieverSettings(data_folder=tmp_path, port=0, metrics_port=None)
    async with serve("retriever", settings, wire) as server:
        port = server.port
        backend = Retriever([f"127.0.0.1:{port}"], 2**20, None)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await create(connect(channel))
        before = await identity(backend)
    with pytest.raises(Unavailable):
        await identity(backend)
    async with serve("retriever", settings.model_copy(update={"port": port}), wire):
        async with asyncio.timeout(30):
            while True:
                try:
                    after = await identity(backend)
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
        await backend.close()
    assert after != before
