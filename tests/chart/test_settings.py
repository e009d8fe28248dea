"""The settings that the chart gives the tiers are settings of theirs."""

from pathlib import Path

import pytest

from deploy.chart.schema import settings_schema
from gateway.settings import GatewaySettings
from services.embedder.settings import EmbedderSettings
from services.reranker.settings import RerankerSettings
from services.retriever.settings import RetrieverSettings
from services.runtime.settings import ServerSettings, load_settings
from tests.chart.matrix import MATRIX
from tests.chart.objects import config, config_text, objects, pods
from tests.chart.test_objects import STORES

CLASSES: dict[str, type[ServerSettings]] = {
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "reranker": RerankerSettings,
    "retriever": RetrieverSettings,
}


@pytest.mark.parametrize("case", MATRIX)
def test_each_tier_starts_with_its_file_and_environment(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for found in [*objects(case, "Deployment"), *objects(case, "StatefulSet")]:
        tier = found["metadata"]["labels"]["app.kubernetes.io/component"]
        if tier in STORES:
            continue
        (pod,) = pods(found)
        (container,) = pod["containers"]
        settings = CLASSES[tier]
        with monkeypatch.context() as patch:
            for variable in container["env"]:
                of = "postgresql" if "RETRIEVER" in variable["name"] else "redis"
                patch.setenv(variable["name"], variable.get("value", f"{of}://127.0.0.1/db"))
            file = tmp_path / f"{tier}.toml"
            # Where the pod reads it.
            variable = f"SIRDAR_{tier.upper()}_CONFIG_FILE"
            at = {one["name"]: one.get("value") for one in container["env"]}[variable]
            assert at == f"/etc/sirdar/config/{tier}.toml"
            file.write_text(config_text(case, found["metadata"]["name"]))
            patch.setenv(variable, str(file))
            loaded = load_settings(settings, [])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert (loaded.port, loaded.metrics_port) == (ports["grpc"], ports["metrics"])
        assert loaded.health_port == ports.get("health")
        assert loaded.host == "0.0.0.0"
        mounts = {Path(mount["mountPath"]) for mount in container["volumeMounts"]}
        for _, value in loaded:
            # Whatever is read or written is on a volume: the root is read-only.
            if isinstance(value, Path):
                assert mounts & {value, *value.parents}, value


@pytest.mark.parametrize("case", [name for name in MATRIX if name != "settings"])
def test_what_the_chart_decides_is_not_left_to_the_values(case: str) -> None:
    for tier in CLASSES:
        free = settings_schema(tier if tier == "gateway" else f"services.{tier}")["properties"]
        for found in [*objects(case, "Deployment"), *objects(case, "StatefulSet")]:
            name = found["metadata"]["name"]
            if name.endswith(f"-{tier}"):
                assert not free.keys() & config(case, name).keys()


def test_settings_of_the_values_reach_the_tier() -> None:
    gateway = config("settings", "sirdar-gateway")
    assert gateway["rerank_depth"] == 50
    # Helm's numbers are floats: a large one must not arrive as 1e+09.
    assert gateway["cache_bytes"] == 1 << 30
    assert isinstance(gateway["cache_bytes"], int)
    assert config("settings", "sirdar-retriever")["lexical_language"] == "de"


def test_the_gateway_is_told_where_the_tiers_are() -> None:
    settings = config("named otherwise", "find-gateway")
    assert settings["embedder_address"] == "find-embedder.sirdar.svc.example.internal:7701"
    services = {one["metadata"]["name"] for one in objects("named otherwise", "Service")}
    assert {"find-embedder", "find-retriever", "find-reranker"} <= services
    assert "reranker_address" not in config("no reranker", "sirdar-gateway")
