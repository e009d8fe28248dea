"""After 30 % was deleted: recall and latency beside a fresh index of the rest, and the space."""

from pathlib import Path
from statistics import median

import numpy as np
import uvloop

from benchmarks.harness.command import Figures
from benchmarks.retriever.bench import Bench
from benchmarks.retriever.client import (
    connected,
    found_documents,
    searches,
    single_seconds,
    write,
)
from benchmarks.retriever.corpus import K as _K
from benchmarks.retriever.corpus import nearest, recall, write_messages
from sirdar.v1 import retriever_pb2 as pb

_WORN, _FRESH = "worn", "fresh"
_DELETED_OF = 10
_DELETED = 3
_A_MESSAGE = 500
_QUERIES = 500


def measure(bench: Bench) -> Figures:
    """One shard each, so that both have segments of one size. The space is what the files of
    the segments take before and after; what is deleted is 30 % of it."""
    count = bench.scale.delete_vectors
    rows = range(count)
    gone = [row for row in rows if row % _DELETED_OF < _DELETED]
    kept = [row for row in rows if row % _DELETED_OF >= _DELETED]
    for name, filled in ((_WORN, rows), (_FRESH, kept)):
        bench.create(name, shards=1)
        messages = write_messages(name, bench.corpus, filled)
        bench.callers.run(write, bench.address, messages, 4)
        bench.settle(name)
    full = _folder_bytes(bench.segments_folder(_WORN))
    uvloop.run(_delete(bench.address, [str(row) for row in gone]))
    # Before any merge: what is deleted is still in the segments.
    queries = bench.corpus.queries[:_QUERIES]
    best = nearest(bench.corpus.vectors[kept], queries, _K)
    truth = np.array(kept)[best].tolist()
    losses, ratios = [_compare(bench, truth)], [_latency(bench)]
    bench.settle(_WORN)
    rest = _folder_bytes(bench.segments_folder(_WORN))
    losses.append(_compare(bench, truth))
    ratios.append(_latency(bench))
    returned = (full - rest) / (full * len(gone) / count)
    bench.say(
        f"deletes: recall lost {losses[0]:.4f} at once and {losses[1]:.4f} merged, p50 "
        f"{ratios[0]:.2f} and {ratios[1]:.2f} times a fresh index's, {returned:.3f} of the space "
        "returned"
    )
    return {
        "delete_recall_loss": max(losses),
        "delete_p50_ratio": max(ratios),
        "space_returned": returned,
    }


def _compare(bench: Bench, truth: list[list[int]]) -> float:
    queries = bench.corpus.queries[:_QUERIES]
    recalls = []
    for name in (_FRESH, _WORN):
        messages = searches(name, queries, 8, ids_only=False, documents_with_text=0)
        found = bench.callers.run(found_documents, bench.address, messages)
        recalls.append(recall(found, truth))
    return recalls[0] - recalls[1]


def _latency(bench: Bench) -> float:
    queries = bench.corpus.queries[:_QUERIES]
    seconds: dict[str, list[float]] = {_WORN: [], _FRESH: []}
    for _ in range(2):
        for name in (_WORN, _FRESH):
            messages = searches(name, queries, 1)
            seconds[name] += bench.callers.run(single_seconds, bench.address, messages)
    return median(seconds[_WORN]) / median(seconds[_FRESH])


async def _delete(address: str, ids: list[str]) -> None:
    async with connected(address) as stub:
        for start in range(0, len(ids), _A_MESSAGE):
            await stub.DeleteDocuments(
                pb.RetrieverServiceDeleteDocumentsRequest(
                    collection=_WORN, document_ids=ids[start : start + _A_MESSAGE]
                )
            )


def _folder_bytes(folder: Path) -> int:
    """Of the files of segments; the words beside them are not counted."""
    files = (file for file in folder.glob("*/*") if file.is_file())
    return sum(file.stat().st_size for file in files)
