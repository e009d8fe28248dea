"""An embedder on the GPU as callers see it."""

import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.embedder.bench import EMBEDDER
from benchmarks.embedder.client import single_seconds, texts_per_second
from benchmarks.embedder.texts import Texts, messages, repeated
from benchmarks.gpu.busy import busy_while
from benchmarks.gpu.scale import Scale
from benchmarks.harness.callers import Callers
from benchmarks.harness.command import Figures
from services.stack.stack import Stack

_CALLERS = 4
_MESSAGE_TEXTS = 32
_IN_FLIGHT = 64
_SINGLE_IN_FLIGHT = 64


def measure(texts: Texts, scale: Scale) -> Figures:
    """In fp16: texts of mixed length, 32 a message; one short text a call; one call at a time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(
            Path(folder), tiers=EMBEDDER, environment={"SIRDAR_EMBEDDER_ENGINE": "torch"}
        ) as stack,
        Callers(_CALLERS) as clients,
    ):
        address = stack.addresses["embedder"]

        def rate(some: list[str], message_texts: int, in_flight: int) -> float:
            """Texts a second of all callers together."""
            parts = messages(some, message_texts)
            calls = [
                clients.start(
                    texts_per_second, address, parts[number::_CALLERS], in_flight // _CALLERS
                )
                for number in range(_CALLERS)
            ]
            return sum(call.result() for call in calls)

        mixed = repeated(texts.mixed, scale.server_texts)
        short = repeated(texts.short, scale.server_texts // 4)
        rate(mixed, _MESSAGE_TEXTS, _IN_FLIGHT)
        found: dict[str, list[float]] = {}
        for turn in range(scale.turns):
            texts_a_second, busy = busy_while(
                scale.seconds, partial(rate, mixed, _MESSAGE_TEXTS, _IN_FLIGHT)
            )
            figures = {"server_texts_per_second": texts_a_second, "server_busy": busy}
            figures["server_single_calls_per_second"] = rate(short, 1, _SINGLE_IN_FLIGHT)
            alone = single_seconds(address, repeated(texts.short, scale.calls))
            figures["server_idle_ms"] = 1000 * median(alone)
            print(
                f"server {turn}:",
                {key: round(value, 3) for key, value in figures.items()},
                flush=True,
            )
            for key, value in figures.items():
                found.setdefault(key, []).append(value)
    return {key: median(values) for key, values in found.items()}
