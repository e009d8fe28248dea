"""Threads beside the calls outlive whatever goes wrong in them, and builds fall back."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest

from services.retriever import build, document_updates
from services.retriever.index_kinds import SegmentPlan
from services.retriever.snapshots.location import SnapshotLocation
from services.retriever.snapshots.retention import writer_of
from services.retriever.snapshots.snapshots import Snapshots
from services.retriever.store.sqlite.store import SqliteStore
from services.retriever.sweeper import Sweeper
from sirdar.v1 import document_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import create, document_write, retriever, write

WAIT_SECONDS = 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.sqlite3", lambda _: None, max_waiting_bytes=2**20)
    yield opened
    opened.close()


def test_snapshots_at_an_interval_go_on_after_any_failure(tmp_path: Path) -> None:
    calls = 0
    again = Event()

    def take_all() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("of no kind that is expected")
        again.set()

    location = SnapshotLocation((tmp_path / "snapshots").as_uri())
    snapshots = Snapshots(location, kept=1, writer=writer_of(tmp_path))
    snapshots.start(0.001, take_all)
    try:
        assert again.wait(WAIT_SECONDS)
    finally:
        snapshots.close()


def test_the_sweeper_goes_on_after_any_failure(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retriever.sweeper._PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("services.retriever.sweeper._FAULT_PAUSE_SECONDS", 0.001)
    calls = 0
    again = Event()

    def has_expired() -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("of no kind that is expected")
        again.set()
        return False

    monkeypatch.setattr(store, "has_expired", has_expired)
    sweeper = Sweeper(store, tombstones_kept_seconds=60)
    sweeper.start()
    try:
        assert again.wait(WAIT_SECONDS)
    finally:
        sweeper.close()


def test_a_build_whose_failure_has_no_words_falls_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "vectors.npy", np.eye(8, dtype=np.float16))
    filled = build._filled

    def no_memory(plan: SegmentPlan, rows: build.VectorFile) -> Any:
        if plan.factory == "SQ8":
            raise MemoryError
        return filled(plan, rows)

    monkeypatch.setattr(build, "_filled", no_memory)
    built = build.build(tmp_path, "SQ8")
    assert "cannot be SQ8 (MemoryError())" in built.note


async def test_a_batch_of_updates_is_checked_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    patch = document_updates.document_patch

    def noted(*arguments: Any) -> Any:
        threads.append(current_thread().name)
        return patch(*arguments)

    monkeypatch.setattr(document_updates, "document_patch", noted)
    async with retriever(tmp_path) as stub:
        await create(stub)
        await write(stub, document_write("d"))
        update = document_pb2.DocumentUpdate(document_id="d")
        update.set["year"].int64_value = 1991
        request = pb.RetrieverServiceUpdateDocumentsRequest(collection="books", updates=[update])
        (outcome,) = (await stub.UpdateDocuments(request)).outcomes
    assert outcome.receipt.version == 2
    assert [name.rpartition("_")[0] for name in threads] == ["retriever-read"]
