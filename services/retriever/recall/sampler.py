"""Which of the queries that pass by are looked at again."""

import math
from collections.abc import Callable, Sequence
from random import random
from threading import Lock

_LEAST = 1e-9


class Sampler:
    """Takes each query with the same probability, whatever batch it is in.

    The gaps between what is taken are drawn (they are geometric), so that a
    batch in which nothing is taken costs a subtraction and no random number.
    """

    def __init__(self, uniform: Callable[[], float] = random) -> None:
        """`uniform` draws from [0, 1)."""
        self.seen = 0
        self._uniform = uniform
        self._lock = Lock()
        self._probability = 1.0
        self._gap = 0

    @property
    def probability(self) -> float:
        return self._probability

    def take(self, queries: int) -> Sequence[int]:
        """The places that are taken in a batch of so many queries."""
        with self._lock:
            self.seen += queries
            if self._gap >= queries:
                self._gap -= queries
                return ()
            taken = []
            place = self._gap
            while place < queries:
                taken.append(place)
                place += 1 + self._draw()
            self._gap = place - queries
            return taken

    def adjust(self, probability: float) -> None:
        """From now on; the gap has no memory, so it is drawn anew."""
        with self._lock:
            self._probability = min(1.0, max(_LEAST, probability))
            self._gap = self._draw()

    def _draw(self) -> int:
        if self._probability >= 1.0:
            return 0
        return int(math.log(1.0 - self._uniform()) / math.log1p(-self._probability))
