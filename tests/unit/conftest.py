"""Fixtures of more than one file."""

import pytest

from services.inference import model_cache
from services.inference.conversion import convert


@pytest.fixture
def convert_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converts in this process: a child would import torch anew, 5 seconds, for each model."""
    monkeypatch.setattr(model_cache, "convert_in_child", convert)
