"""Indexing over HTTP: an array at once, or NDJSON both ways."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from google.protobuf.json_format import MessageToDict
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway.http.answers import json_answer
from gateway.http.bodies import JSON, NDJSON, Line, media_type, parsed, read_json_body, split_lines
from gateway.http.operations import Operation, Operations
from gateway.http.problems import UnsupportedMediaType, problem_response
from gateway.http.proto_json import from_query, load_json, to_json
from gateway.http.schemas import Schema
from gateway.http.upload import Upload
from gateway.servicer import SearchServicer
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument, SirdarError, Unavailable, to_status
from sirdar.v1 import document_pb2, search_pb2

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_NDJSON = "application/x-ndjson"
_OUTCOME = search_pb2.IndexOutcome.DESCRIPTOR
_EXAMPLE = {
    "id": "sea",
    "title": "",
    "text": "Ships leave the harbour at dawn.",
    "metadata": {"year": {"int64_value": "2026"}},
}


class _Lines(Response):
    """Answers line by line while the request is still being read."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(media_type=_NDJSON)
        del self.headers["content-length"]
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with aclosing(self._lines) as lines:
                async for line in lines:
                    await send({"type": "http.response.body", "body": line, "more_body": True})
        except ClientDisconnect:
            # What was acknowledged is durable; of the rest the caller knows nothing.
            log.info("upload stopped half way")
            return
        await send({"type": "http.response.body", "body": b""})


class IndexDoor:
    """`POST /index`: SearchService.IndexDocuments, without its SlowDown: a body that is not read
    on is held back by its connection."""

    def __init__(self, servicer: SearchServicer, settings: GatewaySettings) -> None:
        self._servicer = servicer
        self._settings = settings

    async def answer(self, request: Request) -> Response:
        target = from_query(request.query_params.multi_items(), search_pb2.IndexTarget())
        given = media_type(request)
        if given == JSON:
            return await self._array(request, target)
        if given not in NDJSON:
            raise UnsupportedMediaType(given, f"{JSON} for an array, {_NDJSON} for lines")
        # A wrong collection is refused before the first line is answered.
        await self._servicer.GetCollection(
            search_pb2.GetCollectionRequest(namespace=target.namespace, name=target.collection),
            None,
        )
        chunks: AsyncIterator[bytes] = request.stream()
        if "100-continue" in request.headers.get("expect", "").lower():
            # Such a caller sends nothing until it is told to, which reading does.
            chunks = _preceded(await anext(chunks), chunks)
        lines = split_lines(chunks, self._settings.max_message_bytes)
        return _Lines(self._answered(Upload(target, self._settings.max_message_bytes), lines))

    async def _answered(
        self, upload: Upload, lines: AsyncIterator[Line]
    ) -> AsyncGenerator[bytes, None]:
        responses = self._servicer.IndexDocuments(upload.requests_of_lines(lines), None)
        try:
            async for response in responses:
                if response.HasField("outcome"):
                    line, value = upload.outcome(response.outcome)
                    yield to_json({"line": line, **value}) + b"\n"
                elif response.HasField("shutting_down"):
                    yield to_json({"error": _error_value(_draining())}) + b"\n"
        except SirdarError as error:
            yield to_json({"error": _error_value(error)}) + b"\n"

    async def _array(self, request: Request, target: search_pb2.IndexTarget) -> Response:
        limit = self._settings.max_message_bytes
        values = await parsed(await read_json_body(request, limit), load_json)
        if not isinstance(values, list):
            raise InvalidArgument.field(
                "body", f"must be an array of documents; for lines send Content-Type: {_NDJSON}"
            )
        upload = Upload(target, limit)
        outcomes: list[dict[str, Any]] = []
        failed: SirdarError | None = None
        try:
            async for response in self._servicer.IndexDocuments(
                upload.requests_of_values(values), None
            ):
                if response.HasField("outcome"):
                    outcomes.append(upload.outcome(response.outcome)[1])
                elif response.HasField("shutting_down"):
                    failed = _draining()
        except SirdarError as error:
            failed = error
        if failed is not None:
            # What was done until then must not be lost with the rest.
            return problem_response(failed, outcomes=outcomes)
        return json_answer({"outcomes": outcomes})


def _draining() -> SirdarError:
    return Unavailable(
        "the server is stopping; send what was not answered again", reason="SHUTTING_DOWN"
    )


def _error_value(error: SirdarError) -> dict[str, Any]:
    value: dict[str, Any] = MessageToDict(to_status(error), preserving_proto_field_name=True)
    return value


async def _preceded(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def index_router(
    servicer: SearchServicer, settings: GatewaySettings, operations: Operations
) -> APIRouter:
    router = APIRouter(tags=["Documents"])
    door = IndexDoor(servicer, settings)

    @router.post("/index", openapi_extra=_operation(operations))
    async def index_documents(request: Request) -> Response:
        """Indexes documents; each is answered, in order, once it is durable or refused.

        As `application/json` an array at once. As `application/x-ndjson` a
        document a line, of any number: answers leave while lines arrive, each
        with the number of its line, and a line that is refused does not end
        the upload. Instead of a document an item may be given that writes on
        a condition: `{"document": {...}, "if_version": "3"}`.
        """
        return await door.answer(request)

    return router


def _operation(operations: Operations) -> Operation:
    document = operations.schemas.reference(document_pb2.Document.DESCRIPTOR)
    item = operations.schemas.reference(search_pb2.IndexItem.DESCRIPTOR)
    outcome = operations.schemas.reference(_OUTCOME)
    entry: Schema = {"anyOf": [document, item]}
    operation = operations.describe(
        "/index",
        parameters=operations.query_parameters(search_pb2.IndexTarget.DESCRIPTOR),
        body={"type": "array", "items": entry},
        example=[_EXAMPLE],
        answer={
            "type": "object",
            "properties": {"outcomes": {"type": "array", "items": outcome}},
            "required": ["outcomes"],
        },
    )
    operation["requestBody"]["content"][_NDJSON] = {"schema": {"type": "string"}}
    operation["responses"]["200"]["content"][_NDJSON] = {"schema": {"type": "string"}}
    return operation
