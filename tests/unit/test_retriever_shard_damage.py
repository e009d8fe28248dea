"""Shards over what is not as it was left: damaged files, a store of another past, failed builds."""

import re
import time
from pathlib import Path

import pytest

from services.retriever.sealer import Sealer
from services.retriever.shard import Shard
from sirdar.errors import ResourceExhausted
from tests.opened_shards import by_document, opened, oracle, queries


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "newer", "other shard's"])
def test_damaged_segment_files_are_built_again(tmp_path: Path, damage: str) -> None:
    ids = [f"d{at}" for at in range(900)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=10))
        it.seal()
        live |= by_document(ids[:60], it.index(ids[:60], seed=11))
        it.delete(ids[:50])
        live = {name: rows for name, rows in live.items() if name not in ids[:50]}
        folder = it.books.shards[0].folder.path
        committed = it.store.committed_seqs(it.collection.generation)[0]
    manifest = folder / "manifest.json"
    for file in (manifest,) if damage in ("manifest", "newer") else folder.glob("*.faiss"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "flip":
            file.write_bytes(content)
        elif damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "remove":
            file.unlink()
        elif damage == "manifest":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "newer":
            # Still JSON, and says that more is in the segments than is.
            text = re.sub(rb'("covered_seq": )\d+', rb"\g<1>%d" % committed, file.read_bytes())
            file.write_bytes(text)
        else:
            file.write_bytes(next((folder.parent / "1").glob("*.faiss")).read_bytes())
    for _ in range(2):
        with opened(tmp_path) as it:
            assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
            it.seal()
            assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
            assert all(shard.sealed_segments for shard in it.books.shards)


def test_segments_ahead_of_a_restored_store_are_not_served(tmp_path: Path) -> None:
    ids = [f"d{at}" for at in range(900)]
    with opened(tmp_path) as it:
        live = by_document(ids[:300], it.index(ids[:300], seed=17))
    backup = (tmp_path / "store.sqlite3").read_bytes()
    with opened(tmp_path) as it:
        it.index(ids[300:], seed=18)
        it.delete(ids[:10])
        it.seal()
    (tmp_path / "store.sqlite3").write_bytes(backup)
    with opened(tmp_path) as it:
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def test_a_failed_build_leaves_writes_and_searches_alone_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_child = Sealer._run_child
    failures: list[float] = []

    def full_disk(self: Sealer, shard: Shard, folder: Path) -> bytes:
        if not failures:
            failures.append(time.monotonic())
            raise OSError(28, "No space left on device")
        return run_child(self, shard, folder)

    monkeypatch.setattr(Sealer, "_run_child", full_disk)
    ids = [f"d{at}" for at in range(500)]
    with opened(tmp_path) as it:
        try:
            live = by_document(ids, it.index(ids, seed=13))
        except ResourceExhausted:
            pytest.fail("a build that fails must not refuse writes")
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)
        it.seal()
        assert failures
        assert all(shard.sealed_segments for shard in it.books.shards)
        leftovers = list(tmp_path.rglob("*.building"))
        assert leftovers == []
