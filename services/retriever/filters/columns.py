"""The columns of a shard: what filters may name of its documents' metadata.

Derived from the store, like the segments. A document has a slot for good, and
a place for each of its versions: writing it again takes the next place, and
the one before is dead. So columns are only ever appended to, and a view is how
far they went and which places were dead then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from services.retriever.filters.numbers import NumberColumn
from services.retriever.filters.values import Growing, TermColumn, array_of
from services.retriever.lexical.analyzers import NO_LANGUAGE, analyzer, prepared
from services.retriever.store.records import FieldSchema, FieldType
from services.retriever.store.tombstones import DocumentKeys
from sirdar.v1.document_pb2 import MetadataValue
from sirdar.v1.retriever_pb2 import CandidatePassage

Column = TermColumn | NumberColumn
Version = tuple[int, bytes | None]
"""A document's key, and its metadata as the store has it; None: it was deleted."""

# Columns are made anew when so many more places are dead than alive.
_SPARE_DEAD = 50_000
NO_SLOT = -1


@dataclass(frozen=True, slots=True)
class ColumnsView:
    """The first `size` places of the columns, less `dead` ones."""

    columns: "Columns"
    size: int
    dead: BitMap


class Columns:
    """One thread appends; views of it are read by any."""

    def __init__(self, schema: Sequence[FieldSchema], language: str = NO_LANGUAGE) -> None:
        """`language`: of the words of texts, as in the lexical index."""
        self.schema = tuple(schema)
        self._language = language
        self._analyzer = analyzer(language)
        self._columns = {field: _column(field) for field in schema}
        # Keys are given in ascending order, so a slot is found by searching for its key.
        self.keys = Growing(np.int64)
        self._places = Growing(np.int32)
        self._slots = Growing(np.int32)
        self._dead = BitMap()
        # Each document's slot is its place: none was written twice.
        self.in_order = True

    def apply(self, versions: Iterable[Version]) -> None:
        """Takes what documents are from now on; `with_room` has made room for those that come
        after newer ones."""
        for key, metadata in versions:
            slot = self._slot(key)
            before = int(self._places.read()[slot])
            if before != NO_SLOT:
                self._dead.add(before)
            if metadata is None:
                self._places.put(slot, NO_SLOT)
                continue
            place = self._slots.size
            self._put(place, metadata)
            self.in_order = self.in_order and slot == place
            self._slots.append(slot)
            self._places.put(slot, place)
        for column in self._columns.values():
            if isinstance(column, NumberColumn):
                column.sort()

    def view(self) -> ColumnsView:
        return ColumnsView(self, self._slots.size, self._dead.copy())

    @property
    def wasteful(self) -> bool:
        """Whether most of it is dead, and it is worth its while to be made anew."""
        return 2 * len(self._dead) > self._slots.size + _SPARE_DEAD

    def empty(self) -> "Columns":
        """Of the same schema."""
        return Columns(self.schema, self._language)

    def keep_only(self, there: DocumentKeys) -> None:
        """Takes out the documents that are not there."""
        keys = self.keys.read()
        gone = there.lack(keys) & (self._places.read() != NO_SLOT)
        if gone.any():
            self.apply((key, None) for key in keys[gone].tolist())

    def compacted(self) -> "Columns":
        """The same without dead places and deleted documents. Views of this one stay as they
        are."""
        alive = np.ones(self._slots.size, bool)
        alive[array_of(self._dead)] = False
        renumbered = np.cumsum(alive) - 1
        other = self.empty()
        other.in_order = False
        places = self._places.read()
        there = places != NO_SLOT
        slots = np.cumsum(there) - 1
        other.keys.extend(self.keys.read()[there])
        other._slots.extend(slots[self._slots.read()[alive]])
        other._places.extend(renumbered[places[there]])
        for field, column in self._columns.items():
            other._columns[field] = column.compacted(alive, renumbered)
        return other

    def with_room(self, versions: Sequence[Version]) -> "Columns":
        """The same, or one with slots for those of the documents that are new here and older
        than some that are not.

        The log of another process shows a document in its last place: one that was written
        again comes behind those that were made after it. Views of this one stay as they are.
        """
        known = self.keys.read()
        keys = np.array([key for key, _ in versions], np.int64)
        before = np.maximum.accumulate([known[-1] if len(known) else -1, *keys])
        keys, first = np.unique(keys, return_index=True)
        new = self.slots_of_keys(keys) == NO_SLOT
        late = np.flatnonzero(new & (keys < before[first]))
        if not len(late):
            return self
        # With them those that come in their order, but are older than the newest late one.
        upto = late[-1] + 1
        return self._with_keys(keys[:upto][new[:upto]])

    def _with_keys(self, more: NDArray[np.int64]) -> "Columns":
        known = self.keys.read()
        keys = np.concatenate([known, more])
        order = np.argsort(keys)
        slots = np.empty(len(keys), np.int32)
        slots[order] = np.arange(len(keys))
        renumbered = slots[: len(known)]
        other = self.empty()
        other.in_order = False
        other.keys.extend(keys[order])
        places = np.full(len(keys), NO_SLOT, np.int32)
        places[renumbered] = self._places.read()
        other._places.extend(places)
        other._slots.extend(renumbered[self._slots.read()])
        other._dead = self._dead.copy()
        other._columns = self._columns
        return other

    def column(self, field: FieldSchema) -> Column | None:
        return self._columns.get(field)

    @property
    def slots(self) -> int:
        return self.keys.size

    def keys_of(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        """The document keys of places, ascending."""
        return np.sort(self.keys.read()[self._slots.read()[places]])

    def slots_of_places(self, size: int) -> NDArray[np.int32]:
        return self._slots.read()[:size]

    def slots_of_keys(self, keys: NDArray[np.int64]) -> NDArray[np.int32]:
        """NO_SLOT for documents that were never here."""
        known = self.keys.read()
        at = np.searchsorted(known, keys)
        at[at == len(known)] = 0
        if len(known) == 0:
            return np.full(len(keys), NO_SLOT, np.int32)
        return np.where(known[at] == keys, at, NO_SLOT).astype(np.int32)

    def _slot(self, key: int) -> int:
        keys = self.keys.read()
        if len(keys) == 0 or key > keys[-1]:
            self._places.append(NO_SLOT)
            self.keys.append(key)
            return len(keys)
        slot = int(np.searchsorted(keys, key))
        if keys[slot] != key:
            # The store numbers documents in the order of their first writes; `with_room` knows
            # of those that come late.
            raise ValueError(f"document {key} came out of order")
        return slot

    def _put(self, place: int, metadata: bytes) -> None:
        if not metadata or not self._columns:
            return
        values = CandidatePassage.FromString(metadata).metadata
        for field, column in self._columns.items():
            if field.name in values:
                self._add(field, column, place, values[field.name])

    def _add(self, field: FieldSchema, column: Column, place: int, value: MetadataValue) -> None:
        """A value of another type is not this field's: it was written before the schema."""
        kind = value.WhichOneof("kind")
        if isinstance(column, TermColumn):
            terms = self._terms(field, value, kind)
            if terms is not None:
                column.add(place, terms)
        elif kind == "timestamp_value" and field.type is FieldType.TIMESTAMP:
            column.add(place, (value.timestamp_value.seconds, value.timestamp_value.nanos))
        elif kind == "int64_value" and field.type is FieldType.INTEGER:
            column.add(place, value.int64_value)
        elif kind in ("int64_value", "double_value") and field.type is FieldType.FLOAT:
            column.add(place, float(getattr(value, kind)))

    def _terms(
        self, field: FieldSchema, value: MetadataValue, kind: str | None
    ) -> Iterable[str | bool] | None:
        if kind == "string_value" and field.type is FieldType.KEYWORD:
            return (value.string_value,)
        if kind == "string_list" and field.type is FieldType.KEYWORD_LIST:
            return value.string_list.values
        if kind == "bool_value" and field.type is FieldType.BOOLEAN:
            return (value.bool_value,)
        if kind == "string_value" and field.type is FieldType.TEXT:
            return self.words(value.string_value)
        return None

    def words(self, text: str) -> list[str]:
        return self._analyzer.analyze(prepared(text))


def _column(field: FieldSchema) -> Column:
    if field.type is FieldType.INTEGER:
        return NumberColumn(np.int64)
    if field.type is FieldType.FLOAT:
        return NumberColumn(np.float64)
    if field.type is FieldType.TIMESTAMP:
        return NumberColumn(np.int64, nanos=True)
    return TermColumn()
