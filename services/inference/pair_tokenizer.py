"""Pairs of texts to the inputs of a cross-encoder, with the model's own tokenizer."""

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.inference.batch import TokenizedItem
from services.inference.tokenizer import (
    CHUNK_TEXTS,
    INLINE_CHARACTERS,
    TEXT_CHARACTERS,
    new_tokenizer,
    tokenize,
)
from services.runtime.cpu import available_cpus

# Of English, until texts were seen. A text of another script has as few as one.
_FIRST_CHARACTERS_A_TOKEN = 4.5
# A chunk of 64 passages moves the ratio by about a third.
_REMEMBERED_TOKENS = 16_384
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
        self._special_tokens = int(self._tokenizer.num_special_tokens_to_add(True))
        self._max_tokens = max_tokens
        self._characters = _CHARACTERS_A_TOKEN * max_tokens
        self._characters_a_token = _FIRST_CHARACTERS_A_TOKEN
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="tokenizer")

    def estimate(self, query: str, passages: Sequence[str]) -> int:
        """About how many tokens the pairs will have, told from their characters alone.

        Each pair counts its query and at most the window. At 26 us for a hundred passages
        it can be asked before it is known whether they will be tokenized at all.
        """
        tokens_a_character = 1.0 / self._characters_a_token
        query_tokens = self._special_tokens + len(query) * tokens_a_character
        limit = float(self._max_tokens)
        return math.ceil(
            sum(min(limit, query_tokens + len(text) * tokens_a_character) for text in passages)
        )

    def encode(self, query: str, passages: Sequence[str]) -> list[TokenizedItem]:
        """One item a passage; blocks."""
        start = query[: self._characters]
        items = tokenize(self._tokenizer, [(start, text[: self._characters]) for text in passages])
        self._learn(len(start), passages, items)
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
        fixed = (len(query) + TEXT_CHARACTERS) * len(passages)
        if fixed + sum(map(len, passages)) <= INLINE_CHARACTERS:
            return self.encode(query, passages)
        loop = asyncio.get_running_loop()
        items: list[TokenizedItem] = []
        # Chunk by chunk: a caller that gives up stops its work, and none keeps a thread.
        for start in range(0, len(passages), CHUNK_TEXTS):
            chunk = passages[start : start + CHUNK_TEXTS]
            items += await loop.run_in_executor(self._threads, self.encode, query, chunk)
        return items

    def _learn(
        self, query_characters: int, passages: Sequence[str], items: Sequence[TokenizedItem]
    ) -> None:
        """Moves the ratio towards that of the pairs that were not cut.

        Threads may overwrite each other's move: it is an average of many.
        """
        characters = tokens = 0
        for text, item in zip(passages, items, strict=True):
            if not item.truncated and len(text) <= self._characters:
                characters += query_characters + len(text)
                tokens += item.tokens - self._special_tokens
        if characters and tokens > 0:
            share = tokens / (tokens + _REMEMBERED_TOKENS)
            self._characters_a_token += share * (characters / tokens - self._characters_a_token)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
