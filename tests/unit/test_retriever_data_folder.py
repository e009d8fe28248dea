"""A data folder that was just made."""

import os
from pathlib import Path

import pytest

from services.retriever.data_folder import own


def test_a_new_folder_is_itself_on_the_disk_before_anything_is_acknowledged_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    with own(tmp_path / "new" / "below") as folder:
        parents = (folder.path.parent, folder.path.parent.parent)
        assert {parent.stat().st_ino for parent in parents} <= synced
