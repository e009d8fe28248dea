"""ClusterService of a retriever, by the store that it shares."""

import asyncio
from typing import Any

from services.cluster.placement import ShardGroup
from services.cluster.status import ClusterStatus, MemberStatus, status
from services.retriever.store.interface import SharedStore
from sirdar.errors import FailedPrecondition, InvalidArgument
from sirdar.v1 import cluster_pb2 as pb
from sirdar.v1 import cluster_pb2_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["ClusterService"].full_name
_MAX_NAME_CHARACTERS = 253


class ClusterServicer(cluster_pb2_grpc.ClusterServiceServicer):
    def __init__(self, store: SharedStore | None) -> None:
        """None: it is shared with nobody."""
        self._shared = store

    async def GetCluster(
        self, request: pb.GetClusterRequest, context: Any
    ) -> pb.GetClusterResponse:
        store = self._store()
        return _response(await asyncio.to_thread(_status, store))

    async def DrainMember(
        self, request: pb.DrainMemberRequest, context: Any
    ) -> pb.DrainMemberResponse:
        drained = self._store().drain(_name(request.name), force=request.force)
        await asyncio.wrap_future(drained)
        return pb.DrainMemberResponse()

    async def UndrainMember(
        self, request: pb.UndrainMemberRequest, context: Any
    ) -> pb.UndrainMemberResponse:
        await asyncio.wrap_future(self._store().undrain(_name(request.name)))
        return pb.UndrainMemberResponse()

    async def RemoveMember(
        self, request: pb.RemoveMemberRequest, context: Any
    ) -> pb.RemoveMemberResponse:
        removed = self._store().remove(_name(request.name), force=request.force)
        await asyncio.wrap_future(removed)
        return pb.RemoveMemberResponse()

    def _store(self) -> SharedStore:
        if self._shared is None:
            raise FailedPrecondition(
                "this retriever shares its store with none; set `store` of each to their "
                "PostgreSQL database",
                reason="NOT_A_CLUSTER",
            )
        return self._shared


def _status(store: SharedStore) -> ClusterStatus:
    groups = {
        item.generation.key: (
            ShardGroup(item.namespace, item.name, item.generation.number),
            item.generation.shards,
        )
        for item in store.all_collections()
    }
    return status(store.members(), groups, store.replicas())


def _name(name: str) -> str:
    if not 1 <= len(name) <= _MAX_NAME_CHARACTERS:
        raise InvalidArgument.field("name", f"must be 1 to {_MAX_NAME_CHARACTERS} characters")
    return name


def _response(found: ClusterStatus) -> pb.GetClusterResponse:
    return pb.GetClusterResponse(
        replication=found.replication,
        shards=found.shards,
        fully_replicated_shards=found.fully_replicated,
        members=[_member(item) for item in found.members],
    )


def _member(item: MemberStatus) -> pb.Member:
    member = pb.Member(
        name=item.member.name,
        draining=item.member.draining,
        shards_wanted=item.wanted,
        shards_ready=item.ready,
        shards_to_hand_over=item.to_hand_over,
    )
    member.joined.FromNanoseconds(item.member.since_ns)
    return member
