"""What the gateway holds while NDJSON is streamed into it faster than the store takes it."""

import json
from collections.abc import Iterator

import httpx
import psutil

from benchmarks.gateway.bench import Bench
from benchmarks.gateway.client import NOOP_COLLECTION
from benchmarks.harness.command import Figures
from benchmarks.retriever.memory import PeakMemory, proportional_bytes
from services.stack.stack import Stack

_TEXT = "Words that say little and take their place. " * 45
_WRITE_SECONDS = 0.02


def measure(bench: Bench) -> Figures:
    """Growth of the gateway's resident memory, at its largest, over what it was when a
    hundredth of it had been taken; the store takes 20 ms for each batch."""
    size = bench.scale.upload_bytes
    with bench.before_slow_store(_WRITE_SECONDS) as stack:
        pid = stack.process("gateway").pid
        _upload(stack, size // 100)
        before = proportional_bytes(pid)
        with PeakMemory(pid) as memory:
            documents = _upload(stack, size)
        after = psutil.Process(pid).memory_info().rss
    bench.say(
        f"upload: {documents} documents in {size / 1e6:.0f} MB; {before / 1e6:.1f} MB before, "
        f"{memory.peak_bytes / 1e6:.1f} MB at most, {after / 1e6:.1f} MB after"
    )
    return {
        "index_rss_mb": (memory.peak_bytes - before) / 1e6,
        "gateway_rss_mb": before / 1e6,
    }


def _upload(stack: Stack, size: int) -> int:
    """How many documents were acknowledged, which are all."""
    url = f"http://{stack.http_address}/index"
    headers = {"content-type": "application/x-ndjson", "accept": "application/x-ndjson"}
    sent = acknowledged = 0

    def lines() -> Iterator[bytes]:
        nonlocal sent
        left = size
        while left > 0:
            line = json.dumps({"id": f"d{sent}", "text": _TEXT}).encode() + b"\n"
            left -= len(line)
            sent += 1
            yield line

    with (
        httpx.Client(timeout=600, trust_env=False) as client,
        client.stream(
            "POST", url, params={"collection": NOOP_COLLECTION}, content=lines(), headers=headers
        ) as answer,
    ):
        answer.raise_for_status()
        for line in answer.iter_lines():
            if "receipt" not in json.loads(line):
                raise RuntimeError(line)
            acknowledged += 1
    if acknowledged != sent:
        raise RuntimeError(f"{acknowledged} of {sent} documents were acknowledged")
    return sent
