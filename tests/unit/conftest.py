"""Fixtures of more than one file."""

from pathlib import Path

import pytest

from services.inference import model_cache
from services.inference.conversion import convert
from tests.small_model import save_tiny_model
from tests.stores import OpenStore, opener


@pytest.fixture
def convert_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converts in this process: a child would import torch anew, 5 seconds, for each model."""
    monkeypatch.setattr(model_cache, "convert_in_child", convert)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that computes at once; nobody writes to it."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the converted models of a file's tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """What every store promises is tested with each."""
    return opener(request, tmp_path)
