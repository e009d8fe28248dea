"""Makes data folders to keep for the versions that come.

`python -m tests.retriever_fixture`, to be run once for each format of the store with the last
code that writes it; `tests/rpc/test_retriever_formats.py` opens what it made from then on.
`python -m tests.retriever_fixture quantized`, once for each format of segments;
`tests/unit/test_retriever_index_kinds.py` opens it.
"""

import asyncio
import json
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from services.retriever.segment_manifest import FORMAT_VERSION as SEGMENTS_VERSION
from services.retriever.store.sqlite.schema import FORMAT_VERSION
from sirdar.v1 import document_pb2
from sirdar.v1 import retriever_pb2 as pb
from tests.rpc.retriever_calls import FINGERPRINT, Stub, create, document_write, retriever, write

DOCUMENTS = 90
_COLLECTIONS = {"books": "hnsw", "exact": "flat"}
QUANTIZED_COLLECTIONS = ("hnsw_sq8", "ivf_sq8", "ivf_pq")
_QUANTIZED_ROWS = 2100
_PASSAGES = 50
FOLDER = Path(__file__).parent / "fixtures"


def _write(number: int, text: str) -> pb.DocumentWrite:
    spans = [(at, len(text)) for at in range(1 + number % 3)]
    item = document_write(f"d{number:03}", text, spans=spans)
    item.document.metadata["number"].int64_value = number
    item.document.metadata["tags"].string_list.values.extend([f"tag{number % 4}", "all"])
    return item


def _expected(item: pb.DocumentWrite, receipt: document_pb2.WriteReceipt) -> dict[str, object]:
    return {
        "version": receipt.version,
        "passages": receipt.passages,
        "text": item.document.text,
        "metadata": item.document.SerializeToString(deterministic=True).hex(),
        "vectors": [
            np.frombuffer(passage.vector.data, "<f4").astype("<f2").tobytes().hex()
            for passage in item.passages
        ],
    }


async def _fill(stub: Stub, name: str) -> dict[str, object]:
    """Documents written, some of them again, some deleted; what is to be there."""
    live: dict[str, object] = {}
    first = [_write(at, f"text of {at} " + "word " * (1 + at % 5)) for at in range(DOCUMENTS)]
    again = [_write(at, f"second text of {at} and more") for at in range(0, DOCUMENTS, 7)]
    for batch in (first, again):
        outcomes = await stub.WriteDocuments(
            pb.WriteDocumentsRequest(collection=name, writes=batch, fingerprint=FINGERPRINT)
        )
        for item, outcome in zip(batch, outcomes.outcomes, strict=True):
            live[item.document.id] = _expected(item, outcome.receipt)
    gone = [f"d{at:03}" for at in range(0, DOCUMENTS, 5)]
    await stub.DeleteDocuments(
        pb.RetrieverServiceDeleteDocumentsRequest(collection=name, document_ids=gone)
    )
    return {key: value for key, value in live.items() if key not in gone}


async def _sealed(stub: Stub) -> None:
    while True:
        shards = (await stub.ListShards(pb.ListShardsRequest())).shards
        seen = all(shard.lexical_seq == shard.committed_seq for shard in shards)
        if seen and all(shard.sealed_segments for shard in shards):
            return
        await asyncio.sleep(0.1)


async def make(folder: Path) -> None:
    async with retriever(folder, seal_vectors=32) as stub:
        expected = {}
        for name, kind in _COLLECTIONS.items():
            await create(stub, name, index_kind=kind, shards=2)
            expected[name] = await _fill(stub, name)
        await _sealed(stub)
    (folder / "LOCK").unlink()
    (folder / "expected.json").write_text(json.dumps(expected, indent=0, sort_keys=True))


async def make_quantized(folder: Path) -> None:
    """Collections of few documents with many passages, one sealed segment each."""
    async with retriever(folder, seal_vectors=_QUANTIZED_ROWS) as stub:
        for kind in QUANTIZED_COLLECTIONS:
            await create(stub, kind, index_kind=kind, shards=1)
            for at in range(_QUANTIZED_ROWS // _PASSAGES + 2):
                text = f"text of {at}"
                item = document_write(f"d{at}", text, spans=[(0, len(text))] * _PASSAGES)
                await write(stub, item, collection=kind)
            gone = pb.RetrieverServiceDeleteDocumentsRequest(collection=kind, document_ids=["d1"])
            await stub.DeleteDocuments(gone)
        await _sealed(stub)
    (folder / "LOCK").unlink()


if __name__ == "__main__":
    quantized = sys.argv[1:] == ["quantized"]
    with tempfile.TemporaryDirectory() as made:
        asyncio.run((make_quantized if quantized else make)(Path(made)))
        name = f"quantized-{SEGMENTS_VERSION}" if quantized else f"format-{FORMAT_VERSION}"
        with tarfile.open(FOLDER / f"retriever-{name}.tar.gz", "w:gz") as archive:
            for path in sorted(Path(made).rglob("*")):
                archive.add(path, path.relative_to(made), recursive=False)
