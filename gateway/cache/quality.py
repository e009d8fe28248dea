"""How good the semantic cache of one collection is, and whether it may answer."""

import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

FALSE_HIT_OVERLAP = 0.8
"""A semantic hit is false when less than this share of its results are those of a real search."""

# Fewer say nothing.
_LEAST_SAMPLES = 20
# So many hits are all searched for real; only then a share of them.
_FIRST_HITS = 40
_WINDOW = 400
_Z = NormalDist().inv_cdf(0.975)
_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of false hits with a 95 % interval, of the last `samples`."""

    samples: int
    share: float
    low: float
    high: float


def estimate(false_hits: int, samples: int) -> Estimate:
    """The interval is Wilson's (E. B. Wilson, Probable inference, 1927): right for shares near
    0 and few samples. (0, 1) of none."""
    if samples == 0:
        return Estimate(0, 0.0, 0.0, 1.0)
    share = false_hits / samples
    scale = 1 + _Z**2 / samples
    middle = (share + _Z**2 / (2 * samples)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / samples + _Z**2 / (4 * samples**2))
    return Estimate(samples, share, max(0.0, middle - half), min(1.0, middle + half))


class HitQuality:
    """Fed with the overlap of sampled hits with real answers.

    While `serving`, it turns itself off once the share of true hits is surely
    (with 97.5 %) below the floor. While off, hits that it would have made are
    compared with the real answers that their callers got, which costs no search
    and harms nobody; after a pause it serves again if the share of true hits
    among them is not below the floor. Each pause is twice the last one, an hour at most, until
    the cache has served well for long.
    """

    def __init__(
        self,
        floor: float,
        sampled_share: float,
        *,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.serving = True
        self._floor = floor
        self._sampled_share = sampled_share
        self._now = now
        self._draw = draw
        self._hits = 0
        self._false: deque[bool] = deque(maxlen=_WINDOW)
        self._pause_seconds = _PAUSE_SECONDS
        self._off_until = 0.0

    @property
    def estimate(self) -> Estimate:
        return estimate(sum(self._false), len(self._false))

    def samples(self) -> bool:
        """There is a hit that is served; whether it is to be searched for real, too."""
        self._hits += 1
        return self._hits <= _FIRST_HITS or self._draw() < self._sampled_share

    def note(self, overlap: float) -> None:
        """A hit, or what would have been one, has this overlap with the real answer, 0 to 1."""
        self._false.append(overlap < FALSE_HIT_OVERLAP)
        seen = self.estimate
        if seen.samples < _LEAST_SAMPLES:
            return
        if self.serving:
            if 1 - seen.low < self._floor:
                self._turn_off()
            elif seen.samples == _WINDOW:
                self._pause_seconds = _PAUSE_SECONDS
        elif self._now() >= self._off_until:
            if 1 - seen.share >= self._floor:
                self.serving = True
                self._hits = 0
                self._false.clear()
            else:
                self._turn_off()

    def _turn_off(self) -> None:
        self.serving = False
        self._false.clear()
        self._off_until = self._now() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
