"""Inputs whose outputs are known: what the reference made of them is kept with each model."""

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TEXTS_FILE = "golden_texts.jsonl"
_PAIRS_FILE = "golden_pairs.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class GoldenVectors:
    """What sentence-transformers itself makes of varied texts, as documents, in fp32 on the CPU."""

    texts: tuple[str, ...]
    """Without the document prompt that was put in front of them."""
    vectors: NDArray[np.float32]
    """[texts, dimensions]"""


def golden_texts() -> tuple[str, ...]:
    """About 200 texts: short, long, empty, of many languages, code and numbers."""
    return tuple(str(text) for text in _lines(_TEXTS_FILE))


def golden_pairs() -> tuple[tuple[str, str], ...]:
    """About 50 pairs of a query and a passage that answers it, or does not."""
    return tuple(
        (str(query), str(passage))
        for query, passages in _lines(_PAIRS_FILE)
        for passage in passages
    )


def golden_bytes() -> bytes:
    """The files that the inputs come from: other inputs have other references."""
    package = resources.files(__package__)
    return b"".join((package / name).read_bytes() for name in (_TEXTS_FILE, _PAIRS_FILE))


def _lines(name: str) -> list[Any]:
    text = (resources.files(__package__) / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
