"""The documents that a filtered search may answer, as the rows of segments."""

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from services.retriever.filters.columns import Columns, ColumnsView
from services.retriever.filters.conditions import Condition
from services.retriever.filters.evaluation import matches
from services.retriever.filters.values import Growing, array_of

# So many documents are looked up in a segment by their keys, 30 ns each; for more a mask of
# all its rows is made, 1 ns each.
_FEW_SHARE = 32

T = TypeVar("T")


class RowSlots:
    """Which document each row of a segment is of, by its slot in the columns of the shard; made
    when a filter first asks. Rows are only ever appended."""

    def __init__(self) -> None:
        self._made: tuple[Growing, NDArray[np.int32]] | None = None

    def of(self, columns: Columns, document_keys: NDArray[np.int64]) -> NDArray[np.int32]:
        """Int32 (rows) for the document keys of the rows, int64 (rows)."""
        made = self._made
        slots = made[1] if made is not None and made[0] is columns.keys else np.empty(0, np.int32)
        if len(slots) < len(document_keys):
            more = columns.slots_of_keys(document_keys[len(slots) :])
            slots = np.concatenate([slots, more])
            # Two threads that do this at once make the same.
            self._made = (columns.keys, slots)
        return slots[: len(document_keys)]


class Allowed:
    """What meets a filter in one view of a shard."""

    def __init__(self, condition: Condition, view: ColumnsView) -> None:
        self._view = view
        self._made: dict[Hashable, Any] = {}
        self._places = matches(condition, view)
        self.documents = (
            len(self._places)
            if isinstance(self._places, BitMap)
            else int(np.count_nonzero(self._places))
        )

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once for as long as this is kept; the key says what it is."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def made(self, key: Hashable) -> bool:
        """Whether `once` has it."""
        return key in self._made

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """The keys of the documents, ascending."""
        places = (
            array_of(self._places)
            if isinstance(self._places, BitMap)
            else np.flatnonzero(self._places)
        )
        return self._view.columns.keys_of(places)

    def rows(self, document_keys: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """The rows of the documents in a segment whose `document_keys` ascend, where the
        documents are few beside its rows; None: ask for the mask."""
        if self.documents * _FEW_SHARE > len(document_keys):
            return None
        starts = np.searchsorted(document_keys, self.keys)
        ends = np.searchsorted(document_keys, self.keys, "right")
        counts = ends - starts
        before = np.cumsum(counts) - counts
        rows: NDArray[np.int64] = np.repeat(starts - before, counts) + np.arange(counts.sum())
        return rows

    def mask(self, document_keys: NDArray[np.int64], slots: RowSlots) -> NDArray[np.bool_]:
        """Which rows of a segment are of the documents."""
        return self._of_slots(slots.of(self._view.columns, document_keys))

    def of_rows(
        self, document_keys: NDArray[np.int64], slots: RowSlots, rows: NDArray[np.integer]
    ) -> NDArray[np.bool_]:
        """Which of some rows of a segment, (...), are of the documents."""
        return self._of_slots(slots.of(self._view.columns, document_keys)[rows])

    def _of_slots(self, slots: NDArray[np.int32]) -> NDArray[np.bool_]:
        # NumPy takes thrice as long to index with int32. NO_SLOT wraps to the last one.
        mask: NDArray[np.bool_] = self._slot_mask.take(slots, mode="wrap")
        return mask

    @cached_property
    def _slot_mask(self) -> NDArray[np.bool_]:
        """By slot; the last one, which NO_SLOT is, is not allowed."""
        columns, size = self._view.columns, self._view.size
        mask = np.zeros(columns.slots + 1, bool)
        slots = columns.slots_of_places(size)
        if isinstance(self._places, BitMap):
            mask[slots[array_of(self._places)]] = True
        elif columns.in_order:
            mask[:size] = self._places
        else:
            # Of the places of a slot the last one counts, as it does to NumPy.
            mask[slots] = self._places
        return mask
