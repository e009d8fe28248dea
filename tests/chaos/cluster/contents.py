"""What documents say, what is asked, and how near these are: by the model that the cluster runs."""

import grpc
import numpy as np
from numpy.typing import NDArray

from sirdar.v1 import embedder_pb2 as pb
from tests.rpc.embedder_calls import array, connect

_SUBJECTS = (
    "The harbour pilot",
    "A beekeeper",
    "The glacier",
    "An old violin",
    "The night train",
    "A copper coin",
    "The baker's oven",
    "A mountain river",
    "The telescope",
    "A migrating stork",
    "The printing press",
    "An olive tree",
)
_PREDICATES = (
    "was described in a letter of the year 1850.",
    "can be seen from the window of the library.",
    "costs more to keep than anybody had thought.",
    "is the subject of the lecture on Friday.",
    "was repaired twice and never failed again.",
)
TEXTS = tuple(f"{subject} {predicate}" for subject in _SUBJECTS for predicate in _PREDICATES)
"""A document says one of these, and no two the same for long."""
QUERIES = (
    "who makes honey?",
    "a ship enters the port",
    "frozen water moves slowly",
    "what is played in an orchestra?",
    "money of metal",
    "travelling by rail in the dark",
    "bread",
    "looking at the stars",
    "birds that fly south",
    "what needs expensive upkeep?",
)


async def similarities(embedder: str) -> NDArray[np.float32]:
    """Of each query to each text, by the embedder at an address: of shape (queries, texts)."""
    async with grpc.aio.insecure_channel(embedder, [("grpc.enable_http_proxy", 0)]) as channel:
        vectors = []
        for texts, kind in ((QUERIES, pb.INPUT_TYPE_QUERY), (TEXTS, pb.INPUT_TYPE_DOCUMENT)):
            request = pb.EmbedTextsRequest(texts=texts, input_type=kind)
            response = await connect(channel).EmbedTexts(request)
            vectors.append(np.stack([array(item.vector) for item in response.embeddings]))
    queries, documents = vectors
    products: NDArray[np.float32] = queries @ documents.T
    return products
