"""Vectors like those of texts: clusters within clusters, of very different sizes.

Vectors of a model are not isotropic. These are drawn so: a common mean, topics
whose sizes follow a power law, some thirty kinds of texts a topic (again of
very different sizes), within a topic a subspace of 24 directions in which its
texts differ, and noise in all; every Gaussian with a spectrum that falls off.
Queries are drawn in the same way and are none of the vectors.

Compared with 20,000 documentation strings of Python packages and 1,000 more as
queries, embedded by all-MiniLM-L6-v2; these vectors are a little harder:

    ================================================  =======  ============
    20,000 vectors, 1,000 queries                     texts    these
    ================================================  =======  ============
    recall@10 of HNSW32,SQfp16, efSearch 10, 16, 32   .964 .978 .992  .911 .953 .981
    mean cosine to the 1st, 10th, 100th               .80 .64 .50     .73 .61 .48
    mean distance over that to the 10th               1.57     1.57
    local intrinsic dimension, median (k = 100)       15.1     18.7
    participation ratio of the covariance             66       49
    ================================================  =======  ============
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_TOPICS = 400
_TOPIC_EXPONENT = 1.0
_KINDS = 12_000
_KIND_TAIL = 1.2
_LOCAL_DIRECTIONS = 24
_SPECTRUM_EXPONENT = 0.6
_SPECTRUM_SHIFT = 5.0
# The lengths of the parts before the whole is brought to unit length.
_MEAN = 0.25
_TOPIC = 0.55
_KIND = 0.5
_LOCAL = 0.55
_NOISE = 0.25

_CHUNK = 20_000


class VectorSource:
    """Draws from one mixture; the same seed gives the same vectors."""

    def __init__(self, dimensions: int, seed: int = 1) -> None:
        self.dimensions = dimensions
        self._random = np.random.default_rng(seed)
        spectrum = (np.arange(1, dimensions + 1) + _SPECTRUM_SHIFT) ** -_SPECTRUM_EXPONENT
        self._spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
        self._mean = _MEAN * self._gaussian(1)[0]
        # No component is worth more than another: the directions are turned.
        turned = self._random.standard_normal((dimensions, dimensions))
        self._turn = np.linalg.qr(turned)[0].astype(np.float32)
        sizes = np.arange(1, _TOPICS + 1) ** -_TOPIC_EXPONENT
        self._topics = self._random.choice(_TOPICS, _KINDS, p=sizes / sizes.sum())
        centres = self._gaussian(_TOPICS)[self._topics]
        self._kinds = _TOPIC * centres + _KIND * self._gaussian(_KINDS)
        shares = self._random.pareto(_KIND_TAIL, _KINDS) + 1
        self._shares = shares / shares.sum()
        self._local = _LOCAL * self._gaussian(_TOPICS * _LOCAL_DIRECTIONS).reshape(
            _TOPICS, _LOCAL_DIRECTIONS, dimensions
        )
        self._local /= np.sqrt(_LOCAL_DIRECTIONS)

    def draw(self, count: int) -> NDArray[np.float32]:
        """Float32 of shape (count, dimensions), of unit length."""
        return np.concatenate(list(self._chunks(count)))

    def _chunks(self, count: int) -> Iterator[NDArray[np.float32]]:
        for start in range(0, count, _CHUNK):
            yield self._chunk(min(_CHUNK, count - start))

    def _chunk(self, count: int) -> NDArray[np.float32]:
        kinds = self._random.choice(_KINDS, count, p=self._shares)
        topics = self._topics[kinds]
        rows = self._mean + self._kinds[kinds] + _NOISE * self._gaussian(count)
        places = self._random.standard_normal((count, _LOCAL_DIRECTIONS), np.float32)
        for topic in np.unique(topics):
            here = np.flatnonzero(topics == topic)
            rows[here] += places[here] @ self._local[topic]
        turned: NDArray[np.float32] = rows @ self._turn
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        return turned

    def _gaussian(self, count: int) -> NDArray[np.float32]:
        drawn = self._random.standard_normal((count, self.dimensions), np.float32)
        return drawn * self._spectrum
