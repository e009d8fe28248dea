"""Infinity's server (infinity-emb, torch engine, CPU) beside ours: same model, texts, load.

It has a virtual environment of its own, from infinity-requirements.txt.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.embedder import client
from benchmarks.embedder.bench import Bench
from benchmarks.embedder.engine import min_cosine
from benchmarks.embedder.texts import messages
from benchmarks.harness.command import Figures
from benchmarks.harness.environment import environment_folder
from services.inference.source import ModelSource, model_folder
from services.stack.ports import free_ports
from services.stack.tiers import HOST

_REQUIREMENTS = Path(__file__).with_name("infinity-requirements.txt")
_MESSAGE_TEXTS = 32
_IN_FLIGHT = 8
_START_SECONDS = 180.0
_MODEL = "model"
# Below this, the two do not embed the same texts with the same model.
_SAME_MODEL_COSINE = 0.99
_ENVIRONMENT = {
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


@contextmanager
def infinity_server(model: Path) -> Iterator[str]:
    """Its URL, once it is ready."""
    (port,) = free_ports(1)
    command = [str(environment_folder("infinity", _REQUIREMENTS) / "bin" / "infinity_emb"), "v2"]
    command += ["--model-id", str(model), "--served-model-name", _MODEL, "--engine", "torch"]
    command += ["--device", "cpu", "--no-trust-remote-code", "--host", HOST, "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env={**os.environ, **_ENVIRONMENT}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://{HOST}:{port}"
            if not _ready(url, process):
                log.seek(0)
                sys.exit(f"Infinity does not start:\n{log.read().decode()[-2000:]}")
            yield url
        finally:
            process.terminate()
            process.wait()


def _ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as http:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                return http.get(f"{url}/health").is_success
            except httpx.TransportError:
                time.sleep(0.2)
    return False


def texts_per_second(url: str, batches: Sequence[list[str]], in_flight: int) -> float:
    """Closed loop over HTTP, each answer read to its vectors."""
    return uvloop.run(_texts_per_second(url, batches, in_flight))


async def _texts_per_second(url: str, batches: Sequence[list[str]], in_flight: int) -> float:
    waiting = iter(batches)

    async def worker(http: httpx.AsyncClient) -> None:
        for texts in waiting:
            assert len(await _rows(http, texts)) == len(texts)

    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as http:
        await http.get("/health")
        started = time.perf_counter()
        await asyncio.gather(*(worker(http) for _ in range(in_flight)))
        return sum(map(len, batches)) / (time.perf_counter() - started)


def rows(url: str, texts: list[str]) -> NDArray[np.float32]:
    """The vectors [texts, dimensions] of one request."""

    async def ask() -> NDArray[np.float32]:
        async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as http:
            return np.array(await _rows(http, texts), np.float32)

    return uvloop.run(ask())


async def _rows(http: httpx.AsyncClient, texts: list[str]) -> list[list[float]]:
    answer = await http.post("/embeddings", json={"model": _MODEL, "input": texts})
    answer.raise_for_status()
    return [item["embedding"] for item in answer.json()["data"]]


def measure(bench: Bench) -> Figures:
    """Our server over Infinity's."""
    batches = messages(bench.texts.mixed[: bench.scale.texts], _MESSAGE_TEXTS)
    source = ModelSource(bench.settings.model, bench.settings.model_revision)
    with infinity_server(model_folder(source)) as url:
        theirs = bench.clients.run(rows, url, batches[0])
        cosine = min_cosine(theirs, bench.clients.run(client.rows, bench.address, batches[:1]))
        if cosine < _SAME_MODEL_COSINE:
            raise RuntimeError(f"Infinity's vectors are not those of the same model: {cosine}")
        bench.clients.run(texts_per_second, url, batches[:8], _IN_FLIGHT)
        bench.clients.run(client.texts_per_second, bench.address, batches, _IN_FLIGHT)
        shares, rates = [], []
        for turn in range(bench.scale.reference_turns):
            slow = bench.clients.run(texts_per_second, url, batches, _IN_FLIGHT)
            fast = bench.clients.run(client.texts_per_second, bench.address, batches, _IN_FLIGHT)
            shares.append(fast / slow)
            rates.append((slow, fast))
            bench.say(f"Infinity {turn}: {slow:.1f} texts/s, Sirdar {fast:.1f}")
    return {
        "server_over_infinity": median(shares),
        "infinity_texts_per_second": median(slow for slow, _ in rates),
        "sirdar_texts_per_second": median(fast for _, fast in rates),
        "infinity_min_cosine": cosine,
    }
