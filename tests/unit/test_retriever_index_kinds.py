"""Index kinds: what each finds, survives and refuses; formats of the manifest."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.retriever.build import build
from services.retriever.index_kinds import FLAT_ROWS, NAMED, SegmentSummary, explain, segment_plan
from services.retriever.index_trial import FIELD, check
from services.retriever.sealer import Sealer
from services.retriever.segment_build import Build
from services.retriever.shard import Shard
from services.retriever.view_search import search_views
from sirdar.errors import InvalidArgument
from tests.archives import unpack
from tests.opened_shards import Opened, by_document, opened, oracle, queries
from tests.retriever_fixture import FOLDER, QUANTIZED_COLLECTIONS

QUANTIZED = ("hnsw_sq8", "ivf_sq8", "ivf_pq", "HNSW16,SQ8", "IVF32,SQ8", "SQ8")


def named(folder: Path, ending: str) -> list[Path]:
    """The files of segments of one sort."""
    files = [file for file in folder.iterdir() if file.name.endswith(ending)]
    return [file for file in files if ending != ".faiss" or ".fp16" not in file.suffixes]


@pytest.mark.parametrize("kind", ["auto", *QUANTIZED])
def test_each_kind_finds_what_brute_force_finds_and_opens_again(tmp_path: Path, kind: str) -> None:
    ids = [f"d{at}" for at in range(2600)]
    with opened(tmp_path, kind) as it:
        live = by_document(ids, it.index(ids, seed=1))
        it.seal()
        gone = ids[::9]
        it.delete(gone)
        it.seal()
        live = {name: rows for name, rows in live.items() if name not in set(gone)}
        summaries = [item for shard in it.books.shards for item in shard.sealed_summaries()]
        wanted_kind = "hnsw" if kind == "auto" else kind
        assert wanted_kind in {item.kind for item in summaries}, summaries
        wanted = oracle(live, queries(50), 10)
        found = it.search(queries(50), 10, exact=False)
        overlap = sum(len(set(a) & set(b)) for a, b in zip(wanted, found, strict=True))
        # These have no clusters: the hardest for inverted files, and two bytes a vector.
        assert overlap / 500 > (0.85 if kind.startswith("ivf_") else 0.95)
        assert it.search(queries(8), 300, exact=True) == oracle(live, queries(8), 300)
        # More than any walk or list holds.
        everything = it.search(queries(2), 9000, exact=False)
        assert [sorted(item) for item in everything] == [
            sorted(item) for item in oracle(live, queries(2), 9000)
        ]
        kinds = [item.kind for item in summaries]
    with opened(tmp_path) as it:
        assert it.search(queries(50), 10, exact=False) == found
        again = [item for shard in it.books.shards for item in shard.sealed_summaries()]
        assert [item.kind for item in again] == kinds


@pytest.mark.parametrize(
    ("damage", "ending"),
    [
        *(("flip", ending) for ending in (".fp16.faiss", ".faiss", ".npy")),
        ("cut", ".fp16.faiss"),
        ("remove", ".fp16.faiss"),
        ("other shard's", ".fp16.faiss"),
        ("other shard's", ".npy"),
    ],
)
def test_no_damaged_file_of_a_quantized_segment_is_served(
    tmp_path: Path, damage: str, ending: str
) -> None:
    ids = [f"d{at}" for at in range(450)]
    with opened(tmp_path, "hnsw_sq8") as it:
        live = by_document(ids, it.index(ids, seed=2))
        it.seal()
        folder = it.books.shards[0].folder.path
    files = named(folder, ending)
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "flip":
            file.write_bytes(content)
        elif damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "remove":
            file.unlink()
        else:
            file.write_bytes(named(folder.parent / "1", ending)[0].read_bytes())
    with opened(tmp_path) as it:
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)
        it.seal()
        assert it.search(queries(8), 30, exact=True) == oracle(live, queries(8), 30)


def _built_as(kind: str, whole: Path) -> tuple[dict[str, NDArray[np.float16]], Path]:
    """What is stored under `whole` in shards that all have a segment of a kind, and the folder of
    the first, from there. A trial may decide for another: then other vectors are stored."""
    ids = [f"d{at}" for at in range(2400)]
    for seed in range(8, 16):
        whole.mkdir()
        with opened(whole, kind) as it:
            live = by_document(ids, it.index(ids, seed=seed))
            it.seal()
            kinds = [{item.kind for item in one.sealed_summaries()} for one in it.books.shards]
            if all(kind in found for found in kinds):
                return live, it.books.shards[0].folder.path.relative_to(whole)
        shutil.rmtree(whole)
    raise AssertionError(f"no shard pair is built as {kind}")


@pytest.mark.parametrize("kind", ["ivf_sq8", "ivf_pq"])
def test_no_damaged_file_of_clustered_segments_is_served(tmp_path: Path, kind: str) -> None:
    live, folder = _built_as(kind, tmp_path / "whole")
    wanted = oracle(live, queries(4), 30)
    endings = (".faiss", ".fp16.faiss", ".npy")
    for number, (ending, damage) in enumerate(product(endings, ("flip", "cut", "exchange"))):
        here = shutil.copytree(tmp_path / "whole", tmp_path / str(number))
        file = max(named(here / folder, ending), key=lambda file: file.stat().st_size)
        content = bytearray(file.read_bytes())
        if damage == "exchange":
            other = named((here / folder).parent / "1", ending)
            content = bytearray(max(other, key=lambda file: file.stat().st_size).read_bytes())
        elif damage == "cut":
            del content[len(content) * 2 // 3 :]
        else:
            content[len(content) * 2 // 3] ^= 4
        file.write_bytes(content)
        with opened(here, kind) as it:
            sealed = [item.kind for item in it.books.shards[0].sealed_summaries()]
            assert kind not in sealed, (ending, damage)
            assert it.search(queries(4), 30, exact=True) == wanted, (ending, damage)
        shutil.rmtree(here)


def test_quantized_segments_of_the_format_of_the_fixture_are_served_without_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(FOLDER / "retriever-quantized-4.tar.gz", tmp_path)

    def no_build(self: Sealer, shard: Shard, build: Build) -> None:
        raise AssertionError("a build")

    monkeypatch.setattr(Sealer, "_seal", no_build)
    it = Opened(tmp_path)
    try:
        for kind in QUANTIZED_COLLECTIONS:
            (shard,) = it.catalog.get("default", kind).shards
            assert [item.kind for item in shard.sealed_summaries()] == [kind]
            changes = list(it.store.changes(shard.generation, 0, 0))
            ids = np.concatenate([change.passage_ids for change in changes])
            rows = np.concatenate([change.vectors for change in changes if len(change.passage_ids)])
            assert len(ids) == sum(part.rows - part.dead for part in shard.view.segments) > 2000
            asked = rows[::97].astype(np.float32)
            best = ids[np.argmax(asked @ rows.astype(np.float32).T, axis=1)].tolist()
            for exact in (True, False):
                found = search_views([shard.view], asked, 10, exact)
                hits = [item.ids[0] == one for item, one in zip(found, best, strict=True)]
                assert sum(hits) >= (len(hits) if exact else 0.9 * len(hits)), (kind, exact)
    finally:
        it.close()


def test_a_kind_that_wants_more_rows_than_there_are_gets_another_and_says_so(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, "IVF1024,SQ8") as it:
        ids = [f"d{at}" for at in range(300)]
        live = by_document(ids, it.index(ids, seed=3))
        it.seal()
        assert it.search(queries(4), 20, exact=False) == oracle(live, queries(4), 20)
        explanation = it.books.index_explanation()
        assert "cannot be IVF1024,SQ8" in explanation
        assert "flat segment" in explanation


@pytest.mark.parametrize(
    "factory",
    [
        "magic",
        "OPQ8,PQ8",
        "PCA8,Flat",
        "IDMap,Flat",
        "BHNSW16",
        "IVF16,PQ8,RFlat",
        "PQ8x4fs",
        "IVF1000000,Flat",
        "PQ8x16",
        "HNSW4096,Flat",
        "IVF16,PQ7",
        "x" * 1000,
        "IVF16;rm",
    ],
)
def test_a_factory_string_that_cannot_be_is_refused_with_what_to_use(factory: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check(factory, 16)
    (violation,) = refusal.value.fields
    assert violation.field == FIELD
    assert "ivf_pq" in violation.description


@pytest.mark.parametrize("factory", [*NAMED, "HNSW48,SQ8", "IVF4096,PQ8"])
def test_a_factory_string_that_can_be_is_taken(factory: str) -> None:
    check(factory, 16)


def test_auto_goes_by_size_and_is_explained() -> None:
    assert segment_plan("auto", FLAT_ROWS - 1, 8).kind == "flat"
    assert segment_plan("auto", FLAT_ROWS, 8).kind == "hnsw"
    assert segment_plan("ivf_pq", 40_000, 384).factory == "IVF800,PQ96"
    told = explain("auto", [SegmentSummary("flat", 10), SegmentSummary("hnsw", 5000)], 7)
    for part in ("by the size", "1 flat segment of 10", "1 hnsw segment of 5,000", "7 vectors"):
        assert part in told


def test_segments_of_format_1_are_served_without_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(FOLDER / "retriever-format-1.tar.gz", tmp_path)

    def no_build(self: Sealer, shard: Shard, build: Build) -> None:
        raise AssertionError("a build")

    monkeypatch.setattr(Sealer, "_seal", no_build)
    manifests = {
        file: json.loads(file.read_text()) for file in tmp_path.rglob("segments/*/*/manifest.json")
    }
    assert {manifest["format"] for manifest in manifests.values()} == {1}
    it = Opened(tmp_path)
    try:
        for name, kind in (("books", "hnsw"), ("exact", "flat")):
            shards = it.catalog.get("default", name).shards
            summaries = [item for shard in shards for item in shard.sealed_summaries()]
            assert {item.kind for item in summaries} == {kind}
            named = sum(
                entry["vectors"]
                for manifest in manifests.values()
                for entry in manifest["segments"]
                if manifest["index_kind"] == kind
            )
            assert sum(item.rows for item in summaries) == named
    finally:
        it.close()


def test_a_build_of_few_rows_of_any_kind_gives_an_index(tmp_path: Path) -> None:
    for rows in (1, 7):
        for kind in (*NAMED, "PQ4", "IVF16,Flat"):
            folder = tmp_path / f"{kind}-{rows}"
            folder.mkdir()
            np.save(folder / "vectors.npy", np.ones((rows, 8), np.float16))
            built = build(folder, kind)
            assert (folder / "index.faiss").stat().st_size == built.index.bytes
