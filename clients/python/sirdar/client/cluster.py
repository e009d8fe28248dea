"""The retrievers that share a store, for those who run a cluster."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar

import grpc

from sirdar.client import encode
from sirdar.client.channel import MAX_MESSAGE_BYTES, Tls, open_channel
from sirdar.errors import from_rpc_error
from sirdar.v1 import cluster_pb2, cluster_pb2_grpc

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Member:
    """A retriever, by what it said last. `shards_to_hand_over`: those that it has and not as many
    others are ready with as are to be without it."""

    name: str
    draining: bool
    joined: datetime
    shards_wanted: int
    shards_ready: int
    shards_to_hand_over: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """`replication`: on how many members each shard is to be."""

    replication: int
    shards: int
    fully_replicated_shards: int
    members: tuple[Member, ...]

    @property
    def fully_replicated(self) -> bool:
        return self.fully_replicated_shards == self.shards


class ClusterClient:
    """Talks to a gateway or a retriever. Every method raises errors of `sirdar.errors`; those
    that name a member NotFound."""

    def __init__(
        self,
        address: str = "127.0.0.1:7700",
        *,
        timeout_seconds: float = 30.0,
        tls: Tls | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._channel = open_channel(address, tls, MAX_MESSAGE_BYTES)
        self._stub = cluster_pb2_grpc.ClusterServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def status(self) -> Cluster:
        """Raises FailedPrecondition where there is no cluster."""
        answer = self._call(
            lambda seconds: self._stub.GetCluster(cluster_pb2.GetClusterRequest(), timeout=seconds)
        )
        return Cluster(
            answer.replication,
            answer.shards,
            answer.fully_replicated_shards,
            tuple(_member(item) for item in answer.members),
        )

    def drain(self, name: str, *, force: bool = False) -> None:
        """Lets a member have no shards any more, and does not wait for it. Raises
        FailedPrecondition where too few would be left."""
        request = cluster_pb2.DrainMemberRequest(name=encode.text("name", name), force=force)
        self._call(lambda seconds: self._stub.DrainMember(request, timeout=seconds))

    def undrain(self, name: str) -> None:
        """Lets a member have shards again."""
        request = cluster_pb2.UndrainMemberRequest(name=encode.text("name", name))
        self._call(lambda seconds: self._stub.UndrainMember(request, timeout=seconds))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Forgets a member that has drained. Raises FailedPrecondition where it has not."""
        request = cluster_pb2.RemoveMemberRequest(name=encode.text("name", name), force=force)
        self._call(lambda seconds: self._stub.RemoveMember(request, timeout=seconds))

    def _call(self, call: Callable[[float], T]) -> T:
        try:
            return call(self._timeout_seconds)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def _member(item: cluster_pb2.Member) -> Member:
    return Member(
        item.name,
        item.draining,
        item.joined.ToDatetime(tzinfo=UTC),
        item.shards_wanted,
        item.shards_ready,
        item.shards_to_hand_over,
    )
