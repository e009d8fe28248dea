"""The tiers of a stack, as data: what each is started with."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
METRICS_OFFSET = 90
HTTP_OFFSET = 80


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is: the ports of each tier by its name, the data, the model.

    `http_port` is the gateway's.
    """

    ports: Mapping[str, int]
    metrics_ports: Mapping[str, int]
    http_port: int
    data_folder: Path
    model: str = ""
    """The embedder's; empty: its default."""
    reranker_model: str = ""

    def address(self, tier: str) -> str:
        return f"{HOST}:{self.ports[tier]}"

    @property
    def http_address(self) -> str:
        return f"{HOST}:{self.http_port}"


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier: the module that `python -m` runs, its port next to the gateway's, its settings.

    `settings` gives what differs by tier, without the prefix `SIRDAR_<KIND>_`;
    `kind` is the name unless several processes are of one tier.
    """

    name: str
    module: str
    port_offset: int
    settings: Callable[[Layout], Mapping[str, str]]
    kind: str = ""

    @property
    def of(self) -> str:
        """The kind of tier that it is."""
        return self.kind or self.name

    def environment(self, layout: Layout) -> dict[str, str]:
        """The environment variables that configure the tier."""
        settings = {
            "HOST": HOST,
            "PORT": str(layout.ports[self.name]),
            "METRICS_PORT": str(layout.metrics_ports[self.name]),
            **self.settings(layout),
        }
        return {f"SIRDAR_{self.of.upper()}_{key}": value for key, value in settings.items()}


def _retriever(layout: Layout) -> Mapping[str, str]:
    return {"DATA_FOLDER": str(layout.data_folder / "retriever")}


def _embedder(layout: Layout) -> Mapping[str, str]:
    return {"MODEL": layout.model} if layout.model else {}


def _reranker(layout: Layout) -> Mapping[str, str]:
    return {"MODEL": layout.reranker_model} if layout.reranker_model else {}


def _gateway(layout: Layout) -> Mapping[str, str]:
    return {"HTTP_PORT": str(layout.http_port), **tier_addresses(layout)}


def tier_addresses(layout: Layout) -> dict[str, str]:
    """The settings of a gateway that say where the other tiers are. Of several retrievers it
    chooses by itself, between the replicas of the others gRPC does, in turn."""
    retrievers = [layout.address(name) for name in _names(layout, "retriever")]
    settings = {"RETRIEVER_ADDRESSES": json.dumps(retrievers)}
    for kind in ("embedder", "reranker"):
        addresses = [layout.address(name) for name in _names(layout, kind)]
        if addresses:
            alone = len(addresses) == 1
            settings[f"{kind.upper()}_ADDRESS"] = (
                addresses[0] if alone else f"ipv4:///{','.join(addresses)}"
            )
    return settings


def _names(layout: Layout, kind: str) -> list[str]:
    """Of the tiers of this kind; of retrievers the one that writes, then its read replicas."""
    return [name for name in layout.ports if name.partition("-")[0] == kind]


# In the order in which they stop last to first: whoever asks goes before who answers.
TIERS: Sequence[Tier] = (
    Tier("retriever", "services.retriever", 2, _retriever),
    Tier("embedder", "services.embedder", 1, _embedder),
    Tier("reranker", "services.reranker", 3, _reranker),
    Tier("gateway", "gateway", 0, _gateway),
)


def with_replicas(tiers: Sequence[Tier], replicas: int) -> Sequence[Tier]:
    """The tiers with as many retrievers for each shard, at ports behind the reranker's: the one
    there is, and read replicas of it."""
    writer = next((tier for tier in tiers if tier.name == "retriever"), None)
    if writer is None:
        return tiers
    at = tiers.index(writer) + 1
    added = [_replica(writer, number) for number in range(2, replicas + 1)]
    return (*tiers[:at], *added, *tiers[at:])


def _replica(writer: Tier, number: int) -> Tier:
    name = f"retriever-{number}"

    def settings(layout: Layout) -> Mapping[str, str]:
        return {
            "DATA_FOLDER": str(layout.data_folder / name),
            "FOLLOW": str(layout.data_folder / "retriever"),
        }

    return Tier(name, writer.module, 2 + number, settings, kind="retriever")


def layout_at(
    port: int,
    tiers: Sequence[Tier],
    data_folder: Path,
    model: str = "",
    reranker_model: str = "",
) -> Layout:
    """The layout whose gateway is at `port` and the rest beside it."""
    return Layout(
        ports={tier.name: port + tier.port_offset for tier in tiers},
        metrics_ports={tier.name: port + METRICS_OFFSET + tier.port_offset for tier in tiers},
        http_port=port + HTTP_OFFSET,
        data_folder=data_folder,
        model=model,
        reranker_model=reranker_model,
    )
