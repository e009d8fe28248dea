"""Measures one library over vectors from files; run by peers.py in an environment of its own.

    python peer_process.py LIBRARY VECTORS.npy QUERIES.npy TRUTH.npy THREADS

Prints `recall queries_per_second` for each width of search. Only NumPy and the
library are imported: the environment has nothing else.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# Links of a node of the graph; twice as many on its lowest layer, as in HNSW32.
LINKS = 32
BUILD_WIDTH = 100
WIDTHS = (10, 14, 20, 28, 40, 64, 96, 128)
K = 10
TURNS = 3

Search = Callable[[int, Any], Any]


def hnswlib_search(vectors: Any, threads: int) -> Search:
    import hnswlib  # noqa: PLC0415

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=LINKS, ef_construction=BUILD_WIDTH)
    index.set_num_threads(threads)
    index.add_items(vectors)

    def search(width: int, queries: Any) -> Any:
        index.set_ef(width)
        return index.knn_query(queries, k=K, num_threads=threads)[0]

    return search


def usearch_search(vectors: Any, threads: int) -> Search:
    from usearch.index import Index  # noqa: PLC0415

    index = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f16",
        connectivity=LINKS,
        expansion_add=BUILD_WIDTH,
    )
    index.add(np.arange(len(vectors)), vectors, threads=threads)

    def search(width: int, queries: Any) -> Any:
        index.expansion_search = width
        return index.search(queries, K, threads=threads).keys

    return search


def qdrant_search(vectors: Any, threads: int) -> Search:
    import qdrant_edge as edge  # noqa: PLC0415

    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            size=vectors.shape[1],
            distance=edge.Distance.Dot,
            datatype=edge.VectorStorageDatatype.Float16,
        ),
        hnsw_config=edge.HnswIndexConfig(
            m=LINKS, ef_construct=BUILD_WIDTH, full_scan_threshold=10, max_indexing_threads=threads
        ),
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=10),
        max_search_threads=threads,
    )
    # Lives as long as the process.
    folder = tempfile.mkdtemp()
    shard = edge.EdgeShard.create(folder, config)
    for start in range(0, len(vectors), 1000):
        points = [
            edge.Point(id=start + at, vector=row.tolist(), payload={})
            for at, row in enumerate(vectors[start : start + 1000])
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    pool = ThreadPoolExecutor(threads)

    def search(width: int, queries: Any) -> Any:
        parameters = edge.SearchParams(hnsw_ef=width)

        def one(query: Any) -> list[int]:
            request = edge.QueryRequest(query=edge.Query.Nearest(query), limit=K, params=parameters)
            return [point.id for point in shard.query(request)]

        found = list(pool.map(one, [query.tolist() for query in queries]))
        return np.array([[*row, *[-1] * (K - len(row))] for row in found])

    return search


LIBRARIES = {"hnswlib": hnswlib_search, "usearch": usearch_search, "qdrant": qdrant_search}


def main() -> None:
    library, vectors_file, queries_file, truth_file, threads = sys.argv[1:]
    vectors, queries, truth = (np.load(file) for file in (vectors_file, queries_file, truth_file))
    search = LIBRARIES[library](vectors, int(threads))
    for width in WIDTHS:
        found = search(width, queries)
        hits = sum(
            len(set(a).intersection(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True)
        )
        rates = []
        for _ in range(TURNS):
            started = time.perf_counter()
            search(width, queries)
            rates.append(len(queries) / (time.perf_counter() - started))
        print(hits / truth.size, sorted(rates)[TURNS // 2], flush=True)


if __name__ == "__main__":
    main()
