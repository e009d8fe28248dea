"""A cluster on one machine: several processes of each tier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.stack.tiers import TIERS, Layout, Tier, tier_addresses, with_replicas
from sirdar.errors import InvalidArgument

# Behind the ports of one of each, in the order in which they stop last to first.
_FIRST_OFFSET = 4
_CACHES = ("redis://", "rediss://", "unix://")
# Ports of HTTP and of metrics follow.
MOST = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of each tier there are, and where documents and answers are kept.

    `replicas` is how many retrievers have each shard. `store` is the address of a PostgreSQL that
    the retrievers share; without one the first keeps documents in its data folder, and the others
    are read replicas of it. `cache` is the address of a Redis.

    Raises InvalidArgument that names the option, and the fix.
    """

    retrievers: int | None = None
    replicas: int = 1
    embedders: int = 1
    rerankers: int = 1
    gateways: int = 1
    store: str = ""
    cache: str = ""

    def __post_init__(self) -> None:
        if self.store and not self.store.startswith(("postgresql://", "postgres://")):
            raise InvalidArgument.field(
                "--store", "must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            )
        if self.cache and not self.cache.startswith(_CACHES):
            raise InvalidArgument.field(
                "--cache", "must be redis://HOST:PORT, rediss:// with TLS, or unix://PATH"
            )
        if self.retrievers is None or self.retrievers == 1 == self.replicas:
            return
        if not self.store and self.retrievers != self.replicas:
            raise InvalidArgument.field(
                "--retrievers",
                f"is {self.retrievers}, and --replicas is {self.replicas}; without --store all are "
                "replicas of the first: leave --retrievers out, or name a PostgreSQL that they "
                "share with --store",
            )
        if self.replicas > self.retrievers:
            raise InvalidArgument.field(
                "--replicas",
                f"is {self.replicas}, and there are {self.retrievers} retrievers to have them: "
                f"raise --retrievers to {self.replicas}",
            )

    def tiers(self) -> Sequence[Tier]:
        """One of each where the one there always is, the others at ports behind them."""
        if not self.store:
            tiers = list(with_replicas(TIERS, self.replicas))
        else:
            tiers = [*self._shared(), *(tier for tier in TIERS if tier.name != "retriever")]
        offset = 1 + max(tier.port_offset for tier in tiers)
        for kind, count in (
            ("embedder", self.embedders),
            ("reranker", self.rerankers),
            ("gateway", self.gateways),
        ):
            at = next(at for at, tier in enumerate(tiers) if tier.name == kind)
            added = [_another(tiers[at], number, offset + number) for number in range(count - 1)]
            offset += len(added)
            tiers[at + 1 : at + 1] = added
        return tiers

    def environment(self) -> dict[str, str]:
        """Settings that all of a tier have."""
        found: dict[str, str] = {}
        if self.store:
            found["SIRDAR_RETRIEVER_STORE"] = self.store
            found["SIRDAR_RETRIEVER_REPLICATION"] = str(self.replicas)
        if self.cache:
            found["SIRDAR_GATEWAY_CACHE_URL"] = self.cache
        return found

    def _shared(self) -> list[Tier]:
        first = next(tier for tier in TIERS if tier.name == "retriever")
        count = self.replicas if self.retrievers is None else self.retrievers
        offsets = [first.port_offset, *range(_FIRST_OFFSET, _FIRST_OFFSET + count - 1)]
        return [_member(first, number, offset) for number, offset in enumerate(offsets, start=1)]


def _member(first: Tier, number: int, offset: int) -> Tier:
    """A retriever that shares the store with others."""
    name = f"{first.name}-{number}"

    def settings(layout: Layout) -> Mapping[str, str]:
        return {"DATA_FOLDER": str(layout.data_folder / name), "NAME": name}

    return Tier(name, first.module, offset, settings, kind=first.name)


def _another(first: Tier, number: int, offset: int) -> Tier:
    """One more of a tier that keeps nothing."""

    def settings(layout: Layout) -> Mapping[str, str]:
        if first.name == "gateway":
            # HTTP is at the first one.
            return {"HTTP_PORT": "none", **tier_addresses(layout)}
        return first.settings(layout)

    name = f"{first.name}-{number + 2}"
    return Tier(name, first.module, offset, settings, kind=first.name)
