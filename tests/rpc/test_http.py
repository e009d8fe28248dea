"""The gateway's HTTP API: the same answers and errors as over gRPC."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from gateway.__main__ import wire
from gateway.http.bodies import MAX_JSON_BYTES
from gateway.http.proto_json import load_json
from gateway.http.server import HttpServer
from gateway.settings import GatewaySettings
from services.runtime.server import serve
from sirdar.errors import FailedPrecondition, ResourceExhausted, Unavailable
from sirdar.v1.search_pb2 import SearchRequest
from tests.rpc.gateway_http import problem_of, running_http
from tests.rpc.test_tls import Certificates
from tests.rpc.tier_doubles import EmbedderDouble, RetrieverDouble, serving_tiers


async def test_get_and_post_search_answer_alike() -> None:
    async with running_http() as gateway:
        got = await gateway.http.get("/search", params={"q": "x", "collection": "notes"})
        posted = await gateway.http.post("/search", json={"query": "x", "collection": "notes"})
        assert got.status_code == posted.status_code == 200
        results = got.json()["results"]
        assert [item["document_id"] for item in results] == ["b", "a", "c"]
        assert results == posted.json()["results"]
        # The contract's names, and fields of no value are there.
        assert results[0]["matched_passages"] == 1
        assert results[0]["title"] == ""


async def test_parameters_reach_the_fields_of_the_contract() -> None:
    async with running_http() as gateway:
        query = {"q": "x", "collection": "notes", "top_k": "1", "exact": "true"}
        answer = await gateway.http.get("/search", params={**query, "rerank.depth": "5"})
        assert len(answer.json()["results"]) == 1


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("collection=notes", "query", "INVALID_ARGUMENT"),
        ("q=x", "collection", "INVALID_ARGUMENT"),
        ("q=x&collection=notes&top_k=0", "top_k", "INVALID_ARGUMENT"),
        ("q=x&collection=notes&top_k=many", "top_k", "BAD_JSON"),
        ("q=x&collection=notes&top_k=1&top_k=2", "top_k", "INVALID_ARGUMENT"),
        ("q=x&collection=notes&exact=perhaps", "exact", "INVALID_ARGUMENT"),
        ("q=x&collection=notes&consistency=SOON", "consistency", "BAD_JSON"),
        ("q=x&collection=notes&topk=1", "topk", "UNKNOWN_FIELD"),
        ("q=x&collection=notes&rerank=1", "rerank", "UNKNOWN_FIELD"),
        ("q=%00&collection=notes", "query", "INVALID_ARGUMENT"),
    ],
)
async def test_a_bad_parameter_is_named(query: str, field: str, reason: str) -> None:
    async with running_http() as gateway:
        answer = await gateway.http.get(f"/search?{query}")
        assert problem_of(answer) == (400, reason)
        assert [each["field"] for each in answer.json()["fields"]] == [field]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b'{"quer": "x"}', "quer"),
        (b'{"query": 1}', "query"),
        (b'{"query": "\\ud800"}', "query"),
        (b'{"rerank": {"depth": "deep"}}', "rerank.depth"),
        (b'{"rerank": {"dept": 1}}', "rerank.dept"),
        (b'{"top_k": 9999999999}', "top_k"),
    ],
)
async def test_a_bad_body_is_named(body: bytes, field: str) -> None:
    async with running_http() as gateway:
        answer = await gateway.http.post(
            "/search", content=body, headers={"content-type": "application/json"}
        )
        assert problem_of(answer)[0] == 400
        assert [each["field"] for each in answer.json()["fields"]] == [field]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/search"), ("POST", "/collections"), ("PATCH", "/collections/notes")],
)
async def test_a_parameter_beside_a_body_is_refused_and_not_passed_over(
    method: str, path: str
) -> None:
    async with running_http() as gateway:
        answer = await gateway.http.request(method, f"{path}?namespace=other", json={})
        assert problem_of(answer) == (400, "UNKNOWN_FIELD")
        assert [each["field"] for each in answer.json()["fields"]] == ["namespace"]


async def test_a_deletion_by_its_path_deletes_that_alone() -> None:
    async with running_http() as gateway:
        answer = await gateway.http.delete("/collections/notes/documents/a?document_ids=b")
        assert problem_of(answer)[0] == 400
        assert [each["field"] for each in answer.json()["fields"]] == ["document_ids"]


async def test_other_content_types_are_refused() -> None:
    async with running_http() as gateway:
        for path in ("/search", "/index?collection=notes", "/collections"):
            answer = await gateway.http.post(path, data={"query": "x"})
            assert problem_of(answer) == (415, "UNSUPPORTED_MEDIA_TYPE")
            assert "application/json" in answer.json()["detail"]
        packed = await gateway.http.post("/search", json={}, headers={"content-encoding": "gzip"})
        assert problem_of(packed)[0] == 415


async def test_a_body_over_the_limit_is_refused() -> None:
    async with running_http(max_message_bytes=2**16) as gateway:
        answer = await gateway.http.post("/search", json={"query": "x" * 2**16})
        assert problem_of(answer)[0] == 413
    async with running_http() as gateway:
        for path in ("/search", "/collections"):
            answer = await gateway.http.post(path, json={"query": "x" * MAX_JSON_BYTES})
            assert problem_of(answer)[0] == 413


async def test_other_calls_are_answered_while_a_long_body_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def parse(text: bytes) -> object:
        assert answered.wait(10)
        return load_json(text)

    monkeypatch.setattr("gateway.http.search.load_json", parse)
    async with running_http() as gateway:
        body = b'{"query": "x", "collection": "notes"}' + b" " * 2**17
        kind = {"content-type": "application/json"}
        posted = gateway.http.post("/search", content=body, headers=kind)
        long = asyncio.ensure_future(posted)
        assert (await gateway.http.get("/search?q=x&collection=notes")).status_code == 200
        assert not long.done()
        answered.set()
        assert (await long).status_code == 200


async def test_what_is_not_there_is_a_problem_too() -> None:
    async with running_http() as gateway:
        assert problem_of(await gateway.http.get("/nowhere")) == (404, "NOT_FOUND")
        assert problem_of(await gateway.http.put("/search")) == (405, "METHOD_NOT_ALLOWED")
        answer = await gateway.http.get("/search?q=x&collection=others")
        assert problem_of(answer)[0] == 404


async def test_errors_of_a_tier_keep_reason_and_time_to_retry() -> None:
    async with running_http() as gateway:
        busy = ResourceExhausted("busy", reason="QUEUE", retry_after=timedelta(seconds=1.5))
        gateway.embedder.failures = [busy]
        answer = await gateway.http.get("/search?q=x&collection=notes")
        assert problem_of(answer) == (429, "QUEUE")
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["retry_after_seconds"] == 1.5


async def test_a_fault_of_ours_says_no_more_than_its_request_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(request: SearchRequest) -> int:
        raise RuntimeError("a secret of the house")

    monkeypatch.setattr("gateway.cache.known_requests.read_query", broken)
    async with running_http() as gateway:
        answer = await gateway.http.get("/search?q=x&collection=notes")
        assert problem_of(answer) == (500, "INTERNAL")
        assert "secret" not in answer.text
        assert (await gateway.http.get("/healthz")).status_code == 200


async def test_the_callers_request_id_is_kept_and_an_odd_one_is_not() -> None:
    async with running_http() as gateway:
        answer = await gateway.http.get("/healthz", headers={"x-request-id": "mine"})
        assert answer.headers["x-request-id"] == "mine"
        odd = await gateway.http.get(
            "/search?q=x&collection=notes", headers=[(b"x-request-id", b"\xff\xfe")]
        )
        assert odd.status_code == 200
        assert odd.headers["x-request-id"].isascii()


async def test_the_callers_time_bounds_the_call() -> None:
    async with running_http() as gateway:
        for name, value in (("x-timeout-seconds", "0.000001"), ("grpc-timeout", "1u")):
            answer = await gateway.http.get("/search?q=x&collection=notes", headers={name: value})
            assert problem_of(answer) == (504, "DEADLINE_EXCEEDED")
        for name, value in (("x-timeout-seconds", "soon"), ("grpc-timeout", "5")):
            answer = await gateway.http.get("/healthz", headers={name: value})
            assert problem_of(answer) == (400, "INVALID_ARGUMENT")
            assert answer.json()["fields"][0]["field"] == name


async def test_calls_are_counted_by_route() -> None:
    def counted(route: str, status: str) -> float:
        labels = {"method": "GET", "route": route, "status": status}
        return REGISTRY.get_sample_value("sirdar_http_requests_total", labels) or 0

    async with running_http() as gateway:
        before = counted("/collections/{name}", "404"), counted("unknown", "404")
        await gateway.http.get("/collections/others")
        await gateway.http.get("/a/path/of/its/own")
        assert counted("/collections/{name}", "404") == before[0] + 1
        assert counted("unknown", "404") == before[1] + 1


async def test_ready_needs_the_tiers_and_alive_does_not() -> None:
    async with running_http() as gateway:
        ready = await gateway.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    # A port that nobody listens on.
    async with running_http(embedder_address="127.0.0.1:1") as gateway:
        ready = await gateway.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["tiers"] == {
            "embedder": "NOT_SERVING",
            "retriever": "SERVING",
            "gateway": "SERVING",
        }
        assert (await gateway.http.get("/healthz")).status_code == 200
        assert problem_of(await gateway.http.get("/search?q=x&collection=notes")) == (
            503,
            "EMBEDDER_UNREACHABLE",
        )


async def test_a_stopping_gateway_is_not_ready_and_finishes_what_runs() -> None:
    async with running_http(reranker=True, drain_notice_seconds=0.3) as gateway:
        gateway.embedder.delay_seconds = 0.6
        searching = asyncio.create_task(gateway.http.get("/search?q=x&collection=notes"))
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(gateway.server.stop())
        await asyncio.sleep(0.1)
        assert (await gateway.http.get("/readyz")).status_code == 503
        assert (await gateway.http.get("/healthz")).status_code == 200
        assert (await searching).status_code == 200
        await stopping
        with pytest.raises(httpx.ConnectError):
            await gateway.http.get("/healthz")


async def test_a_taken_port_is_refused_by_name() -> None:
    async with running_http() as gateway:
        with pytest.raises(FailedPrecondition) as refused:
            async with running_http(http_port=gateway.server.beside[0].port):
                pass
        assert refused.value.reason == "PORT_TAKEN"
        assert "http_port" in refused.value.message


async def test_https_has_the_certificate_of_grpc(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    trust = ssl.create_default_context(cafile=certificates.authority)
    async with serving_tiers(EmbedderDouble(), RetrieverDouble()) as (embedder, retriever):
        settings = GatewaySettings(
            port=0,
            http_port=0,
            metrics_port=None,
            embedder_address=embedder,
            retriever_addresses=(retriever,),
            tls_certificate_file=certificates.certificate,
            tls_key_file=certificates.key,
        )
        async with (
            serve("gateway", settings, wire) as server,
            httpx.AsyncClient(verify=trust, trust_env=False) as client,
        ):
            answer = await client.get(f"https://127.0.0.1:{server.beside[0].port}/readyz")
            assert answer.status_code == 200


async def test_answers_do_not_wait_for_the_callers_acknowledgement() -> None:
    """Head and body are two writes; without TCP_NODELAY the second waits 40 ms."""
    async with running_http() as gateway:
        await gateway.http.get("/healthz")
        (server,) = gateway.server.beside
        assert isinstance(server, HttpServer)
        for connection in server._uvicorn.server_state.connections:
            transport: Any = connection.transport
            chosen = transport.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY
            )
            assert chosen == 1
        assert server._uvicorn.server_state.connections


async def test_the_docs_need_no_network() -> None:
    async with running_http() as gateway:
        page = await gateway.http.get("/", follow_redirects=True)
        assert page.status_code == 200
        assert "https://" not in page.text
        for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
            assert f"swagger/{name}" in page.text
            assert (await gateway.http.get(f"/swagger/{name}")).status_code == 200


async def _soon(happened: Callable[[], bool], otherwise: str) -> None:
    for _ in range(200):
        if happened():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(otherwise)


async def test_a_caller_that_leaves_cancels_the_search() -> None:
    async with running_http() as gateway:
        gateway.embedder.delay_seconds = 30
        search = asyncio.create_task(
            gateway.http.get("/search?q=x&collection=notes", timeout=httpx.Timeout(20))
        )
        await _soon(lambda: gateway.embedder.texts_calls > 0, "the embedder was not asked")
        search.cancel()
        await _soon(lambda: gateway.embedder.cancelled, "the embedder was left working")


async def test_an_unreachable_tier_is_503() -> None:
    async with running_http() as gateway:
        gateway.embedder.failures = [Unavailable("away", reason="AWAY")] * 3
        answer = await gateway.http.get("/search?q=x&collection=notes")
        assert problem_of(answer) == (503, "AWAY")
