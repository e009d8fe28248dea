"""A disk that is full in the middle of indexing, seen through all tiers."""

import subprocess
import time
from pathlib import Path

import pytest

from services.stack.stack import Stack
from sirdar.client import Client, Document
from sirdar.errors import ResourceExhausted


@pytest.mark.root
def test_a_full_disk_refuses_soon_and_what_was_acknowledged_is_served(tmp_path: Path) -> None:
    disk = tmp_path / "retriever"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    try:
        with Stack(tmp_path) as stack, Client(stack.address) as client:
            client.create_collection("notes")
            documents = [
                Document(id=f"d{number}", text=f"Note {number}.", metadata={"more": "x" * 20_000})
                for number in range(300)
            ]
            began = time.monotonic()
            outcomes = list(client.index("notes", documents))
            # Nothing waits for the disk, batch after batch.
            assert time.monotonic() - began < 15
            written = [outcome.document_id for outcome in outcomes if outcome.ok]
            refused = [outcome.error for outcome in outcomes if not outcome.ok]
            assert written
            assert refused
            assert all(isinstance(error, ResourceExhausted) for error in refused)
            assert {error.reason for error in refused if error} == {"STORE_FULL"}
            assert client.get_collection("notes").documents == len(written)
            assert len(client.search("notes", "Note 1.").results) == 10
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            assert all(outcome.ok for outcome in client.index("notes", documents))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
