"""ClusterService at the gateway: a retriever knows."""

from typing import Any

from gateway.backends import Retriever
from sirdar.v1 import cluster_pb2 as pb
from sirdar.v1 import cluster_pb2_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["ClusterService"].full_name


class ClusterServicer(cluster_pb2_grpc.ClusterServiceServicer):
    def __init__(self, retriever: Retriever, limit_seconds: float) -> None:
        self._retriever = retriever
        self._limit_seconds = limit_seconds

    async def GetCluster(
        self, request: pb.GetClusterRequest, context: Any
    ) -> pb.GetClusterResponse:
        method = self._retriever.cluster_rpc.GetCluster
        return await self._retriever.call(method, request, self._limit_seconds)

    async def DrainMember(
        self, request: pb.DrainMemberRequest, context: Any
    ) -> pb.DrainMemberResponse:
        method = self._retriever.cluster_rpc.DrainMember
        return await self._retriever.call(method, request, self._limit_seconds)

    async def UndrainMember(
        self, request: pb.UndrainMemberRequest, context: Any
    ) -> pb.UndrainMemberResponse:
        method = self._retriever.cluster_rpc.UndrainMember
        return await self._retriever.call(method, request, self._limit_seconds)

    async def RemoveMember(
        self, request: pb.RemoveMemberRequest, context: Any
    ) -> pb.RemoveMemberResponse:
        method = self._retriever.cluster_rpc.RemoveMember
        return await self._retriever.call(method, request, self._limit_seconds)
