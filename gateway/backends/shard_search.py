"""Searches over retrievers that have different shards: each is asked for what it has."""

import asyncio
import time
from collections.abc import Sequence
from typing import TypeAlias

from gateway.backends.picture import Group, Picture
from gateway.backends.replicas import Choice, Read, Replicas
from gateway.backends.shard_answers import completed, joined
from sirdar.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from sirdar.v1 import common_pb2, retriever_pb2

Request: TypeAlias = retriever_pb2.SearchPassagesRequest
Response: TypeAlias = retriever_pb2.SearchPassagesResponse
Part: TypeAlias = tuple[Sequence[int], Response]
# What one group of shards may fail with, and the others be answered.
_MISSABLE = (Unavailable, DeadlineExceeded, ResourceExhausted)


class ShardSearch:
    def __init__(self, replicas: Replicas, read: Read[Response], picture: Picture) -> None:
        self._replicas = replicas
        self._read = read
        self._picture = picture

    async def search(self, request: Request, limit_seconds: float) -> Response:
        """One call for all shards that the same retrievers have. What an answer lacks is asked of
        the others; what it lacks then, its coverage says. Raises the errors of `Endpoint.call`
        where no group answers."""
        until = time.monotonic() + limit_seconds
        groups = self._picture.groups(request.namespace, request.collection)
        if len(groups) > 1:
            found, in_vain = await self._search_groups(request, limit_seconds, groups)
            return await self._completed(request, found, until, (), in_vain)
        holders = groups[0].holders if groups else self._replicas.everyone
        choice = Choice(holders, _is_strong(request))
        found, place = await self._replicas.search(self._read, request, limit_seconds, choice)
        return await self._completed(request, found, until, (place,), frozenset())

    async def _search_groups(
        self, request: Request, limit_seconds: float, groups: Sequence[Group]
    ) -> tuple[Response, frozenset[int]]:
        """What the groups found together, and the shards of those that failed."""
        outcomes = await asyncio.gather(
            *(self._search_group(request, limit_seconds, group) for group in groups),
            return_exceptions=True,
        )
        parts: list[Part] = []
        missing: list[int] = []
        failure: BaseException | None = None
        for group, outcome in zip(groups, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                parts.append((group.shards, outcome))
            elif isinstance(outcome, _MISSABLE):
                missing += group.shards
                failure = failure or outcome
            else:
                raise outcome
        if not parts and failure is not None:
            raise failure
        return joined(request, parts, missing), frozenset(missing)

    async def _search_group(self, request: Request, limit_seconds: float, group: Group) -> Response:
        choice = Choice(group.holders, _is_strong(request))
        of_group = _of_shards(request, group.shards)
        return (await self._replicas.search(self._read, of_group, limit_seconds, choice))[0]

    async def _completed(
        self,
        request: Request,
        found: Response,
        until: float,
        asked: tuple[int, ...],
        in_vain: frozenset[int],
    ) -> Response:
        """The picture may be a moment old, or there is none yet: what an answer lacks is asked of
        one after the other of those who were not asked for it. `in_vain`: all who have these
        were asked."""
        while lacking := [item for item in found.coverage.missing_shards if item not in in_vain]:
            narrowed = _of_shards(request, lacking)
            again = await self._replicas.search_others(self._read, narrowed, until, asked)
            if again is None:
                break
            more, place = again
            asked = (*asked, place)
            if more.coverage.shards_answered:
                found = completed(request, found, lacking, more)
        return found


def _is_strong(request: Request) -> bool:
    return request.consistency == common_pb2.CONSISTENCY_STRONG


def _of_shards(request: Request, shards: Sequence[int]) -> Request:
    narrowed = Request()
    narrowed.CopyFrom(request)
    narrowed.ClearField("shards")
    narrowed.shards.extend(shards)
    return narrowed
