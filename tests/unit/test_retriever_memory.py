"""What keeps the retriever's memory small: vectors in float16, a bounded heap, empty caches."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Event
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from services.retriever.filters.values import Growing
from services.retriever.segment import NO_PASSAGE, GrowingSegment
from services.retriever.store.group_commit import Written
from services.retriever.store.sqlite.store import SqliteStore

DIMENSIONS = 24
WAIT_SECONDS = 20


def drawn(rows: int, seed: int) -> NDArray[np.float16]:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSIONS)).astype(np.float16)


@pytest.mark.parametrize("queries", [1, 5])
def test_a_growing_segment_finds_the_best_live_rows_exactly(queries: int) -> None:
    """Documents of several passages: first new ones, then some that are written again, also right
    after themselves; of both some are removed."""
    draw = np.random.default_rng(1)
    segment = GrowingSegment(DIMENSIONS)
    live: dict[int, list[int]] = {}
    rows = drawn(2_000, seed=2)
    at = newest = 0
    while at + 4 <= len(rows):
        passages = int(draw.integers(1, 5))
        key = newest = newest + int(draw.integers(1, 4))
        if draw.random() < 0.2 or at > 700:
            key = int(draw.integers(0, newest + 1))
            if draw.random() < 0.3:
                key = next(reversed(live), key)
            assert segment.remove(key) == (live.pop(key, None) is not None)
            if at < 600 or draw.random() < 0.2:
                continue
        ids = np.arange(at, at + passages)
        segment.add(key, ids, rows[at : at + passages])
        live[key] = ids.tolist()
        at += passages
    for key in range(newest + 2):
        assert segment.passages_of(key).tolist() == live.get(key, [])
    alive = np.array(sorted(one for ids in live.values() for one in ids))
    asked = drawn(queries, seed=3).astype(np.float32)
    scores = asked @ rows[alive].astype(np.float32).T
    for k in (1, 10, len(alive), len(alive) + 7):
        hits = segment.view().search(asked, k, None)
        wanted = -np.sort(-scores, axis=1)[:, :k]
        np.testing.assert_allclose(-np.sort(-hits.scores, axis=1), wanted, rtol=1e-4, atol=1e-4)
        assert NO_PASSAGE not in hits.ids
        assert set(hits.ids.ravel().tolist()) <= set(alive.tolist())
    part = segment.view().scan(asked, 3, 500, 900)
    assert ((part.ids >= 500) & (part.ids < 900)).all()


def test_views_stay_as_they_were_when_the_segment_outgrows_its_memory() -> None:
    segment = GrowingSegment(DIMENSIONS)
    rows = drawn(5_000, seed=4)
    segment.add(0, np.arange(100), rows[:100])
    view = segment.view()
    before = view.search(rows[:3].astype(np.float32), 5, None)
    for number in range(1, 50):
        ids = np.arange(100 * number, 100 * number + 100)
        segment.add(number, ids, rows[ids])
    again = view.search(rows[:3].astype(np.float32), 5, None)
    assert view.rows == 100
    assert before.ids.tolist() == again.ids.tolist()


def test_arrays_that_grow_beyond_small_ones_keep_what_is_in_them_and_what_was_read() -> None:
    """From the heap to pages of their own, and by what is appended and what is extended."""
    column = Growing(np.int32)
    for value in range(20_000):
        column.append(value)
        if value == 5_000:
            early = column.read()
    column.extend(np.arange(20_000, 60_000))
    column.put(3, -1)
    assert early.tolist() == list(range(5_001))
    assert column.read()[[0, 3, 19_999, 20_000, 59_999]].tolist() == [0, -1, 19_999, 20_000, 59_999]
    assert column.size == 60_000


_HEAPS = """
import ctypes, sys, threading
from services.retriever.trim import bound_heap
bound_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(8)
def work():
    together.wait()
    held = [libc.malloc(3000) for _ in range(50)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
# What was mapped alone and freed makes glibc take the next one from the heap by default.
libc.free(ctypes.c_void_p(libc.malloc(3 << 20)))
held = libc.malloc(3 << 20)
out = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(out))
libc.fclose(ctypes.c_void_p(out))
"""


def test_threads_share_few_heaps_and_what_is_large_is_mapped_alone(tmp_path: Path) -> None:
    """In a process of its own: what glibc is told holds for all of it."""
    report = tmp_path / "heaps.xml"
    environment = {name: of for name, of in os.environ.items() if not name.startswith("MALLOC_")}
    subprocess.run([sys.executable, "-c", _HEAPS, report], check=True, env=environment)
    found = ElementTree.fromstring(report.read_text())
    assert len(found.findall("heap")) <= 2
    mapped = found.find("total[@type='mmap']")
    assert mapped is not None
    assert int(mapped.attrib["size"]) >= 3 << 20


def test_the_cache_of_the_writer_is_emptied_in_a_pause_and_writes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retriever.store.group_commit._REST_SECONDS", 0.01)
    emptied = Event()
    store = SqliteStore(tmp_path / "store.sqlite3", lambda _: None, max_waiting_bytes=2**20)
    try:
        store._writer.set_trace_callback(
            lambda statement: emptied.set() if "shrink_memory" in statement else None
        )
        for _ in range(2):
            emptied.clear()
            store._commits.submit(lambda _: Written(None), 1).result()
            assert emptied.wait(WAIT_SECONDS)
    finally:
        store.close()
