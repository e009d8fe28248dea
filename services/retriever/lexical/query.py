"""Plain words to a query of one index, scored by BM25 with the statistics of all of them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tantivy

from services.retriever.lexical.analyzers import prepared
from services.retriever.lexical.index import INDEX_OPTION, SCHEMA, WORDS

MAX_QUERY_CHARACTERS = 32_768
# The rarest say the most: on Cranfield, whose queries have up to 40 words, 16 are enough.
_MAX_WORDS = 64


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a query: its weight (how often it is there), in how many passages of all
    shards it is."""

    text: str
    weight: int
    passages: int


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a query that are in the index; `passages`: of all shards."""

    words: tuple[Word, ...]
    passages: int


def read_words(
    text: str, analyzer: tantivy.TextAnalyzer, searchers: Sequence[tantivy.Searcher]
) -> Words:
    """No character of the text means anything but itself."""
    counts: Mapping[str, int] = Counter(analyzer.analyze(prepared(text)))
    words = [
        Word(word, count, sum(searcher.doc_freq(WORDS, word) for searcher in searchers))
        for word, count in counts.items()
    ]
    known = sorted((word for word in words if word.passages), key=lambda word: word.passages)
    return Words(tuple(known[:_MAX_WORDS]), sum(searcher.num_docs for searcher in searchers))


def query_of(words: Words, searcher: tantivy.Searcher) -> tantivy.Query | None:
    """Any of the words; None: none of them is in this index.

    tantivy scores with the rarity of words in the one index: it is replaced by
    that in all shards, so that the scores of shards compare.
    """
    parts: list[tuple[tantivy.Occur, tantivy.Query]] = []
    for word in words.words:
        here = searcher.doc_freq(WORDS, word.text)
        if here:
            rarity = _idf(word.passages, words.passages) / _idf(here, searcher.num_docs)
            term = tantivy.Query.term_query(SCHEMA, WORDS, word.text, INDEX_OPTION)
            weighted = tantivy.Query.boost_query(term, word.weight * rarity)
            parts.append((tantivy.Occur.Should, weighted))
    return tantivy.Query.boolean_query(parts) if parts else None


def _idf(passages_with: int, passages: int) -> float:
    """Of BM25 as Lucene and tantivy have it; passages that are deleted and not yet merged away
    may be among the first number."""
    return math.log1p((max(passages, passages_with) - passages_with + 0.5) / (passages_with + 0.5))
