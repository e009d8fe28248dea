"""Manifests of segments: what is whole is read, also of older formats; what is not is found out."""

import re

import pytest

from services.retriever.segment_manifest import (
    FORMAT_VERSION,
    SegmentEntry,
    SegmentFile,
    SegmentManifest,
)
from sirdar.errors import DataLoss

FILE = SegmentFile(name="a.faiss", bytes=7, checksum="0" * 32)
ENTRY = SegmentEntry(index=FILE, rows=FILE, vectors=3, kind="flat", live="")
MANIFEST = SegmentManifest(
    format=FORMAT_VERSION,
    generation_key=1,
    shard=2,
    index_kind="flat",
    covered_seq=1000,
    segments=(ENTRY,),
)


def of_format(number: int) -> bytes:
    """The manifest as a build of that format wrote it: without a checksum."""
    return MANIFEST.model_copy(update={"format": number}).model_dump_json(indent=1).encode()


def test_what_is_written_is_read() -> None:
    assert SegmentManifest.parse(MANIFEST.content()) == MANIFEST


def test_every_flipped_bit_is_found() -> None:
    content = MANIFEST.content()
    for at in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[at] ^= 1 << bit
            with pytest.raises(DataLoss):
                SegmentManifest.parse(bytes(flipped))


def test_what_is_cut_is_found() -> None:
    content = MANIFEST.content()
    for at in range(len(content)):
        with pytest.raises(DataLoss):
            SegmentManifest.parse(content[:at])


def test_older_formats_are_read() -> None:
    assert SegmentManifest.parse(of_format(2)).segments == MANIFEST.segments
    first = re.sub(rb' *"(kind|note)": "[^"]*",\n', b"", of_format(1))
    assert SegmentManifest.parse(first).segments == MANIFEST.segments


@pytest.mark.parametrize("number", [0, FORMAT_VERSION, FORMAT_VERSION + 1])
def test_other_formats_are_refused(number: int) -> None:
    with pytest.raises(DataLoss):
        SegmentManifest.parse(of_format(number))
