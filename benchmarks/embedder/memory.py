"""Resident memory of an embedder over many requests, of all kinds that there are."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import psutil
import uvloop

from benchmarks.embedder.bench import EMBEDDER, Bench
from benchmarks.embedder.client import Stub, connected
from benchmarks.harness.command import Figures
from services.stack.stack import Stack
from sirdar.v1 import embedder_pb2

_IN_FLIGHT = 32
# One request in so many has so many texts, is wrong, is given up.
_SMALL_BATCH_OF = 10
_SMALL_BATCH_TEXTS = 4
_WRONG_OF = 50
_CANCELLED_OF = 50


def requests_of_all_kinds(address: str, texts: Sequence[str], count: int) -> int:
    """Sends so many and returns how many were answered with vectors."""
    return uvloop.run(_requests_of_all_kinds(address, texts, count))


async def _requests_of_all_kinds(address: str, texts: Sequence[str], count: int) -> int:
    draw = random.Random(3)
    numbers = iter(range(count))
    answered = 0

    async def worker(stub: Stub) -> None:
        nonlocal answered
        for number in numbers:
            size = _SMALL_BATCH_TEXTS if number % _SMALL_BATCH_OF == 0 else 1
            if number % _WRONG_OF == 1:
                size = 0
            call = stub.EmbedTexts(embedder_pb2.EmbedTextsRequest(texts=draw.sample(texts, size)))
            if number % _CANCELLED_OF == 2:
                await asyncio.sleep(draw.uniform(0, 0.02))
                call.cancel()
            try:
                await call
                answered += 1
            except asyncio.CancelledError:
                if not call.cancelled():
                    raise
            except grpc.aio.AioRpcError as error:
                if size or error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise

    async with connected(address) as stub:
        await asyncio.gather(*(worker(stub) for _ in range(_IN_FLIGHT)))
    return answered


def measure(bench: Bench) -> Figures:
    """Growth of the resident memory of a fresh server from its warm-up to the end."""
    texts, scale = bench.texts.tiny, bench.scale
    with TemporaryDirectory() as folder, Stack(Path(folder), tiers=EMBEDDER) as stack:
        address = stack.addresses["embedder"]
        process = psutil.Process(stack.process("embedder").pid)
        bench.clients.run(requests_of_all_kinds, address, texts, scale.warm_requests)
        warm = process.memory_info().rss
        bench.clients.run(requests_of_all_kinds, address, texts, scale.requests)
        grown = process.memory_info().rss
    bench.say(f"memory: {warm / 2**20:.0f} MiB warm, {grown / 2**20:.0f} MiB at the end")
    return {
        "rss_growth": grown / warm - 1,
        "rss_warm_mib": warm / 2**20,
        "rss_requests": float(scale.requests),
    }
