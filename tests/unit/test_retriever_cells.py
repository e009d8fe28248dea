"""Cells of sealed segments: what they hold, searches that they serve, damage, earlier formats."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.retriever.cells import (
    CELLED_ROWS,
    Cells,
    cell_count,
    make_cells,
    training_rows,
)
from services.retriever.filters.conditions import Condition
from services.retriever.filters.requests import condition
from services.retriever.sealed import FILTERED
from services.retriever.segment_manifest import SegmentManifest
from services.retriever.store.records import FieldSchema, FieldType
from services.retriever.view_search import Found, search_views
from sirdar.v1.document_pb2 import MetadataValue
from sirdar.v1.filter_pb2 import Filter
from tests.unit.test_retriever_filters import Library

ROWS = 4_000
DIMENSIONS = 8
SIDE = FieldSchema("side", FieldType.INTEGER)


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((60, DIMENSIONS))
    rows = centres[draw.integers(60, size=count)] + 0.2 * draw.standard_normal((count, DIMENSIONS))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def made() -> tuple[Cells, NDArray[np.float32]]:
    rows = clustered(ROWS, 1)
    centroids, layout = make_cells(rows[: training_rows(ROWS)], np.array_split(rows, 3))
    return Cells(centroids, layout, ROWS), rows


def test_each_row_is_in_the_cell_of_its_nearest_centroid(
    made: tuple[Cells, NDArray[np.float32]],
) -> None:
    cells, rows = made
    assert cell_count(ROWS) / 2 < cells.count <= cell_count(ROWS)
    held = [cells.rows_of(np.array([cell])) for cell in range(cells.count)]
    assert all(len(part) for part in held)
    assert sorted(np.concatenate(held).tolist()) == list(range(ROWS))
    nearest = cells.nearest(rows, 1)[:, 0]
    of_row = np.empty(ROWS, int)
    for cell, part in enumerate(held):
        of_row[part] = cell
    # But for centroids that are rounded to float16.
    assert (nearest == of_row).mean() > 0.99


def test_the_nearest_live_rows_are_those_of_whole_cells(
    made: tuple[Cells, NDArray[np.float32]],
) -> None:
    cells, _ = made
    live = np.random.default_rng(2).random(ROWS) < 0.3
    queries = clustered(5, 3)
    nearest = cells.nearest(queries, cells.count)
    counts = cells.counts(live)
    for order, found in zip(nearest, cells.nearest_live(nearest, live, counts, 200), strict=True):
        expected: list[int] = []
        for cell in order:
            expected += [row for row in cells.rows_of(np.array([cell])).tolist() if live[row]]
            if len(expected) >= 200:
                break
        assert sorted(found.tolist()) == sorted(expected)
    everything = next(cells.nearest_live(nearest[:1], live, counts, ROWS))
    assert sorted(everything.tolist()) == np.flatnonzero(live).tolist()


def test_the_share_of_cells_is_that_of_their_rows(
    made: tuple[Cells, NDArray[np.float32]],
) -> None:
    cells, _ = made
    live = np.random.default_rng(4).random(ROWS) < 0.3
    around = cells.nearest(clustered(5, 3), 4)
    expected = [live[cells.rows_of(some)].mean() for some in around]
    np.testing.assert_allclose(cells.share(around, cells.counts(live)), expected)


@pytest.mark.parametrize("fault", ["short", "start", "other rows"])
def test_cells_of_other_rows_are_refused(fault: str) -> None:
    rows = clustered(ROWS, 1)
    centroids, layout = make_cells(rows[: training_rows(ROWS)], [rows])
    if fault == "start":
        layout[0] = 1
    with pytest.raises(ValueError, match="cells are not of"):
        Cells(centroids, layout[:-1] if fault == "short" else layout, ROWS + (fault[0] == "o"))


@pytest.mark.parametrize("rows", [CELLED_ROWS, 100_000, 1_000_000])
def test_the_number_of_cells_is_bounded(rows: int) -> None:
    assert 1 <= cell_count(rows) <= 4 * rows**0.5 + 1
    assert cell_count(rows) <= training_rows(rows) <= rows


class Sides(Library):
    """Documents on either side of a plane; `side` is 1 where the first component is positive."""

    def fill(self) -> None:
        self.set_schema(SIDE)
        self.live = {}
        rows = clustered(2 * ROWS, 4)
        sides = [{"side": MetadataValue(int64_value=int(row[0] > 0))} for row in rows]
        self.put_rows([f"d{at}" for at in range(len(rows))], sides, rows.astype(np.float16))
        self.seal()

    def found(
        self, queries: NDArray[np.float32], only: Condition | None, *, exact: bool, k: int = 10
    ) -> list[Found]:
        views = [shard.view for shard in self.books.shards]
        return search_views(views, queries, k, exact, only)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a library, closed."""
    folder = tmp_path_factory.mktemp("filled")
    it = Sides(folder)
    it.fill()
    it.close()
    return folder


def copied(filled: Path, folder: Path) -> Path:
    return shutil.copytree(filled, folder / "copied")


@pytest.fixture(scope="module")
def sides(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    it = Sides(copied(filled, tmp_path_factory.mktemp("sides")))
    yield it
    it.close()


def on_side(side: int) -> Condition:
    message = Filter()
    message.equals.field = "side"
    message.equals.value.int64_value = side
    return condition(message, [SIDE])


def recall(found: list[Found], exact: list[Found]) -> float:
    hits = sum(len(set(a.ids) & set(b.ids)) for a, b in zip(found, exact, strict=True))
    return hits / sum(len(item.ids) for item in exact)


def test_a_filter_that_takes_out_all_around_the_query_keeps_recall(sides: Sides) -> None:
    queries = clustered(60, 5)
    far = queries[queries[:, 0] < -0.2]
    plans = FILTERED.labels("cells")._value
    before = plans.get()
    found = sides.found(far, on_side(1), exact=False)
    assert plans.get() > before
    assert recall(found, sides.found(far, on_side(1), exact=True)) >= 0.95


def test_queries_near_and_far_of_one_batch_find_what_each_finds_alone(sides: Sides) -> None:
    queries = clustered(40, 6)
    only = on_side(1)
    together = sides.found(queries, only, exact=False)
    alone = [sides.found(query[None], only, exact=False)[0] for query in queries]
    exact = sides.found(queries, only, exact=True)
    # Two answers in each other's place would take 0.05. A walk from between clusters may end in
    # one that is not the nearest, with a filter or without, as the graph is built each time
    # anew: so of all queries together.
    assert recall(together, exact) >= 0.98
    assert recall(alone, exact) >= 0.95
    assert all(len(found.ids) == len(set(found.ids)) == 10 for found in together)


def test_more_than_any_cell_holds_is_found(sides: Sides) -> None:
    queries = clustered(2, 7)
    only = on_side(0)
    exact = sides.found(queries, only, exact=True, k=9000)
    found = sides.found(queries, only, exact=False, k=9000)
    assert [sorted(item.ids) for item in found] == [sorted(item.ids) for item in exact]


def ids_of(found: list[Found]) -> list[list[int]]:
    return [item.ids for item in found]


def cell_files(folder: Path, ending: str) -> list[Path]:
    files = sorted((folder / "segments").rglob(f"*{ending}"))
    assert files
    return files


@pytest.mark.parametrize("ending", [".centroids", ".cells"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_no_damaged_cells_are_served(
    filled: Path, sides: Sides, tmp_path: Path, ending: str, damage: str
) -> None:
    folder = copied(filled, tmp_path)
    damaged = cell_files(folder, ending)
    for file in damaged:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "remove":
            file.unlink()
        else:
            file.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    queries = clustered(10, 9)
    right = sides.found(queries, on_side(1), exact=True)
    again = Sides(folder)
    try:
        again.seal()
        assert not set(cell_files(folder, ending)) & set(damaged)
        assert ids_of(again.found(queries, on_side(1), exact=True)) == ids_of(right)
    finally:
        again.close()


def test_segments_of_format_3_have_no_cells_and_are_served(
    filled: Path, sides: Sides, tmp_path: Path
) -> None:
    folder = copied(filled, tmp_path)
    for file in folder.rglob("manifest.json"):
        manifest = SegmentManifest.parse(file.read_bytes())
        entries = tuple(
            entry.model_copy(update={"centroids": None, "cells": None})
            for entry in manifest.segments
        )
        older = manifest.model_copy(update={"format": 3, "segments": entries})
        file.write_bytes(older.content())
    queries = clustered(20, 10)
    again = Sides(folder)
    try:
        assert not list(folder.rglob("*.cells"))
        assert all(shard.sealed_segments for shard in again.books.shards)
        right = sides.found(queries, on_side(1), exact=True)
        assert recall(again.found(queries, on_side(1), exact=False), right) >= 0.95
    finally:
        again.close()
