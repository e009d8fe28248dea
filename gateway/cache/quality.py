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
# How seldom a window of samples turns off a cache that is good enough.
_FALSE_ALARMS = 0.025
# Shares of false hits, from the most that the floor allows to all, that it is tested against.
_ALTERNATIVES = 16
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


class FloorTest:
    """Whether the share of false hits is more than `most`, looked at after each hit.

    The mean likelihood ratio of larger shares to `most` is a supermartingale
    while the share is at most that. So it reaches 1 / p with a probability of p
    at most, however often it is looked at, where an interval for a number of
    hits that was fixed before would be left sooner or later. J. Ville, Etude
    critique de la notion de collectif, 1939; H. Robbins, Statistical methods
    related to the law of the iterated logarithm, 1970.
    """

    def __init__(self, most: float) -> None:
        steps = range(_ALTERNATIVES)
        shares = [most + (1 - most) * (step + 0.5) / _ALTERNATIVES for step in steps]
        # Where none may be false, one that is proves it; where all may, nothing does.
        self._for_false = [math.log(one / most) if most > 0 else math.inf for one in shares]
        self._for_true = [math.log((1 - one) / (1 - most)) if most < 1 else 0.0 for one in shares]
        self.restart()

    def restart(self) -> None:
        self.samples = 0
        self._logs = [0.0] * _ALTERNATIVES

    def note(self, is_false: bool) -> None:
        self.samples += 1
        ratios = self._for_false if is_false else self._for_true
        self._logs = [log + ratio for log, ratio in zip(self._logs, ratios, strict=True)]

    @property
    def failed(self) -> bool:
        most = max(self._logs)
        if math.isinf(most):
            return True
        mean = math.fsum(math.exp(log - most) for log in self._logs) / _ALTERNATIVES
        return most + math.log(mean) >= -math.log(_FALSE_ALARMS)


class HitQuality:
    """Fed with the overlap of sampled hits with real answers.

    While `serving`, it turns itself off once the share of true hits is surely
    (with 97.5 % for each 400 samples) below the floor. While off, hits that it would have made are
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
        self._test = FloorTest(1 - floor)
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
        is_false = overlap < FALSE_HIT_OVERLAP
        self._false.append(is_false)
        self._test.note(is_false)
        seen = self.estimate
        if seen.samples < _LEAST_SAMPLES:
            return
        if self.serving:
            if self._test.failed:
                self._turn_off()
            elif self._test.samples == _WINDOW:
                # What was good for long must not hide that it no longer is.
                self._test.restart()
                self._pause_seconds = _PAUSE_SECONDS
        elif self._now() >= self._off_until:
            if 1 - seen.share >= self._floor:
                self.serving = True
                self._hits = 0
                self._false.clear()
                self._test.restart()
            else:
                self._turn_off()

    def _turn_off(self) -> None:
        self.serving = False
        self._false.clear()
        self._test.restart()
        self._off_until = self._now() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
