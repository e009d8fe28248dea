"""Which segments are merged when, and what a build that fails holds up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from services.retriever.merges import MAX_ROWS, merge
from services.retriever.sealer import Sealer
from services.retriever.shard import Shard
from services.retriever.shard_folder import ShardFolder
from tests.opened_shards import by_document, opened, oracle, queries


@dataclass(frozen=True)
class Sized:
    live: int
    rows: int


@pytest.mark.parametrize("seed", range(5))
def test_merges_leave_few_segments_and_write_each_row_few_times(seed: int) -> None:
    random = np.random.default_rng(seed)
    segments: list[Sized] = []
    added = written = 0
    for _ in range(300):
        size = int(random.integers(1, 2000))
        added += size
        segments.append(Sized(size, size))
        while group := merge(segments, quiet=False):
            rows = sum(item.live for item in group)
            written += rows
            segments = [item for item in segments if item not in group] + [Sized(rows, rows)]
    assert len(segments) <= 1 + np.log2(added)
    assert written <= 1.5 * np.log2(300) * added


def test_what_died_is_written_again_soon_where_it_is_much_and_else_when_it_is_quiet() -> None:
    much, little, few = Sized(7000, 10_000), Sized(49_000, 50_000), Sized(149_990, 150_000)
    assert merge([much, little], quiet=False) == (much,)
    assert merge([little, few], quiet=False) == ()
    assert merge([little, few], quiet=True) == (little,)
    assert merge([few], quiet=True) == ()
    huge = Sized(MAX_ROWS, MAX_ROWS)
    assert merge([huge, huge], quiet=True) == ()
    gone = Sized(0, MAX_ROWS)
    assert merge([huge, gone], quiet=False) == (gone,)


def test_what_deletions_leave_is_given_back(tmp_path: Path) -> None:
    ids = [f"d{at}" for at in range(1500)]
    with opened(tmp_path) as it:
        it.index(ids, seed=4)
        it.seal()

        def used() -> int:
            return sum(file.stat().st_size for file in (tmp_path / "segments").rglob("*.*"))

        before = used()
        it.delete(ids[: len(ids) * 3 // 10])
        it.seal()
        assert before - used() >= 0.95 * 0.3 * before
        assert it.books.tombstones() < 64 * sum(shard.sealed_segments for shard in it.books.shards)


def test_a_shard_whose_builds_fail_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_child: Callable[[Sealer, Shard, Path], bytes] = Sealer._run_child

    def first_shard_fails(self: Sealer, shard: Shard, folder: Path) -> bytes:
        if shard.number == 0:
            raise OSError(28, "No space left on device")
        return run_child(self, shard, folder)

    monkeypatch.setattr(Sealer, "_run_child", first_shard_fails)
    with opened(tmp_path) as it:
        ids = [f"d{at}" for at in range(500)]
        live = by_document(ids, it.index(ids, seed=5))
        shard = it.books.shards[1]
        while shard.full_segments:
            assert not it.sealer.wait_idle(0.05)
        assert it.books.shards[0].full_segments
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)
        # The disk has room again.
        monkeypatch.setattr(Sealer, "_run_child", run_child)
        it.seal()
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)


def test_a_manifest_that_cannot_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ShardFolder.record
    failures: list[int] = []

    def full_disk(self: ShardFolder, views: object, covered_seq: int) -> None:
        if len(failures) < 2:
            failures.append(covered_seq)
            raise OSError(28, "No space left on device")
        record(self, views, covered_seq)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardFolder, "record", full_disk)
    ids = [f"d{at}" for at in range(500)]
    with opened(tmp_path) as it:
        live = by_document(ids, it.index(ids, seed=6))
        it.seal()
        assert len(failures) == 2
        sealed = [shard.sealed_segments for shard in it.books.shards]
    with opened(tmp_path) as it:
        assert [shard.sealed_segments for shard in it.books.shards] == sealed
        assert it.search(queries(4), 20, exact=True) == oracle(live, queries(4), 20)
