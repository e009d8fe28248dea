"""What every tier does the same: readiness, errors, request ids, metrics, draining."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from services.runtime.deadline import remaining_seconds
from services.runtime.interceptors import CALLER, caller, request_id
from services.runtime.server import LIVENESS, TierServer, serve
from services.runtime.settings import ServerSettings, server_config
from sirdar.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SirdarError,
    Unavailable,
    from_rpc_error,
)
from sirdar.v1 import common_pb2, embedder_pb2, embedder_pb2_grpc

SERVICE = "sirdar.v1.EmbedderService"


class ProbeSettings(ServerSettings):
    model_config = server_config("probe")


class Probe(embedder_pb2_grpc.EmbedderServiceServicer):
    """A service that does what the first text says."""

    def __init__(self, server: TierServer) -> None:
        self._server = server
        self.remaining: float | None = None
        self.request_id = ""
        self.caller = ""

    async def EmbedTexts(self, request: Any, context: Any) -> Any:
        word = request.texts[0]
        if word == "bad":
            raise InvalidArgument.field("texts[0]", "must not be bad")
        if word == "long":
            raise NotFound(
                f"no model {'ü' * 50_000}", reason="NO_MODEL", metadata={"model": "ü" * 50_000}
            )
        if word == "long field":
            raise InvalidArgument.field("ü" * 50_000, "ü" * 50_000)
        if word == "busy":
            raise ResourceExhausted("full", retry_after=timedelta(milliseconds=40))
        if word == "fault":
            raise ZeroDivisionError("secret")
        if word == "slow":
            await asyncio.sleep(0.3)
        self.remaining = remaining_seconds()
        self.request_id = request_id()
        self.caller = caller()
        return embedder_pb2.EmbedTextsResponse()

    async def StreamEmbedTexts(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in self._server.drain.requests(requests):
            if request.request.texts[0] == "bad":
                raise InvalidArgument("bad stream")
            yield embedder_pb2.StreamEmbedTextsResponse(response=embedder_pb2.EmbedTextsResponse())
        if self._server.drain.draining:
            yield embedder_pb2.StreamEmbedTextsResponse(shutting_down=common_pb2.ShuttingDown())


class Tier:
    """A probe tier whose start can be held back."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.listening = asyncio.Event()
        self.probe: Probe | None = None
        self.server: TierServer | None = None

    @asynccontextmanager
    async def wire(self, settings: ProbeSettings, server: TierServer) -> AsyncIterator[None]:
        self.server = server
        self.listening.set()
        await self.ready.wait()
        self.probe = Probe(server)  # type: ignore[abstract]
        server.register(
            embedder_pb2_grpc.add_EmbedderServiceServicer_to_server, self.probe, SERVICE
        )
        yield


def embedder(channel: grpc.aio.Channel) -> "embedder_pb2_grpc.EmbedderServiceAsyncStub":
    stub: Any = embedder_pb2_grpc.EmbedderServiceStub(channel)
    return stub  # type: ignore[no-any-return]


def texts(word: str) -> embedder_pb2.EmbedTextsRequest:
    return embedder_pb2.EmbedTextsRequest(texts=[word])


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Tier, grpc.aio.Channel]]:
    tier = Tier()
    async with (
        serve("probe", ProbeSettings(), tier.wire) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield tier, channel


async def test_calls_wait_for_readiness_and_health_says_so() -> None:
    tier = Tier()
    tier.ready.clear()
    starting = serve("probe", ProbeSettings(), tier.wire)
    entered = asyncio.create_task(starting.__aenter__())
    await tier.listening.wait()
    assert tier.server is not None
    async with grpc.aio.insecure_channel(f"127.0.0.1:{tier.server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        stub = embedder(channel)
        with pytest.raises(grpc.RpcError) as refused:
            await stub.EmbedTexts(texts("hello"))
        error = from_rpc_error(refused.value)
        assert isinstance(error, Unavailable)
        assert error.reason == "STARTING"

        tier.ready.set()
        await entered
        await stub.EmbedTexts(texts("hello"))
        for service in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await starting.__aexit__(None, None, None)


async def test_errors_carry_reason_fields_and_pushback() -> None:
    async with running() as (_, channel):
        stub = embedder(channel)
        with pytest.raises(grpc.RpcError) as bad:
            await stub.EmbedTexts(texts("bad"))
        error = from_rpc_error(bad.value)
        assert isinstance(error, InvalidArgument)
        assert [field.field for field in error.fields] == ["texts[0]"]

        with pytest.raises(grpc.aio.AioRpcError) as busy:
            await stub.EmbedTexts(texts("busy"))
        error = from_rpc_error(busy.value)
        assert isinstance(error, ResourceExhausted)
        assert error.retry_after == timedelta(milliseconds=40)
        assert ("grpc-retry-pushback-ms", "40") in tuple(busy.value.trailing_metadata())


@pytest.mark.parametrize(("word", "kind"), [("long", NotFound), ("long field", InvalidArgument)])
async def test_an_error_that_repeats_what_the_caller_sent_arrives(
    word: str, kind: type[SirdarError]
) -> None:
    """gRPC drops a call whose trailers are larger than 8 to 16 KB."""
    async with running() as (_, channel):
        with pytest.raises(grpc.RpcError) as failed:
            await embedder(channel).EmbedTexts(texts(word))
        error = from_rpc_error(failed.value)
        assert type(error) is kind
        assert error.message.endswith(" ...")
        assert error.fields or error.reason == "NO_MODEL"


async def test_a_fault_is_internal_and_keeps_its_secret() -> None:
    async with running() as (_, channel):
        stub = embedder(channel)
        with pytest.raises(grpc.RpcError) as fault:
            await stub.EmbedTexts(texts("fault"), metadata=(("x-request-id", "abc"),))
        error = from_rpc_error(fault.value)
        assert isinstance(error, Internal)
        assert "abc" in error.message
        assert "secret" not in error.message


async def test_deadline_and_request_id_reach_the_handler() -> None:
    async with running() as (tier, channel):
        stub = embedder(channel)
        call = stub.EmbedTexts(texts("hello"), timeout=5, metadata=(("x-request-id", "abc"),))
        await call
        assert tier.probe is not None
        assert tier.probe.request_id == "abc"
        assert tier.probe.remaining is not None
        assert 4 < tier.probe.remaining < 6
        assert ("x-request-id", "abc") in tuple(await call.trailing_metadata())
        await stub.EmbedTexts(texts("hello"))
        assert tier.probe.remaining is None


async def test_a_caller_is_who_it_says_or_its_connection() -> None:
    async with running() as (tier, channel):
        stub = embedder(channel)
        await stub.EmbedTexts(texts("hello"), metadata=((CALLER, "acme"),))
        assert tier.probe is not None
        assert tier.probe.caller == "acme"
        await stub.EmbedTexts(texts("hello"))
        assert tier.probe.caller.startswith("ipv4:127.0.0.1:")


async def test_liveness_follows_progress_and_not_the_drain() -> None:
    stuck_seconds = 0.0
    tier = Tier()
    settings = ProbeSettings(stuck_seconds=5, drain_notice_seconds=5)
    starting = serve("probe", settings, tier.wire)
    server = await starting.__aenter__()
    server.stuck.append(lambda: stuck_seconds)
    alive, hung = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def becomes(service: str, status: int) -> None:
            async for answer in health.Watch(health_pb2.HealthCheckRequest(service=service)):
                if answer.status == status:
                    return

        await asyncio.wait_for(becomes(LIVENESS, alive), 20)
        stuck_seconds = 6.0
        await asyncio.wait_for(becomes(LIVENESS, hung), 20)
        await asyncio.wait_for(becomes("", alive), 20)  # traffic is another question
        stuck_seconds = 0.0
        await asyncio.wait_for(becomes(LIVENESS, alive), 20)
        stopping = asyncio.create_task(starting.__aexit__(None, None, None))
        await asyncio.wait_for(becomes("", hung), 20)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=LIVENESS))
        assert answer.status == alive
    await stopping


async def test_calls_are_counted_by_code() -> None:
    def count(code: str) -> float:
        labels = {"tier": "probe", "service": SERVICE, "method": "EmbedTexts", "code": code}
        return REGISTRY.get_sample_value("sirdar_grpc_requests_total", labels) or 0.0

    before = count("OK"), count("INVALID_ARGUMENT")
    async with running() as (_, channel):
        stub = embedder(channel)
        await stub.EmbedTexts(texts("hello"))
        with pytest.raises(grpc.RpcError):
            await stub.EmbedTexts(texts("bad"))
    assert (count("OK") - before[0], count("INVALID_ARGUMENT") - before[1]) == (1.0, 1.0)


async def test_draining_ends_streams_and_finishes_calls_in_flight() -> None:
    tier = Tier()
    running_server = serve("probe", ProbeSettings(), tier.wire)
    server = await running_server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = embedder(channel)
        stream: Any = stub.StreamEmbedTexts()
        await stream.write(embedder_pb2.StreamEmbedTextsRequest(request=texts("one")))
        assert (await stream.read()).HasField("response")
        slow = asyncio.create_task(_finish(stub.EmbedTexts(texts("slow"))))
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(running_server.__aexit__(None, None, None))
        assert (await stream.read()).HasField("shutting_down")
        assert await stream.read() is grpc.aio.EOF
        assert isinstance(await slow, embedder_pb2.EmbedTextsResponse)
        await stopping


async def test_a_draining_server_gives_notice_once() -> None:
    began = time.monotonic()
    async with serve("probe", ProbeSettings(drain_notice_seconds=0.5), Tier().wire):
        pass
    assert 0.5 <= time.monotonic() - began < 0.9


async def test_a_tier_that_cannot_start_ends_without_notice() -> None:
    @asynccontextmanager
    async def wire(settings: ProbeSettings, server: TierServer) -> AsyncIterator[None]:
        raise FailedPrecondition("no model")
        yield

    began = time.monotonic()
    with pytest.raises(FailedPrecondition):
        async with serve("probe", ProbeSettings(drain_notice_seconds=0.5), wire):
            pass
    assert time.monotonic() - began < 0.4


async def _finish(call: Any) -> Any:
    return await call


async def test_a_failing_stream_ends_with_a_typed_error() -> None:
    async with running() as (_, channel):
        stream = embedder(channel).StreamEmbedTexts()
        await stream.write(embedder_pb2.StreamEmbedTextsRequest(request=texts("bad")))
        with pytest.raises(grpc.RpcError) as failed:
            await stream.read()
        assert isinstance(from_rpc_error(failed.value), InvalidArgument)


async def test_reflection_and_channelz_answer() -> None:
    async with running() as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        stream = stub.ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await stream.read()
        names = {service.name for service in answer.list_services_response.service}
        assert SERVICE in names
        stream.cancel()
        servers = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(
            channelz_pb2.GetServersRequest()
        )
        assert len(servers.server) >= 1


async def test_a_taken_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = ProbeSettings(port=taken.getsockname()[1])
        with pytest.raises(FailedPrecondition) as refused:
            async with serve("probe", settings, Tier().wire):
                pass
    assert refused.value.reason == "PORT_TAKEN"
