"""Snapshots that are damaged, of another past or cut off: none of them is served."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.opened_shards import by_document, oracle, queries
from tests.retriever_data import definition
from tests.snapped_shards import filled, flip, lose_segments, objects, refused, restored, snapped


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_manifest_that_was_damaged_while_nothing_ran_is_not_in_the_next_snapshot(
    tmp_path: Path,
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        folder = it.books.shards[0].folder.path
    flip(folder / "manifest.json")
    with snapped(tmp_path / "data", url) as it:
        assert it.take().covered_seqs[0] == 0
        it.seal()
        assert it.take().covered_seqs[0] > 0
    lose_segments(tmp_path / "data")
    with snapped(tmp_path / "data", url) as it:
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


@pytest.mark.parametrize(
    ("part", "damage"),
    [("objects", flip), ("objects", cut), ("objects", Path.unlink), ("manifests", flip)],
)
def test_a_damaged_snapshot_is_not_served_and_the_next_one_is_whole(
    tmp_path: Path, part: str, damage: Callable[[Path], None]
) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        it.take()
    for path in objects(url, part):
        damage(Path(path))
    lose_segments(tmp_path / "data")
    before, refused_before = restored(), refused()
    with snapped(tmp_path / "data", url) as it:
        assert restored() == before
        assert refused() - refused_before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
        assert not list((tmp_path / "data").rglob("restore.building"))
        it.seal()
        it.take()
    lose_segments(tmp_path / "data")
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_an_older_snapshot_is_used_where_the_newest_is_damaged(tmp_path: Path) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = filled(it)
        it.take()
        flip_later = it.take()
    (newest,) = [path for path in objects(url, "manifests") if path.endswith(flip_later.name)]
    flip(Path(newest))
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url) as it:
        assert restored() - before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_a_snapshot_of_another_collection_or_past_is_refused(tmp_path: Path) -> None:
    url = (tmp_path / "snapshots").as_uri()
    with snapped(tmp_path / "data", url) as it:
        live = by_document(["a"], it.index(["a"], seed=5))
    backup = (tmp_path / "data" / "store.sqlite3").read_bytes()
    with snapped(tmp_path / "data", url) as it:
        filled(it)
        it.take()
    # The store as it was before, which then grows beyond what the snapshot has.
    (tmp_path / "data" / "store.sqlite3").write_bytes(backup)
    lose_segments(tmp_path / "data")
    with snapped(tmp_path / "data", url) as it:
        ids = [f"other{at}" for at in range(900)]
        live |= by_document(ids, it.index(ids, seed=6))
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url) as it:
        assert restored() == before
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
    # A manifest of another collection under a name that the store knows.
    with snapped(tmp_path / "data", url) as it:
        it.seal()
        it.take()
        made = definition("films", shards=2)
        films = it.store.create_collection(made).result()
        it.catalog.open(films, it.store)
        shards = it.catalog.get("default", "films").shards
        strange = it.snapshots.submit(films, it.store, shards).result()
        known = it.store.snapshots(it.collection.generation)
        it.store.note_snapshot(it.collection.generation, strange.name, known).result()
    folder = Path(next(iter(objects(url, "manifests")))).parents[2]
    (source,) = folder.rglob(strange.name)
    books = folder / "1" / "manifests"
    shutil.copy(source, books / strange.name)
    lose_segments(tmp_path / "data")
    refused_before = refused()
    with snapped(tmp_path / "data", url) as it:
        assert refused() - refused_before == 2
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


CHILD = """
import os, signal, sys
from pathlib import Path
from services.retriever.snapshots.location import SnapshotLocation
from tests.snapped_shards import Snapped, filled

it = Snapped(Path(sys.argv[1]), sys.argv[2])
filled(it)
put, puts = SnapshotLocation._put_durably, []
def dying(self, file, chunks):
    def killed():
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            if len(puts) == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield chunk[len(chunk) // 2 :]
    puts.append(file)
    put(self, file, killed())
SnapshotLocation._put_durably = dying
it.take()
"""


@pytest.mark.parametrize("at", [2, 5])
def test_a_kill_in_the_midst_leaves_no_half_snapshot(tmp_path: Path, at: int) -> None:
    url = (tmp_path / "snapshots").as_uri()
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "data"), url, str(at)], check=False
    )
    assert child.returncode == -signal.SIGKILL
    left = objects(url)
    assert len(left) == min(at, 4)
    with snapped(tmp_path / "data", url) as it:
        assert it.store.snapshots(it.collection.generation) == []
        taken = it.take()
        # What was whole is used, what was not is gone.
        assert sum(objects(url).values()) == taken.size_bytes
        assert len(objects(url, "manifests")) == 1
    lose_segments(tmp_path / "data")
    before = restored()
    with snapped(tmp_path / "data", url):
        assert restored() - before == 2
