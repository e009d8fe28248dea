"""What the images install, and what a whole stack of them is told."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from deploy.images.sets import BUILD_FILE, ROOT, SETS, RequirementSet
from gateway.settings import GatewaySettings
from services.embedder.settings import EmbedderSettings
from services.reranker.settings import RerankerSettings
from services.retriever.settings import RetrieverSettings
from services.runtime.settings import ServerSettings

DOCKER = ROOT / "deploy" / "docker"
TIERS: Mapping[str, type[ServerSettings]] = {
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "reranker": RerankerSettings,
    "retriever": RetrieverSettings,
}
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lines: list[str]) -> dict[str, str]:
    found = (_PINNED.match(line) for line in lines)
    return {normal(match[1]): match[2].rstrip("\\") for match in found if match}


@pytest.mark.parametrize(
    "file", [one.file for one in SETS] + [BUILD_FILE], ids=lambda file: file.stem
)
def test_each_requirement_is_locked_by_hash_and_says_no_place(file: Path) -> None:
    text = file.read_text()
    requirements = [part for part in re.split(r"\n(?=[A-Za-z])", text) if "==" in part]
    assert len(requirements) > 3
    for requirement in requirements:
        assert "--hash=sha256:" in requirement, requirement
    assert "://" not in text
    assert "--find-links" not in text
    assert "index-url" not in text


@pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)
def test_images_have_the_versions_that_are_tested(one: RequirementSet) -> None:
    tested = pinned((ROOT / "constraints.txt").read_text().splitlines())
    locked = pinned(one.file.read_text().splitlines())
    both = locked.keys() & tested.keys()
    assert len(both) > 20
    assert {name: locked[name].removesuffix("+cpu") for name in both} == {
        name: tested[name] for name in both
    }


def test_the_stack_tells_each_tier_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert services.keys() == {*TIERS, "redis"}
    for tier, settings in TIERS.items():
        with monkeypatch.context() as patch:
            for name, value in services[tier]["environment"].items():
                patch.setenv(name, value)
                assert name.removeprefix(f"SIRDAR_{tier.upper()}_").lower() in settings.model_fields
            assert settings().host == "0.0.0.0"


class _Compose(yaml.SafeLoader):
    """Knows the tags of compose files."""


def _override(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[object]:
    return list(loader.construct_sequence(node))


_Compose.add_constructor("!override", _override)


def test_a_cluster_tells_its_retrievers_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    # Safe: a SafeLoader with one tag more.
    text = (DOCKER / "compose.cluster.yaml").read_text()
    services = yaml.load(text, Loader=_Compose)["services"]
    assert services.keys() == {"gateway", "retriever", "retriever-2", "postgresql"}
    names = set()
    for service in ("retriever", "retriever-2"):
        with monkeypatch.context() as patch:
            for name, value in services[service]["environment"].items():
                patch.setenv(name, str(value))
            settings = RetrieverSettings()
        assert settings.replication == 2
        assert settings.is_shared
        assert settings.store.get_secret_value() == "postgresql://sirdar@postgresql:5432/sirdar"
        names.add(settings.name)
    assert len(names) == 2
    with monkeypatch.context() as patch:
        for name, value in services["gateway"]["environment"].items():
            patch.setenv(name, value)
        assert set(GatewaySettings().retriever_addresses) == {
            f"{service}:{RetrieverSettings.model_fields['port'].default}"
            for service in ("retriever", "retriever-2")
        }


def test_each_tier_has_an_image_that_runs_as_nobody() -> None:
    stages = re.split(r"(?m)^FROM ", (DOCKER / "Dockerfile").read_text())
    named = {stage.splitlines()[0].split(" AS ")[-1]: stage for stage in stages[1:]}
    assert named.keys() >= TIERS.keys()
    for tier in TIERS:
        assert named[tier].startswith("runtime ")
        assert "USER" not in named[tier]
    assert "\nUSER 10001:10001\n" in named["runtime"]
