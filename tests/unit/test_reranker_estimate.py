"""How many tokens pairs will have is told without tokenizing, and learned."""

import pytest

from tests.reranker_model import builtin_reranker

QUERY = "What is the height of Everest?"
ENGLISH = "Mount Everest was first climbed by Hillary and Tenzing, who came from the south. " * 3
RARE = "zxqj vwkp qzzx jjkw " * 20


def real(query: str, passages: list[str]) -> int:
    return sum(item.tokens for item in builtin_reranker("fp32").tokenizer.encode(query, passages))


def test_estimate_comes_near_and_learns_the_texts_that_it_sees() -> None:
    tokenizer = builtin_reranker("fp32").tokenizer
    passages = [ENGLISH, "", ENGLISH * 2]
    for _ in range(200):
        expected = real(QUERY, passages)
    assert tokenizer.estimate(QUERY, passages) == pytest.approx(expected, rel=0.1)
    few = tokenizer.estimate(QUERY, [RARE] * 4)
    for _ in range(200):
        expected = real(QUERY, [RARE] * 4)
    # Four letters without a meaning are three or four tokens, not one.
    assert few < 0.7 * expected
    assert tokenizer.estimate(QUERY, [RARE] * 4) == pytest.approx(expected, rel=0.1)


def test_no_pair_counts_more_than_the_window_and_each_counts_its_query() -> None:
    tokenizer = builtin_reranker("fp32").tokenizer
    assert tokenizer.estimate(QUERY, ["word " * 100_000] * 3) == 3 * 320
    assert tokenizer.estimate(QUERY * 1_000, ["a", "b"]) == 2 * 320
    alone = tokenizer.estimate(QUERY, [ENGLISH])
    assert tokenizer.estimate(QUERY, [ENGLISH] * 10) == pytest.approx(10 * alone, abs=10)
    assert tokenizer.estimate(QUERY, []) == 0


def test_texts_that_were_cut_teach_nothing() -> None:
    tokenizer = builtin_reranker("fp32").tokenizer
    real(QUERY, [ENGLISH] * 50)
    before = tokenizer.estimate(QUERY, [ENGLISH])
    for _ in range(50):
        tokenizer.encode(QUERY, ["Everest. " * 5_000] * 4)
    assert tokenizer.estimate(QUERY, [ENGLISH]) == before
