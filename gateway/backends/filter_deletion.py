"""Deleting by a filter over retrievers that write, each of them some shards."""

import time

from gateway.backends.picture import Picture
from gateway.backends.replicas import Read, Replicas
from sirdar.errors import Unavailable
from sirdar.v1 import retriever_pb2

Request = retriever_pb2.RetrieverServiceDeleteByFilterRequest
Response = retriever_pb2.RetrieverServiceDeleteByFilterResponse


async def delete_by_filter(
    replicas: Replicas,
    write: Read[Response],
    picture: Picture,
    request: Request,
    limit_seconds: float,
) -> Response:
    """One call where a writer has all shards, else one after the other. What was deleted before a
    call failed stays deleted. Raises Unavailable where no writer has a shard."""
    groups = picture.groups(request.namespace, request.collection)
    writers = picture.writers
    if not groups or not writers:
        return await replicas.write(write, request, limit_seconds)
    whole = writers.intersection(*(group.holders for group in groups))
    if whole:
        return await replicas.write(write, request, limit_seconds, whole)
    until = time.monotonic() + limit_seconds
    done = Response()
    for group in groups:
        among = writers & group.holders
        if not among:
            shards = ", ".join(map(str, group.shards))
            raise Unavailable(
                f"no retriever that takes writes has the shards {shards} just now; "
                f"{done.documents} documents were met so far: repeat the call",
                reason="INCOMPLETE",
            )
        part = Request()
        part.CopyFrom(request)
        part.shards.extend(group.shards)
        answer = await replicas.write(write, part, until - time.monotonic(), among)
        done.documents += answer.documents
        done.consistency_tokens.extend(answer.consistency_tokens)
    return done
