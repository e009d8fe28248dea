"""The recall of the last queries that were searched again."""

from collections import deque
from dataclasses import dataclass
from threading import Lock

import numpy as np

from services.retriever.recall.interval import mean_interval

# Where recall is 0.95 the interval is then about 0.02 wide, and what the index was a few
# thousand queries ago is forgotten.
WINDOW_QUERIES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean recall of `queries` queries and its 99.9 % confidence interval."""

    queries: int
    recall: float
    low: float
    high: float


class RecallWindow:
    """Written by one thread, read by any."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=WINDOW_QUERIES)
        self._lock = Lock()
        self._estimate: Estimate | None = None

    def add(self, recall: float) -> None:
        with self._lock:
            self._values.append(recall)
            self._estimate = None

    def estimate(self) -> Estimate:
        """Takes up to half a millisecond where a value was added since."""
        with self._lock:
            if self._estimate is None:
                values = np.array(self._values, np.float64)
                low, high = mean_interval(values)
                mean = float(values.mean()) if len(values) else 0.0
                # What is most likely lies in what is likely, however few there are.
                self._estimate = Estimate(len(values), mean, min(low, mean), max(high, mean))
            return self._estimate
