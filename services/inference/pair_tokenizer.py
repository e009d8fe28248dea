"""Pairs of texts to the inputs of a cross-encoder, with the model's own tokenizer."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.inference.batch import TokenizedItem
from services.inference.tokenizer import CHUNK_TEXTS, INLINE_CHARACTERS, new_tokenizer, tokenize
from services.runtime.cpu import available_cpus

# English has five characters a token. What lies behind so many a token of the window is
# not looked at: a megabyte takes 500 ms to tokenize, this much of it 4.
_CHARACTERS_A_TOKEN = 32


class PairTokenizer:
    """Cuts the longer text of a pair at the model's window, as CrossEncoder does.

    The query is tokenized again with every passage: an eighth of the tokenizing,
    which takes 2 % of the engine's time.
    """

    def __init__(self, tokenizer_json: str, max_tokens: int) -> None:
        """`tokenizer_json` is the content of a tokenizer.json file."""
        self._tokenizer = new_tokenizer(tokenizer_json)
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._characters = _CHARACTERS_A_TOKEN * max_tokens
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="tokenizer")

    def encode(self, query: str, passages: Sequence[str]) -> list[TokenizedItem]:
        """One item a passage; blocks."""
        start = query[: self._characters]
        items = tokenize(self._tokenizer, [(start, text[: self._characters]) for text in passages])
        longest = max(len(query), *map(len, passages)) if passages else 0
        if longest <= self._characters:
            return items
        cut = len(query) > self._characters
        return [
            TokenizedItem(item.token_ids, item.type_ids, truncated=True)
            if cut or len(text) > self._characters
            else item
            for item, text in zip(items, passages, strict=True)
        ]

    async def encode_off_loop(self, query: str, passages: Sequence[str]) -> list[TokenizedItem]:
        """The same for the event loop, which it holds only for what is shorter than a hop."""
        if len(query) * len(passages) + sum(map(len, passages)) <= INLINE_CHARACTERS:
            return self.encode(query, passages)
        loop = asyncio.get_running_loop()
        items: list[TokenizedItem] = []
        # Chunk by chunk: a caller that gives up stops its work, and none keeps a thread.
        for start in range(0, len(passages), CHUNK_TEXTS):
            chunk = passages[start : start + CHUNK_TEXTS]
            items += await loop.run_in_executor(self._threads, self.encode, query, chunk)
        return items

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
