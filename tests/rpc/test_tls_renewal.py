"""TLS certificates that are renewed while processes run."""

import asyncio
import socket
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
import structlog
import trustme

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime import renewed_channel
from services.runtime.channel import ClientTls, open_channel
from services.runtime.server import TierServer, serve
from services.runtime.settings import ServerSettings
from sirdar.v1 import embedder_pb2, embedder_pb2_grpc
from tests.rpc.tier_doubles import EmbedderDouble, RetrieverDouble, serving_tiers, wire_embedder


class MountedSecret:
    """Files as Kubernetes mounts them: links into a folder that is swapped for another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions = 0
        self.certificate, self.key, self.authority = (
            folder / name for name in ("tls.crt", "tls.key", "ca.crt")
        )
        self.renew()
        for file in (self.certificate, self.key, self.authority):
            file.symlink_to(Path("..data") / file.name)

    def renew(self, *, torn: bool = False) -> None:
        """A new authority and a new certificate; `torn`: with a key of another one."""
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self._versions += 1
        version = self._folder / f"..{self._versions}"
        version.mkdir()
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        other = authority.issue_cert("127.0.0.1") if torn else issued
        (version / "tls.crt").write_bytes(chain)
        (version / "tls.key").write_bytes(other.private_key_pem.bytes())
        (version / "ca.crt").write_bytes(authority.cert_pem.bytes())
        link = self._folder / "..new"
        link.symlink_to(version.name)
        link.replace(self._folder / "..data")

    def client(self, *, of_now: bool = False) -> ClientTls:
        """Who calls with these files; `of_now`: with what they are now for ever."""
        files = (self.authority, self.certificate, self.key)
        authority, certificate, key = (file.resolve() for file in files) if of_now else files
        return ClientTls(authority, certificate, key)


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path)


def settings(secret: MountedSecret) -> ServerSettings:
    return ServerSettings(
        tls_certificate_file=secret.certificate,
        tls_key_file=secret.key,
        tls_client_ca_file=secret.authority,
    )


def stub_of(
    server: TierServer, tls: ClientTls
) -> tuple[grpc.aio.Channel, "embedder_pb2_grpc.EmbedderServiceAsyncStub"]:
    channel = open_channel(f"127.0.0.1:{server.port}", max_message_bytes=2**20, tls=tls)
    return channel, embedder_pb2_grpc.EmbedderServiceStub(channel)  # type: ignore[return-value]


async def failed(stub: "embedder_pb2_grpc.EmbedderServiceAsyncStub") -> bool:
    try:
        await stub.EmbedTexts(embedder_pb2.EmbedTextsRequest(texts=["hello"]), timeout=5)
    except grpc.RpcError:
        return True
    return False


async def test_calls_go_on_over_renewed_certificates_of_both_sides(
    secret: MountedSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewed_channel, "_LOOK_SECONDS", 0.0)
    async with serve("double", settings(secret), wire_embedder) as server:
        channel, stub = stub_of(server, secret.client())
        issued_before = secret.client(of_now=True)
        for _ in range(4):
            calls = [asyncio.ensure_future(failed(stub)) for _ in range(20)]
            await asyncio.sleep(0.02)
            secret.renew()
            assert not any(await asyncio.gather(*calls))
            assert not await failed(stub)
        # What was issued before is good for nothing any more.
        old_channel, old_stub = stub_of(server, issued_before)
        assert await failed(old_stub)
        await old_channel.close()
        await channel.close()


async def test_files_that_do_not_belong_together_leave_those_before_in_place(
    secret: MountedSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewed_channel, "_LOOK_SECONDS", 0.0)
    async with serve("double", settings(secret), wire_embedder) as server:
        channel, stub = stub_of(server, secret.client())
        good_before = secret.client(of_now=True)
        assert not await failed(stub)
        secret.renew(torn=True)
        with structlog.testing.capture_logs() as logs:
            assert not await failed(stub)
            new_channel, new_stub = stub_of(server, good_before)
            assert not await failed(new_stub)
            await new_channel.close()
        said = [entry["log_level"] for entry in logs if "cannot be used" in entry["event"]]
        assert said == ["error", "error"], "the caller's and the server's, once each"
        secret.renew()
        assert not await failed(stub)
        await channel.close()


async def test_http_serves_the_renewed_certificate(secret: MountedSecret) -> None:
    async with serving_tiers(EmbedderDouble(), RetrieverDouble()) as (embedder, retriever):
        asked = GatewaySettings(
            port=0,
            metrics_port=None,
            http_port=0,
            embedder_address=embedder,
            retriever_addresses=(retriever,),
            tls_certificate_file=secret.certificate,
            tls_key_file=secret.key,
        )
        async with serve("gateway", asked, wire) as server:
            port = server.beside[0].port
            for _ in range(3):
                trust = ssl.create_default_context(cafile=secret.authority)
                async with httpx.AsyncClient(verify=trust, trust_env=False) as client:
                    answer = await client.get(f"https://127.0.0.1:{port}/healthz")
                    assert answer.status_code == 200
                secret.renew()


async def test_http_refuses_who_was_certified_before(secret: MountedSecret) -> None:
    async with serving_tiers(EmbedderDouble(), RetrieverDouble()) as (embedder, retriever):
        asked = GatewaySettings(
            port=0,
            metrics_port=None,
            http_port=0,
            embedder_address=embedder,
            retriever_addresses=(retriever,),
            tls_certificate_file=secret.certificate,
            tls_key_file=secret.key,
            tls_client_ca_file=secret.authority,
        )
        async with serve("gateway", asked, wire) as server:
            port = server.beside[0].port
            caller = calling(secret)
            before, session = await asyncio.to_thread(visit, port, caller)
            assert before.startswith(b"HTTP/1.1 200")
            secret.renew()
            caller.load_verify_locations(secret.authority)
            # Of its session, too, nothing is left.
            for resumed in (None, session):
                with pytest.raises(OSError):
                    await asyncio.to_thread(visit, port, caller, resumed)
            after, _ = await asyncio.to_thread(visit, port, calling(secret))
            assert after.startswith(b"HTTP/1.1 200")


def calling(secret: MountedSecret) -> ssl.SSLContext:
    """Of a caller with the certificate of now."""
    made = ssl.create_default_context(cafile=secret.authority)
    made.load_cert_chain(secret.certificate, secret.key)
    return made


def visit(
    port: int, caller: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bytes, ssl.SSLSession | None]:
    """What HTTP answers, and the session. Raises OSError for whoever is refused."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        caller.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = connection.recv(4096)
        if not answer:
            raise ConnectionResetError("nothing was answered")
        return answer, connection.session
