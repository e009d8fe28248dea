"""TLS and mutual TLS: from a client to the gateway and from the gateway to the tiers."""

from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.__main__ import wire
from gateway.settings import GatewaySettings
from services.runtime.channel import ClientTls, open_channel
from services.runtime.server import LIVENESS, serve
from services.runtime.settings import ServerSettings
from sirdar.client import AsyncClient, Tls
from sirdar.errors import FailedPrecondition, Unavailable
from sirdar.v1 import embedder_pb2, embedder_pb2_grpc
from tests.rpc.tier_doubles import EmbedderDouble, RetrieverDouble, serving_tiers, wire_embedder


class Certificates:
    """An authority, and what it issued, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority = folder / "ca.pem"
        self.certificate = folder / "certificate.pem"
        self.key = folder / "key.pem"
        issued = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(str(self.authority))
        for part in issued.cert_chain_pems:
            part.write_to_path(str(self.certificate), append=True)
        issued.private_key_pem.write_to_path(str(self.key))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def test_a_client_reaches_a_gateway_over_tls(certificates: Certificates) -> None:
    async with serving_tiers(EmbedderDouble(), RetrieverDouble()) as (embedder, retriever):
        settings = GatewaySettings(
            port=0,
            metrics_port=None,
            http_port=None,
            embedder_address=embedder,
            retriever_addresses=(retriever,),
            tls_certificate_file=certificates.certificate,
            tls_key_file=certificates.key,
        )
        async with serve("gateway", settings, wire) as server:
            address = f"127.0.0.1:{server.port}"
            async with AsyncClient(address, tls=Tls(ca_file=certificates.authority)) as client:
                assert len(await client.search("notes", "question")) == 3
            async with AsyncClient(address, timeout_seconds=2) as plain:
                with pytest.raises(Unavailable):
                    await plain.search("notes", "question")


async def test_a_tier_that_wants_certificates_refuses_who_has_none(
    certificates: Certificates,
) -> None:
    settings = ServerSettings(
        tls_certificate_file=certificates.certificate,
        tls_key_file=certificates.key,
        tls_client_ca_file=certificates.authority,
    )
    request = embedder_pb2.EmbedTextsRequest(texts=["hello"])
    async with serve("double", settings, wire_embedder) as server:
        for own, welcome in ((certificates.certificate, True), (None, False)):
            tls = ClientTls(certificates.authority, own, certificates.key if own else None)
            channel = open_channel(f"127.0.0.1:{server.port}", max_message_bytes=2**20, tls=tls)
            stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = (
                embedder_pb2_grpc.EmbedderServiceStub(channel)  # type: ignore[assignment]
            )
            if welcome:
                await stub.EmbedTexts(request, timeout=5)
            else:
                with pytest.raises(grpc.RpcError):
                    await stub.EmbedTexts(request, timeout=5)
            await channel.close()


async def test_health_is_told_without_tls_at_a_port_of_its_own(certificates: Certificates) -> None:
    settings = ServerSettings(
        health_port=0,
        tls_certificate_file=certificates.certificate,
        tls_key_file=certificates.key,
        tls_client_ca_file=certificates.authority,
    )
    async with serve("double", settings, wire_embedder) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", LIVENESS):
                asked = health_pb2.HealthCheckRequest(service=service)
                answer = await health.Check(asked, timeout=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = (
                embedder_pb2_grpc.EmbedderServiceStub(channel)  # type: ignore[assignment]
            )
            with pytest.raises(grpc.RpcError) as refused:
                await stub.EmbedTexts(embedder_pb2.EmbedTextsRequest(texts=["a"]), timeout=5)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        taken = ServerSettings(health_port=server.health_port)
        with pytest.raises(FailedPrecondition, match="health_port"):
            async with serve("double", taken, wire_embedder):
                pass


@pytest.mark.parametrize("missing", ["tls_key_file", "tls_certificate_file", "both"])
async def test_half_of_a_tls_setting_is_refused(certificates: Certificates, missing: str) -> None:
    files = {
        "tls_certificate_file": certificates.certificate,
        "tls_key_file": certificates.key,
        "tls_client_ca_file": certificates.authority,
    }
    if missing == "both":
        del files["tls_key_file"], files["tls_certificate_file"]
    else:
        del files[missing]
    with pytest.raises(FailedPrecondition, match="tls_certificate_file and tls_key_file"):
        async with serve("double", ServerSettings.model_validate(files), wire_embedder):
            pass


async def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    settings = ServerSettings(
        tls_certificate_file=tmp_path / "none.pem", tls_key_file=tmp_path / "none.key"
    )
    with pytest.raises(FailedPrecondition, match=r"none\.key"):
        async with serve("double", settings, wire_embedder):
            pass
