"""Texts to model inputs, with the model's own tokenizer and without transformers."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Read by the tokenizers library at its first batch: its own threads would take
# the cores from the engine.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer

from services.inference.batch import TokenizedItem
from services.runtime.cpu import available_cpus

# A short query takes 11 us to tokenize, a trip to another thread and back about 60.
INLINE_CHARACTERS = 512
# Texts that are tokenized at once; the memory of their encodings is bounded so.
CHUNK_TEXTS = 64


class TextTokenizer:
    """Cuts texts at the model's window.

    Configured once and never changed after, so threads may share it: the
    library refuses ("Already borrowed") only when one changes it while another
    encodes. `encode_batch_fast` is the one call that releases the GIL.
    """

    def __init__(self, tokenizer_json: str, max_tokens: int) -> None:
        """`tokenizer_json` is the content of a tokenizer.json file."""
        self._tokenizer = new_tokenizer(tokenizer_json)
        self._tokenizer.enable_truncation(max_tokens)
        self._whole = new_tokenizer(tokenizer_json)
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="tokenizer")

    @property
    def special_tokens(self) -> int:
        """How many tokens the model puts around one text."""
        return int(self._whole.num_special_tokens_to_add(False))

    def encode(self, texts: Sequence[str]) -> list[TokenizedItem]:
        """One item a text; blocks."""
        return tokenize(self._tokenizer, texts)

    async def encode_off_loop(self, texts: Sequence[str]) -> list[TokenizedItem]:
        """The same for the event loop, which it holds only for what is shorter than a hop."""
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return self.encode(texts)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.encode, texts)

    def count(self, text: str) -> int:
        """The tokens of a text, special ones not counted, uncut. Blocks."""
        return len(self._whole.encode_batch_fast([text], add_special_tokens=False)[0])

    def prefix(self, text: str, tokens: int) -> tuple[str, int]:
        """The longest start of a text with at most so many tokens, and how many it has.

        Special tokens are not counted. Blocks.
        """
        encoding = self._whole.encode(text, add_special_tokens=False)
        if len(encoding) <= tokens:
            return text, len(encoding)
        return text[: encoding.offsets[tokens - 1][1]], tokens

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def new_tokenizer(tokenizer_json: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json file, which neither pads nor cuts."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def tokenize(
    tokenizer: Tokenizer, inputs: Sequence[str] | Sequence[tuple[str, str]]
) -> list[TokenizedItem]:
    """One item an input, a text or a pair of texts; blocks."""
    items: list[TokenizedItem] = []
    for start in range(0, len(inputs), CHUNK_TEXTS):
        chunk = list(inputs[start : start + CHUNK_TEXTS])
        items.extend(
            TokenizedItem(
                np.array(encoding.ids, np.int64),
                np.array(encoding.type_ids, np.int64),
                bool(encoding.overflowing),
            )
            for encoding in tokenizer.encode_batch_fast(chunk)
        )
    return items
