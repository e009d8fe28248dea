"""Bodies of requests: their type, their size, their lines, and callers that leave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Message

from gateway.http.problems import ContentTooLarge, UnsupportedMediaType
from sirdar.errors import Cancelled

T = TypeVar("T")

JSON = "application/json"
MAX_JSON_BYTES = 4 * 2**20
"""Of a body that is one message. Documents, which may be longer, go to `/index`."""

# What takes about a millisecond to parse: a thread costs a tenth of it.
_PARSED_AT_ONCE_BYTES = 2**16

NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


def media_type(request: Request) -> str:
    """The content type without its parameters. Raises UnsupportedMediaType for packed bodies."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(f"packed as {encoding}", "and no Content-Encoding")
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body. Raises UnsupportedMediaType or ContentTooLarge."""
    given = media_type(request)
    if given != JSON and not given.endswith("+json"):
        raise UnsupportedMediaType(given, JSON)
    return await read_body(request, limit_bytes)


async def parsed(body: bytes, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of the body; other calls go on while it works on a long one."""
    if len(body) <= _PARSED_AT_ONCE_BYTES:
        return parse(body)
    return await asyncio.to_thread(parse, body)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise ContentTooLarge(limit_bytes)
    return bytes(body)


def with_limit(request: Request, limit_bytes: int) -> Request:
    """The request, whose body raises ContentTooLarge where it is read beyond the limit."""
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > limit_bytes:
            raise ContentTooLarge(limit_bytes)
        return message

    return Request(request.scope, receive)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an upload, counted from 1. `text` is None where it is longer than allowed."""

    number: int
    text: bytes | None


async def split_lines(chunks: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[Line]:
    """The lines that are not blank; holds one line and one chunk at a time.

    The end of a stream ends its last line; a stream that raises has none.
    """
    number = 1
    # A byte at a time is as well: what is kept of a chunk is its bytes alone.
    begun = bytearray()
    size = 0
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            fits = size + len(end) <= limit_bytes
            text = bytes(begun) + end if fits else None
            if text is None or text.strip():
                yield Line(number, text)
            number += 1
            begun.clear()
            size = 0
        size += len(rest)
        # Of a line that is too long nothing is kept; its end is still looked for.
        if size <= limit_bytes:
            begun += rest
        else:
            begun.clear()
    if size > limit_bytes:
        yield Line(number, None)
    elif begun.strip():
        yield Line(number, bytes(begun))


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; cancels it when the caller leaves. The body must be read already."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Cancelled("the caller left before the answer")
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
