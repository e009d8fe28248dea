"""Tiny pools and rankings for tests of the gateway's stages."""

import struct
from collections.abc import Mapping, Sequence

from gateway.pipeline.ranking import Pool, Ranking
from gateway.pipeline.stages import Unit
from sirdar.v1 import common_pb2, document_pb2, retriever_pb2

Metadata = Mapping[str, document_pb2.MetadataValue]


def passage(
    document: str,
    index: int = 0,
    text: str = "text",
    metadata: Metadata | None = None,
    vector: Sequence[float] = (),
) -> retriever_pb2.CandidatePassage:
    """With `vector`, of FLOAT16."""
    return retriever_pb2.CandidatePassage(
        document_id=document,
        index=index,
        text=text,
        metadata=metadata or {},
        vector=common_pb2.Vector(
            data=struct.pack(f"<{len(vector)}e", *vector),
            dtype=common_pb2.DTYPE_FLOAT16,
            dimensions=len(vector),
        )
        if vector
        else None,
    )


def pool_of(*passages: retriever_pb2.CandidatePassage) -> Pool:
    pool = Pool()
    pool.add(passages)
    return pool


def ranking(scores: Sequence[float], unit: Unit = Unit.DOCUMENTS) -> Ranking:
    """The places 0, 1, 2, ... with these scores, found by meaning."""
    found = dict(enumerate(scores))
    return Ranking(unit, found, similarities=found)
