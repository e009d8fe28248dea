"""Indexes a document, finds it by its meaning, deletes it."""

import os
import uuid
from pathlib import Path

from sirdar.client import Client, Document, Tls

ca_file = os.environ.get("CA_FILE")
tls = Tls(ca_file=Path(ca_file)) if ca_file else None
collection = f"helm-test-{uuid.uuid4().hex[:12]}"
note = Document(id="sea", text="Ships leave the harbour at dawn.")
with Client(os.environ["ADDRESS"], timeout_seconds=60, tls=tls) as client:
    client.create_collection(collection)
    try:
        for outcome in client.index(collection, [note]):
            assert outcome.ok, outcome.error
        found = [result.document_id for result in client.search(collection, "when do we sail?")]
        assert found == ["sea"], f"found {found}"
    finally:
        client.delete_collection(collection)
print("indexed, found and deleted a document")
