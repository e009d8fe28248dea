"""Which documents meet a condition, in one view of the columns."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from services.retriever.filters.columns import ColumnsView
from services.retriever.filters.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Contains,
    Exists,
    NoneOf,
    OneOf,
    Range,
)
from services.retriever.filters.numbers import NumberColumn
from services.retriever.filters.values import Places, TermColumn, array_of, bitmap_of, mask_of


def matches(condition: Condition, view: ColumnsView) -> Places:
    """The places that meet the condition and are alive, all below the view's size."""
    found = _evaluate(condition, view)
    if isinstance(found, BitMap):
        found = found - view.dead
        found.remove_range(view.size, 2**32)
        return found
    # May be of a column, which stays as it is.
    alive = found.copy()
    alive[array_of(view.dead)] = False
    return alive


def _evaluate(condition: Condition, view: ColumnsView) -> Places:
    if not isinstance(condition, AllOf | AnyOf | NoneOf):
        return _of_field(condition, view)
    parts = [_evaluate(item, view) for item in condition.conditions]
    if isinstance(condition, AllOf):
        return _all(parts)
    found = _any(parts, view.size)
    return found if isinstance(condition, AnyOf) else ~mask_of(found, view.size)


def _of_field(condition: Exists | OneOf | Contains | Range, view: ColumnsView) -> Places:
    column = view.columns.column(condition.field)
    found: Places = BitMap()
    match condition, column:
        case Exists(), TermColumn() | NumberColumn():
            found = column.exists.copy()
        case OneOf(), TermColumn() | NumberColumn():
            found = column.one_of(condition.values)
        case Contains(), TermColumn():
            found = column.all_of(view.columns.words(condition.text))
        case Range(), TermColumn():
            found = column.between(condition.low, condition.high)
        case Range(), NumberColumn():
            found = column.between(condition.low, condition.high, view.size)
    return found


def _all(parts: Sequence[Places]) -> Places:
    bitmaps = [part for part in parts if isinstance(part, BitMap)]
    masks = [part for part in parts if not isinstance(part, BitMap)]
    if not bitmaps:
        return _together(np.logical_and, masks)
    found = BitMap.intersection(*bitmaps)
    for mask in masks:
        places = array_of(found)
        places = places[: np.searchsorted(places, len(mask))]
        found = bitmap_of(places[mask[places]])
    return found


def _any(parts: Sequence[Places], size: int) -> Places:
    bitmaps = [part for part in parts if isinstance(part, BitMap)]
    masks = [part for part in parts if not isinstance(part, BitMap)]
    if not masks:
        return BitMap.union(*bitmaps)
    if bitmaps:
        masks.append(mask_of(BitMap.union(*bitmaps), size))
    return _together(np.logical_or, masks)


def _together(operation: np.ufunc, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    both = masks[0]
    for mask in masks[1:]:
        both = operation(both, mask)
    return both
