"""Texts to model inputs, with the model's own tokenizer and without transformers."""

import asyncio
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Read by the tokenizers library at its first batch: its own threads would take
# the cores from the engine.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding, Tokenizer

from services.inference.batch import TokenizedItem
from services.runtime.cpu import available_cpus

# A short query takes 11 us to tokenize, a trip to another thread and back about 60.
INLINE_CHARACTERS = 512
# An empty text takes 10 us, as long as so many characters.
TEXT_CHARACTERS = 32
# Texts that are tokenized at once; the memory of their encodings is bounded so.
CHUNK_TEXTS = 64
# English has five characters a token. What lies behind so many a token of the window is
# looked at only where this much did not fill it: 100,000 characters take 50 ms.
_REACH_CHARACTERS_PER_TOKEN = 32
# Of English, until texts were seen. A text of another script has as few as one.
_FIRST_CHARACTERS_PER_TOKEN = 4.5
# A chunk of 64 texts of 70 tokens moves the ratio by a fifth.
_REMEMBERED_TOKENS = 16_384


class TextTokenizer:
    """Cuts texts at the model's window.

    Configured once and never changed after, so threads may share it: the
    library refuses ("Already borrowed") only when one changes it while another
    encodes. Only `encode_batch_fast` and `encode_batch`, which tells offsets, too,
    release the GIL.
    """

    def __init__(self, tokenizer_json: str, max_tokens: int) -> None:
        """`tokenizer_json` is the content of a tokenizer.json file."""
        self._tokenizer = new_tokenizer(tokenizer_json)
        self._tokenizer.enable_truncation(max_tokens)
        self._whole = new_tokenizer(tokenizer_json)
        self.special_tokens = int(self._whole.num_special_tokens_to_add(False))
        """How many tokens the model puts around one text."""
        self.max_tokens = max_tokens
        self._reach = _REACH_CHARACTERS_PER_TOKEN * max_tokens
        self._tokens_per_character = 1 / _FIRST_CHARACTERS_PER_TOKEN
        # Nearly every model has zeros for a text that is no pair: one array for all texts.
        (sample,) = self._whole.encode_batch_fast(["a"])
        self._zeros = None if any(sample.type_ids) else np.zeros(max_tokens, np.int64)
        self._front, self._type_id, self._behind = _around(sample)
        self._threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="tokenizer")

    def estimate(self, texts: Sequence[str], prompt: str = "") -> int:
        """About how many tokens the texts have, at most the window each.

        Told from their characters: 20 us for a hundred texts, so it can be asked
        before it is known whether they will be tokenized at all.
        """
        ratio, most = self._tokens_per_character, self.max_tokens
        fixed = self.special_tokens + len(prompt) * ratio
        return math.ceil(sum([min(most, fixed + len(text) * ratio) for text in texts]))

    def estimate_uncut(self, text: str) -> int:
        """About how many tokens a text has, special ones not counted, however long it is."""
        return math.ceil(len(text) * self._tokens_per_character)

    def encode(
        self, texts: Sequence[str], prompt: str = "", *, keep_end: bool = False
    ) -> list[TokenizedItem]:
        """One item a text, with the prompt in front of it; blocks.

        Of a text that is too long the end is cut, or, to keep the end, the start
        behind the prompt.
        """
        items: list[TokenizedItem] = []
        for start in range(0, len(texts), CHUNK_TEXTS):
            items += self._encode_chunk(texts[start : start + CHUNK_TEXTS], prompt, keep_end)
        return items

    async def encode_off_loop(
        self, texts: Sequence[str], prompt: str = "", *, keep_end: bool = False
    ) -> list[TokenizedItem]:
        """The same for the event loop, which it holds only for what is shorter than a hop."""
        fixed = (len(prompt) + TEXT_CHARACTERS) * len(texts)
        if fixed + sum(map(len, texts)) <= INLINE_CHARACTERS:
            return self._encode_chunk(texts, prompt, keep_end)
        loop = asyncio.get_running_loop()
        items: list[TokenizedItem] = []
        # Chunk by chunk: a caller that gives up stops its work, and none keeps a thread.
        for start in range(0, len(texts), CHUNK_TEXTS):
            chunk = texts[start : start + CHUNK_TEXTS]
            items += await loop.run_in_executor(
                self._threads, self._encode_chunk, chunk, prompt, keep_end
            )
        return items

    def count(self, text: str) -> int:
        """The tokens of a text, special ones not counted, uncut. Blocks."""
        return len(self._whole.encode_batch_fast([text], add_special_tokens=False)[0])

    def prefix(self, text: str, tokens: int) -> tuple[str, int]:
        """The longest start of a text with at most so many tokens, and how many it has.

        Special tokens are not counted; a start has at most 32 characters a token. Blocks.
        """
        start = text[: _REACH_CHARACTERS_PER_TOKEN * tokens]
        (code,) = self._whole.encode_batch([start], add_special_tokens=False)
        if len(code) <= tokens:
            return start, len(code)
        return start[: _end_of(code, tokens - 1)], tokens

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _encode_chunk(
        self, texts: Sequence[str], prompt: str, keep_end: bool
    ) -> list[TokenizedItem]:
        long = [index for index, text in enumerate(texts) if len(text) > self._reach]
        inputs = [prompt + text for text in texts] if prompt else list(texts)
        for index in long:
            inputs[index] = prompt + _first_words(texts[index], self._reach)
        items = [self._item(code) for code in self._tokenizer.encode_batch_fast(inputs)]
        for index in long:
            # Words of hundreds of characters may be one unknown token each.
            if not items[index].truncated:
                (code,) = self._tokenizer.encode_batch_fast([prompt + texts[index]])
                items[index] = self._item(code)
        self._learn(len(prompt), texts, items)
        if keep_end:
            for index, item in enumerate(items):
                if item.truncated:
                    items[index] = self._end(prompt, texts[index])
        return items

    def _end(self, prompt: str, text: str) -> TokenizedItem:
        """The prompt and the last tokens of a text that is too long."""
        near = _last_words(text, self._reach)
        room = max(0, self.max_tokens - self.special_tokens)
        # Cut by hand: Encoding.truncate keeps all that it cuts off, in pieces, and what
        # merges or post-processes these is quadratic and holds the GIL.
        (code,) = self._whole.encode_batch([prompt + near], add_special_tokens=False)
        if len(code) < room and len(near) < len(text):
            (code,) = self._whole.encode_batch([prompt + text], add_special_tokens=False)
        kept, most = 0, min(room, len(code)) if prompt else 0
        while kept < most and _end_of(code, kept) <= len(prompt):
            kept += 1
        ids = code.ids
        tail = ids[max(kept, len(ids) - (room - kept)) :]
        (front, front_types), (behind, behind_types) = self._front, self._behind
        token_ids = np.array([*front, *ids[:kept], *tail, *behind], np.int64)
        if self._zeros is None:
            types = [*front_types, *[self._type_id] * (kept + len(tail)), *behind_types]
            return TokenizedItem(token_ids, np.array(types, np.int64), True)
        return TokenizedItem(token_ids, self._zeros[: len(token_ids)], True)

    def _item(self, code: Encoding) -> TokenizedItem:
        token_ids = np.array(code.ids, np.int64)
        if self._zeros is None:
            type_ids = np.array(code.type_ids, np.int64)
        else:
            type_ids = self._zeros[: len(token_ids)]
        return TokenizedItem(token_ids, type_ids, bool(code.overflowing))

    def _learn(
        self, prompt_characters: int, texts: Sequence[str], items: list[TokenizedItem]
    ) -> None:
        """Moves the ratio towards that of the texts that were not cut.

        Threads may overwrite each other's move: it is an average of many.
        """
        characters = tokens = 0
        for text, item in zip(texts, items, strict=True):
            if not item.truncated:
                characters += prompt_characters + len(text)
                tokens += len(item.token_ids) - self.special_tokens
        if characters:
            share = tokens / (tokens + _REMEMBERED_TOKENS)
            self._tokens_per_character += share * (tokens / characters - self._tokens_per_character)


_Special = tuple[list[int], list[int]]


def _around(sample: Encoding) -> tuple[_Special, int, _Special]:
    """What the model puts in front of and behind the tokens of a text: ids and type ids.

    With the type id of the text itself.
    """
    ids, types, special = sample.ids, sample.type_ids, sample.special_tokens_mask
    if 0 not in special:
        return (ids, types), 0, ([], [])
    start, stop = special.index(0), len(special) - special[::-1].index(0)
    return (ids[:start], types[:start]), types[start], (ids[stop:], types[stop:])


def _end_of(code: Encoding, token: int) -> int:
    """Where in the text a token ends; `offsets` would make a list of all."""
    characters = code.token_to_chars(token)
    assert characters is not None, "special tokens were not asked for"
    return int(characters[1])


def _first_words(text: str, characters: int) -> str:
    """Whole words within so many first characters; all of the text where one word is longer.

    Words are tokenized apart, so the tokens of these are the text's first.
    """
    words = text[:characters].rsplit(maxsplit=1)
    return words[0] if len(words) == 2 else text


def _last_words(text: str, characters: int) -> str:
    """As `_first_words`, from the end, with the white space in front of them."""
    if len(text) <= characters:
        return text
    words = text[-characters:].split(maxsplit=1)
    return text[-len(words[1]) - 1 :] if len(words) == 2 else text


def new_tokenizer(tokenizer_json: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json file, which neither pads nor cuts."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def tokenize(tokenizer: Tokenizer, inputs: Sequence[tuple[str, str]]) -> list[TokenizedItem]:
    """One item a pair of texts; blocks."""
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
