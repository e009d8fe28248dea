"""Columns of terms: keywords, words and booleans, and the places that have each.

Places are appended in ascending order and never changed, so that an older
reader finds in a newer column what it knows, and leaves out later places.
One thread appends; any reads.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from services.retriever.filters.conditions import Bound, Value
from services.retriever.pages import unused

Places = BitMap | NDArray[np.bool_]
"""Places that meet a condition: a bitmap where they are few, a mask where they are many."""

_FIRST_CAPACITY = 256


def bitmap_of(places: NDArray[np.integer]) -> BitMap:
    """`places` ascending. From an array.array 15 times as fast as from NumPy's."""
    return BitMap(array("I", places.astype(np.uint32).tobytes()))


def array_of(bitmap: BitMap) -> NDArray[np.uint32]:
    """Ascending."""
    return np.frombuffer(bitmap.to_array(), np.uint32)


def mask_of(places: Places, size: int) -> NDArray[np.bool_]:
    """As a mask of `size` places; later ones are left out."""
    if not isinstance(places, BitMap):
        return places
    mask = np.zeros(size, bool)
    found = array_of(places)
    mask[found[: np.searchsorted(found, size)]] = True
    return mask


def renumber(places: BitMap, alive: NDArray[np.bool_], renumbered: NDArray[np.int64]) -> BitMap:
    """Those of the places that are alive, by their new numbers."""
    old = array_of(places)
    return bitmap_of(renumbered[old[alive[old]]])


class Growing:
    """An array that takes more; what was read of it stays as it was."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self.size = 0
        self._array: NDArray[Any] = np.empty(_FIRST_CAPACITY, dtype)

    def append(self, value: object) -> None:
        if self.size == len(self._array):
            self._grow(2 * self.size)
        self._array[self.size] = value
        self.size += 1

    def extend(self, values: NDArray[Any]) -> None:
        end = self.size + len(values)
        if end > len(self._array):
            self._grow(2 * end)
        self._array[self.size : end] = values
        self.size = end

    def _grow(self, capacity: int) -> None:
        larger = unused(capacity, self._array.dtype)
        larger[: self.size] = self._array[: self.size]
        self._array = larger

    def put(self, at: int, value: object) -> None:
        """For what only the writer reads."""
        self._array[at] = value

    def read(self) -> NDArray[Any]:
        # The size first: what is appended meanwhile is behind it.
        size = self.size
        return self._array[:size]


class TermColumn:
    """Keywords, words of texts and booleans: the places of each."""

    def __init__(self) -> None:
        self.exists = BitMap()
        self._places: dict[str | bool, BitMap] = {}
        self._sorted: list[str] = []

    def add(self, place: int, values: Iterable[str | bool]) -> None:
        self.exists.add(place)
        for value in values:
            places = self._places.get(value)
            if places is None:
                places = self._places[value] = BitMap()
            places.add(place)

    def compacted(self, alive: NDArray[np.bool_], renumbered: NDArray[np.int64]) -> "TermColumn":
        """Of the places that are alive, by their new numbers."""
        other = TermColumn()
        other.exists = renumber(self.exists, alive, renumbered)
        for term, places in self._places.items():
            left = renumber(places, alive, renumbered)
            if left:
                other._places[term] = left
        return other

    def one_of(self, values: Sequence[Value]) -> BitMap:
        found = [self._places.get(value) for value in values]  # type: ignore[arg-type]
        return BitMap.union(*(places for places in found if places is not None), BitMap())

    def all_of(self, values: Iterable[str]) -> BitMap:
        found = [self._places.get(value, BitMap()) for value in values]
        return BitMap.intersection(*found) if found else BitMap()

    def between(self, low: Bound | None, high: Bound | None) -> BitMap:
        """In the order of code points."""
        terms = self._terms()
        start, end = 0, len(terms)
        if low is not None:
            start = (bisect_left if low.inclusive else bisect_right)(terms, str(low.value))
        if high is not None:
            end = (bisect_right if high.inclusive else bisect_left)(terms, str(high.value))
        return self.one_of(terms[start:end])

    def _terms(self) -> list[str]:
        """All, in the order of their code points. Terms only ever come: as many are the same."""
        if len(self._sorted) != len(self._places):
            # Taking the keys is one step of the interpreter; the writer may add meanwhile.
            self._sorted = sorted(map(str, list(self._places)))
        return self._sorted
