"""The lines of an upload, however it is cut into chunks."""

import tracemalloc
from collections.abc import AsyncIterator

import pytest

from gateway.http.bodies import Line, split_lines

TEXT = b"one\n\n  \nfour\r\nfive"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def lines_of(*parts: bytes, limit_bytes: int = 100) -> list[Line]:
    return [line async for line in split_lines(chunks(*parts), limit_bytes)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_chunks_do_not_matter(size: int) -> None:
    parts = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    assert await lines_of(*parts) == [Line(1, b"one"), Line(4, b"four\r"), Line(5, b"five")]


@pytest.mark.parametrize("size", [1, 4, 100])
async def test_only_the_line_over_the_limit_is_refused(size: int) -> None:
    text = b"12345\n123456\n12345\n1234567"
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    assert await lines_of(*parts, limit_bytes=5) == [
        Line(1, b"12345"),
        Line(2, None),
        Line(3, b"12345"),
        Line(4, None),
    ]


async def test_a_line_that_comes_byte_by_byte_is_kept_as_its_bytes() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(200_000):
            yield bytes(1)

    tracemalloc.start()
    try:
        (line,) = [line async for line in split_lines(slowly(), 10**6)]
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line == Line(1, bytes(200_000))
    assert most_bytes < 5 * 200_000


async def test_nothing_has_no_lines() -> None:
    assert await lines_of() == []
    assert await lines_of(b"", b"\n\n") == []
