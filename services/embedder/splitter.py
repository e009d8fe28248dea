"""Documents to passages that fit the model's window."""

from collections.abc import Iterator
from dataclasses import dataclass

from semantic_text_splitter import TextSplitter

from services.inference.batch import TokenizedItem
from services.inference.tokenizer import TextTokenizer

# A piece counts as one token for this many characters at least (English prose has 5).
# Text that the model sees as a few huge unknown words is split all the same, and
# candidates that are plainly too long are not tokenized: half the time of splitting.
_CHARACTERS_PER_TOKEN = 8
# The splitter takes time beyond linear in the length of text without white space;
# longer text is cut into segments of so many characters first.
_SEGMENT_CHARACTERS = 16_000
# The title may take this share of the window.
_TITLE_SHARE = 0.25
_LEAST_CAPACITY_TOKENS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """`text[start:end]` of a document, as the model gets it."""

    start: int
    end: int
    item: TokenizedItem


class PassageSplitter:
    """Splits at paragraph, sentence and word boundaries, in this order of preference.

    Each passage is embedded as prompt, title and a line break in front of its
    text. Neighbours overlap by whole sentences where these are short enough.
    """

    def __init__(
        self, tokenizer: TextTokenizer, *, prompt: str, window_tokens: int, overlap_tokens: int
    ) -> None:
        """`window_tokens` holds everything: special tokens, prompt, title, passage."""
        self._tokenizer = tokenizer
        self._prompt = prompt
        room = window_tokens - tokenizer.special_tokens - tokenizer.count(prompt)
        self._room_tokens = max(room, _LEAST_CAPACITY_TOKENS)
        self._window_tokens = window_tokens
        self._overlap_tokens = overlap_tokens

    def estimate(self, title: str, text: str) -> tuple[int, int]:
        """About how many passages a document has and how many tokens these, uncounted."""
        tokens = self._tokenizer.estimate_uncut(text)
        head = self._tokenizer.estimate_uncut(title) if title else 0
        fixed = (
            self._window_tokens
            - self._room_tokens
            + min(head, int(_TITLE_SHARE * self._room_tokens))
        )
        room = max(_LEAST_CAPACITY_TOKENS, self._window_tokens - fixed)
        if tokens <= room:
            return 1, tokens + fixed
        step = max(1, room - min(self._overlap_tokens, room // 2) // 2)
        passages = -(-tokens // step)
        return passages, tokens + passages * (fixed + room - step)

    def split(self, title: str, text: str) -> list[Passage]:
        """The passages of a document in the order of its text; blocks.

        Together they cover all of the text but white space; empty when there is
        nothing else in it.
        """
        start = len(text) - len(text.lstrip())
        end = len(text.rstrip())
        if start >= end:
            return []
        lead = f"{self._prompt}{title}\n" if title else self._prompt
        # What is longer than this is surely split; most documents are not.
        if end - start <= self._window_tokens * _CHARACTERS_PER_TOKEN:
            (item,) = self._tokenizer.encode([lead + text[start:end]])
            if not item.truncated and item.tokens <= self._window_tokens:
                return [Passage(start, end, item)]
        return self._split_long(title, text)

    def _split_long(self, title: str, text: str) -> list[Passage]:
        lead, capacity = self._prompt, self._room_tokens
        if title:
            title, taken = self._tokenizer.prefix(title, int(_TITLE_SHARE * self._room_tokens))
            lead += f"{title}\n"
            capacity -= taken
        overlap = min(self._overlap_tokens, capacity // 2)
        pieces = [
            piece
            for at, segment in _segments(text, overlap * _CHARACTERS_PER_TOKEN)
            for piece in self._pieces(segment, at, capacity, overlap)
        ]
        items = self._tokenizer.encode([lead + piece for _, piece in pieces])
        passages: list[Passage] = []
        for (at, piece), item in zip(pieces, items, strict=True):
            if item.truncated or item.tokens > self._window_tokens:
                passages.extend(self._split_again(lead, piece, at, capacity))
            else:
                passages.append(Passage(at, at + len(piece), item))
        # The last piece of a segment, or of one that was split again, may start behind the
        # overlap with which the next begins.
        return sorted(passages, key=lambda passage: (passage.start, passage.end))

    def _split_again(self, lead: str, text: str, at: int, capacity: int) -> Iterator[Passage]:
        """For what turned out too long: some tokenizers count differently behind a title."""
        capacity = max(1, capacity * 3 // 4)
        pieces = self._pieces(text, at, capacity, 0)
        items = self._tokenizer.encode([lead + piece for _, piece in pieces])
        for (start, piece), item in zip(pieces, items, strict=True):
            if (item.truncated or item.tokens > self._window_tokens) and len(piece) > 1:
                yield from self._split_again(lead, piece, start, capacity)
            else:
                yield Passage(start, start + len(piece), item)

    def _pieces(
        self, text: str, at: int, capacity_tokens: int, overlap_tokens: int
    ) -> list[tuple[int, str]]:
        def size(piece: str) -> int:
            least = -(-len(piece) // _CHARACTERS_PER_TOKEN)
            return least if least > capacity_tokens else max(least, self._tokenizer.count(piece))

        splitter = TextSplitter.from_callback(size, capacity_tokens, overlap_tokens)
        return [(at + start, piece) for start, piece in splitter.chunk_indices(text)]


def _segments(text: str, overlap_characters: int) -> list[tuple[int, str]]:
    """The text in parts that the splitter is fast on, overlapping like passages do."""
    if len(text) <= _SEGMENT_CHARACTERS:
        return [(0, text)]
    segments: list[tuple[int, str]] = TextSplitter(
        _SEGMENT_CHARACTERS, overlap_characters
    ).chunk_indices(text)
    return segments
