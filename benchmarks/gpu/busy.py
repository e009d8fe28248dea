"""How much of the time the GPU computes."""

import threading
import time
from collections.abc import Callable
from statistics import fmean, median

import torch

_SAMPLE_SECONDS = 0.05
# NVML looks back over a sixth of a second: the first samples are of the time before.
_FIRST_SAMPLES = 4


def busy_while(seconds: float, run: Callable[[], float]) -> tuple[float, float]:
    """The median of what `run` gives, again and again for so long, at least half a second, and the
    share of the time that kernels ran on the GPU."""
    found: list[float] = []
    samples: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            samples.append(torch.cuda.utilization() / 100)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        ends = time.perf_counter() + seconds
        while not found or time.perf_counter() < ends:
            found.append(run())
    finally:
        ended.set()
        watching.join()
    return median(found), fmean(samples[_FIRST_SAMPLES:])
