"""Several processes of each tier on one machine: their settings, and shapes that make no sense."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.settings import GatewaySettings
from services.embedder.settings import EmbedderSettings
from services.reranker.settings import RerankerSettings
from services.retriever.settings import RetrieverSettings
from services.runtime.settings import ServerSettings, load_settings
from services.stack.cluster import Shape
from services.stack.command import up
from services.stack.tiers import layout_at
from sirdar.errors import InvalidArgument

_CLASSES: dict[str, type[ServerSettings]] = {
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "retriever": RetrieverSettings,
    "reranker": RerankerSettings,
}
_STORE = "postgresql://sirdar@127.0.0.1:5432/search"


def loaded(
    shape: Shape, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, ServerSettings]:
    """The settings that each tier starts with, by its name."""
    tiers = shape.tiers()
    layout = layout_at(7700, tiers, folder)
    found = {}
    for tier in tiers:
        with monkeypatch.context() as patch:
            for name, value in {**shape.environment(), **tier.environment(layout)}.items():
                patch.setenv(name, value)
            found[tier.name] = load_settings(_CLASSES[tier.of], [])
    return found


def test_retrievers_share_a_store_and_gateways_know_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(
        retrievers=4,
        replicas=2,
        embedders=2,
        rerankers=3,
        gateways=2,
        store=_STORE,
        cache="redis://127.0.0.1:6379",
    )
    settings: dict[str, Any] = dict(loaded(shape, tmp_path, monkeypatch))
    retrievers = [settings[f"retriever-{number}"] for number in range(1, 5)]
    assert {one.name for one in retrievers} == {f"retriever-{number}" for number in range(1, 5)}
    assert len({one.data_folder for one in retrievers}) == 4
    assert {one.replication for one in retrievers} == {2}
    assert {one.store.get_secret_value() for one in retrievers} == {_STORE}
    for gateway in (settings["gateway"], settings["gateway-2"]):
        assert gateway.retriever_addresses == tuple(f"127.0.0.1:{one.port}" for one in retrievers)
        embedders = [settings[name].port for name in ("embedder", "embedder-2")]
        assert gateway.embedder_address == "ipv4:///" + ",".join(
            f"127.0.0.1:{port}" for port in embedders
        )
        assert gateway.reranker_address.count("127.0.0.1") == 3
        assert gateway.cache_url.get_secret_value() == "redis://127.0.0.1:6379"
    assert (settings["gateway"].port, settings["gateway"].http_port) == (7700, 7780)
    assert settings["gateway-2"].http_port is None
    ports = [one.port for one in settings.values()] + [7780]
    ports += [one.metrics_port for one in settings.values()]
    assert len(set(ports)) == len(ports)


def test_one_of_each_is_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = dict(loaded(Shape(), tmp_path, monkeypatch))
    assert list(settings) == ["retriever", "embedder", "reranker", "gateway"]
    assert settings["gateway"].embedder_address == "127.0.0.1:7701"
    assert settings["retriever"].store.get_secret_value() == "sqlite"


def test_replicas_without_a_store_follow_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shape in (Shape(replicas=2), Shape(retrievers=2, replicas=2)):
        settings: dict[str, Any] = dict(loaded(shape, tmp_path, monkeypatch))
        assert settings["retriever-2"].follow == settings["retriever"].data_folder


def test_the_largest_cluster_has_ports_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most: dict[str, Any] = dict.fromkeys(("retrievers", "embedders", "rerankers", "gateways"), 16)
    settings: dict[str, Any] = dict(loaded(Shape(**most, store=_STORE), tmp_path, monkeypatch))
    ports = [one.port for one in settings.values()] + [7780]
    ports += [one.metrics_port for one in settings.values()]
    assert len(set(ports)) == len(ports) == 129


BAD: list[tuple[dict[str, Any], str]] = [
    ({"retrievers": 3}, "--retrievers is 3.*name a PostgreSQL that they share with --store"),
    ({"retrievers": 1, "replicas": 2}, "--retrievers is 1, and --replicas is 2"),
    (
        {"retrievers": 2, "replicas": 3, "store": _STORE},
        "--replicas is 3.*raise --retrievers to 3",
    ),
    ({"store": "mysql://host/db"}, "--store must be postgresql://"),
    ({"cache": "127.0.0.1:6379"}, "--cache must be redis://HOST:PORT"),
]


@pytest.mark.parametrize(("shape", "said"), BAD, ids=[said for _, said in BAD])
def test_shapes_that_make_no_sense_are_refused(shape: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        Shape(**shape)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--retrievers", "2"], "--store"),
        (["--rerankers", "2", "--reranker", "none"], "--rerankers is 2, and --reranker none"),
    ],
)
def test_the_command_refuses_before_anything_starts(
    tmp_path: Path, options: list[str], said: str
) -> None:
    folder = tmp_path / "data"
    app = typer.Typer()
    app.command()(up)
    refused = CliRunner().invoke(app, ["--data", str(folder), *options])
    assert refused.exit_code == 2
    assert said in refused.output
    assert not folder.exists()


def test_json_is_what_settings_read() -> None:
    tiers = Shape(replicas=2, store=_STORE).tiers()
    layout = layout_at(7700, tiers, Path("data"))
    gateway = next(tier for tier in tiers if tier.name == "gateway").environment(layout)
    addresses = json.loads(gateway["SIRDAR_GATEWAY_RETRIEVER_ADDRESSES"])
    assert addresses == ["127.0.0.1:7702", "127.0.0.1:7704"]
