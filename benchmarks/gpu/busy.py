"""How much of the time the GPU computes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean

import torch

_SAMPLE_SECONDS = 0.05
# NVML looks back over a sixth of a second: the first samples are of the time before.
_FIRST_SAMPLES = 4


class Busy:
    """Samples the GPU's utilization while it is watched: the share of time that kernels ran."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._ended = threading.Event()

    @property
    def share(self) -> float:
        """Of the time that it was watched; at least half a second."""
        return fmean(self._samples[_FIRST_SAMPLES:])

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Samples while it is open."""
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._ended.set()
            watch.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self._samples.append(torch.cuda.utilization() / 100)
