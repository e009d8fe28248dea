"""Uploads over HTTP: arrays, and NDJSON that is answered while it arrives."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from sirdar.errors import Unavailable
from tests.rpc.gateway_http import HttpGateway, problem_of, running_http

LINES = {"content-type": "application/x-ndjson"}
INDEX = "/index?collection=notes"


def note(identity: str, text: str = "text") -> bytes:
    return json.dumps({"id": identity, "text": text}).encode() + b"\n"


async def upload(gateway: HttpGateway, content: Any) -> list[dict[str, Any]]:
    answer = await gateway.http.post(INDEX, content=content, headers=LINES)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def written(gateway: HttpGateway) -> list[str]:
    return [write.document.id for write in gateway.retriever.writes]


class Wire:
    """An upload by hand, in chunks, of which the answer can be read meanwhile."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def answer(self) -> dict[str, Any]:
        """The next line of the answer, past whatever frames it."""
        while True:
            line = await asyncio.wait_for(self._reader.readline(), 10)
            assert line, "the server closed the connection"
            if line.startswith(b"{"):
                value: dict[str, Any] = json.loads(line)
                return value

    async def break_off(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def uploading(gateway: HttpGateway, *headers: str) -> AsyncIterator[Wire]:
    port = gateway.server.beside[0].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [
        f"POST {INDEX} HTTP/1.1",
        "host: localhost",
        "content-type: application/x-ndjson",
        "transfer-encoding: chunked",
        *headers,
    ]
    writer.write("\r\n".join([*head, "", ""]).encode())
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def test_an_array_is_answered_document_by_document() -> None:
    async with running_http() as gateway:
        documents = [{"id": "a", "text": "x"}, {"id": "b"}, 7, {"id": "a", "text": "y"}]
        answer = await gateway.http.post(INDEX, json=documents)
        outcomes = answer.json()["outcomes"]
        assert [item["index"] for item in outcomes] == ["0", "1", "2", "3"]
        assert [item["document_id"] for item in outcomes] == ["a", "b", "", "a"]
        assert ["receipt" in item for item in outcomes] == [True, False, False, True]
        assert outcomes[2]["error"]["message"].startswith("documents[2]")
        assert [item["duplicate"] for item in outcomes] == [False, False, False, True]


async def test_an_object_is_not_an_array() -> None:
    async with running_http() as gateway:
        answer = await gateway.http.post(INDEX, json={"id": "a", "text": "x"})
        assert problem_of(answer) == (400, "INVALID_ARGUMENT")
        assert "application/x-ndjson" in answer.json()["detail"]


async def test_what_was_written_before_a_tier_went_away_is_in_the_problem() -> None:
    async with running_http(index_patience_seconds=0, index_batch_documents=1) as gateway:
        gateway.retriever.before_write = lambda: (
            gateway.retriever.write_failures.append(Unavailable("gone", reason="GONE"))
            if gateway.retriever.writes
            else None
        )
        answer = await gateway.http.post(INDEX, json=[{"id": i, "text": "x"} for i in "ab"])
        assert problem_of(answer)[0] == 503
        assert [item["document_id"] for item in answer.json()["outcomes"]] == ["a"]


async def test_a_broken_line_is_refused_by_its_number_and_the_rest_goes_on() -> None:
    async with running_http() as gateway:
        lines = [note("a"), b"\n", b'{"id": "b", "te\n', b'"text"\n', note("c"), b'{"id": "d"}\n']
        answers = await upload(gateway, b"".join([*lines, note("e").rstrip()]))
        assert [(item["line"], "receipt" in item) for item in answers] == [
            (1, True),
            (3, False),
            (4, False),
            (5, True),
            (6, False),
            (7, True),
        ]
        assert answers[1]["error"]["message"].startswith("line 3 is not JSON")
        assert answers[2]["error"]["message"].startswith("line 4 must be a JSON object")
        assert answers[1]["error"]["details"][0]["reason"] == "BAD_JSON"
        assert not answers[2]["duplicate"]
        assert written(gateway) == ["a", "c", "e"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"id": "x", "text": "\\ud800"}', "text"),
        (b'{"id": "x", "text": "t", "metadata": {"year": 2026}}', "metadata"),
        (b'{"id": "x", "text": "t", "color": "red"}', "color"),
        (b'{"id": "\xff", "text": "t"}', "line 1"),
        (b"[" * 100_000, "line 1"),
        (b'{"id": "x", "text": "a\\u0000b"}', "NUL"),
        (b'{"id": "' + b"x" * 513 + b'", "text": "t"}', "513 bytes"),
    ],
)
async def test_a_bad_document_says_what_is_bad(line: bytes, words: str) -> None:
    async with running_http() as gateway:
        bad, good = await upload(gateway, line + b"\n" + note("good"))
        assert words in bad["error"]["message"]
        assert "receipt" in good


async def test_a_line_over_the_limit_is_refused_without_being_kept() -> None:
    async with running_http(max_message_bytes=2**16) as gateway:
        answers = await upload(gateway, note("a") + note("long", "x" * 2**17) + note("b"))
        assert ["receipt" in item for item in answers] == [True, False, True]
        assert "65536 bytes" in answers[1]["error"]["message"]


async def test_conditional_writes_go_line_by_line() -> None:
    async with running_http() as gateway:
        line = {"document": {"id": "a", "text": "x"}, "if_version": "3"}
        await upload(gateway, json.dumps(line).encode())
        assert [write.if_version for write in gateway.retriever.writes] == [3]


async def test_lines_are_answered_while_the_upload_runs() -> None:
    async with running_http() as gateway, uploading(gateway) as wire:
        for number, identity in enumerate("abc", start=1):
            await wire.send(note(identity))
            answer = await wire.answer()
            assert (answer["line"], answer["document_id"]) == (number, identity)
            assert answer["receipt"]["version"] == "1"


async def test_a_caller_that_waits_to_be_told_is_told() -> None:
    async with running_http() as gateway, uploading(gateway, "expect: 100-continue") as wire:
        first = await asyncio.wait_for(wire._reader.readline(), 10)
        assert first == b"HTTP/1.1 100 Continue\r\n"
        await wire.send(note("a"))
        assert (await wire.answer())["document_id"] == "a"


async def test_an_upload_that_stops_half_way_keeps_what_was_acknowledged(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with running_http() as gateway:
        async with uploading(gateway) as wire:
            await wire.send(note("a") + b'{"id": "half", "text": "no')
            assert (await wire.answer())["document_id"] == "a"
            await wire.break_off()
        for _ in range(100):
            if "upload stopped" in "".join(capfd.readouterr()):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("the gateway did not notice")
        assert written(gateway) == ["a"]
        # It serves on.
        assert len(await upload(gateway, note("b"))) == 1
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_an_array_that_stops_half_way_is_no_fault_and_writes_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with running_http() as gateway:
        left = {"method": "POST", "route": "/index", "status": "499"}
        before = REGISTRY.get_sample_value("sirdar_http_requests_total", left) or 0
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.server.beside[0].port)
        writer.write(
            f"POST {INDEX} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            'content-length: 1000\r\n\r\n[{"id": "a", "text": "x"}'.encode()
        )
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()
        for _ in range(100):
            now = REGISTRY.get_sample_value("sirdar_http_requests_total", left) or 0
            if now > before:
                break
            await asyncio.sleep(0.02)
        assert now == before + 1
        assert written(gateway) == []
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_a_wrong_collection_is_refused_before_the_first_line() -> None:
    async with running_http() as gateway:
        for query, status in (("collection=others", 404), ("", 400), ("collection=notes&x=1", 400)):
            answer = await gateway.http.post(f"/index?{query}", content=note("a"), headers=LINES)
            assert problem_of(answer)[0] == status


async def test_a_tier_that_stays_away_ends_the_answers_with_its_error() -> None:
    async with running_http(index_patience_seconds=0) as gateway:
        gateway.retriever.write_failures = [Unavailable("gone", reason="GONE")] * 9
        (last,) = await upload(gateway, note("a"))
        assert last["error"]["details"][0]["reason"] == "GONE"


async def test_a_stopping_gateway_ends_the_answers_and_says_so() -> None:
    async with running_http() as gateway, uploading(gateway) as wire:
        await wire.send(note("a"))
        assert (await wire.answer())["document_id"] == "a"
        stopping = asyncio.create_task(gateway.server.stop())
        last = await wire.answer()
        assert last["error"]["details"][0]["reason"] == "SHUTTING_DOWN"
        await asyncio.wait_for(stopping, 10)


async def test_a_reader_that_does_not_read_holds_the_upload_back() -> None:
    """Broken lines cost nothing to refuse: only their answers can hold the sender back."""
    chunks = 640
    async with running_http(index_bytes_in_flight=2**20) as gateway, uploading(gateway) as wire:
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < chunks:
                await wire.send((b"x" * 999 + b"\n") * 100)
                sent += 1

        sending = asyncio.create_task(send())
        before = -1
        while sent > before and not sending.done():
            before = sent
            await asyncio.sleep(1)
        assert sent < chunks, "all was taken though no answer was read"
        sending.cancel()


async def test_the_answers_are_http() -> None:
    """A client library reads them as any chunked answer."""
    async with running_http() as gateway:
        async with gateway.http.stream(
            "POST", INDEX, content=b"".join(map(note, map(str, range(200)))), headers=LINES
        ) as answer:
            seen = [json.loads(line)["line"] async for line in answer.aiter_lines()]
        assert seen == list(range(1, 201))
        assert isinstance(answer, httpx.Response)
