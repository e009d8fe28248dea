"""Long documents become passages that fit the window, cover the text and know their place."""

import itertools
import random

import pytest

from services.embedder.splitter import Passage, PassageSplitter
from tests.small_model import minilm

SENTENCES = [
    f"Sentence {number} says that the flow over wing {number * 7} was measured twice."
    for number in range(200)
]
PROSE = " ".join(SENTENCES)


def splitter(window: int = 256, overlap: int = 32, prompt: str = "") -> PassageSplitter:
    return PassageSplitter(
        minilm().tokenizer, prompt=prompt, window_tokens=window, overlap_tokens=overlap
    )


def uncovered(text: str, passages: list[Passage]) -> str:
    """What of the text is in no passage."""
    left = list(text)
    for passage in passages:
        left[passage.start : passage.end] = [""] * (passage.end - passage.start)
    return "".join(left).strip()


def test_short_document_is_one_passage_without_its_margins() -> None:
    (passage,) = splitter().split("", " \n a short text \t")
    assert (passage.start, passage.end) == (3, 15)


@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003"])
def test_white_space_is_no_passage(text: str) -> None:
    assert splitter().split("a title", text) == []


@pytest.mark.parametrize("title", ["", "Measurements of flow", "a very long title " * 100])
@pytest.mark.parametrize("prompt", ["", "passage: "])
def test_passages_fit_cover_and_end_at_sentences(title: str, prompt: str) -> None:
    passages = splitter(prompt=prompt).split(title, PROSE)
    assert len(passages) > 10
    assert uncovered(PROSE, passages) == ""
    for passage in passages:
        text = PROSE[passage.start : passage.end]
        assert text.startswith("Sentence")
        assert text.endswith(".")
        # Nothing was cut: the model sees the passage's last word.
        assert not passage.item.truncated
        assert passage.item.tokens <= 256
    assert SENTENCES[-1] in PROSE[passages[-1].start : passages[-1].end]


def test_neighbours_overlap() -> None:
    passages = splitter(overlap=40).split("", PROSE)
    for one, next_one in itertools.pairwise(passages):
        assert one.start < next_one.start < one.end < next_one.end


def test_title_stands_in_front_of_every_passage() -> None:
    tokenizer = minilm().tokenizer
    passages = splitter().split("Supersonic title", PROSE)
    (alone,) = tokenizer.encode(["Supersonic title"])
    title = alone.token_ids[1:-1].tolist()
    for passage in passages:
        assert passage.item.token_ids[1 : 1 + len(title)].tolist() == title


def test_spans_count_code_points() -> None:
    text = "\N{GRINNING FACE} Größe \N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}. " * 200
    passages = splitter().split("", text)
    assert uncovered(text, passages) == ""
    (again,) = minilm().tokenizer.encode([text[passages[3].start : passages[3].end]])
    assert again.token_ids.tolist() == passages[3].item.token_ids.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "\u6f22\u5b57\u4eee\u540d" * 10_000,
        "a\n" * 20_000,
        "word " * 20_000,
        "a" + " " * 100_000 + "b",
        "...!?" * 10_000,
    ],
    ids=["one word", "no spaces", "lines", "one line", "white space", "punctuation"],
)
def test_any_long_text_is_split_and_covered(text: str) -> None:
    passages = splitter().split("title", text)
    assert uncovered(text, passages) == ""
    assert all(not passage.item.truncated for passage in passages)
    # Even one endless word: a passage is something that can be shown.
    assert all(passage.end - passage.start <= 8 * 256 for passage in passages)
    assert len(passages) < len(text) / 50


@pytest.mark.parametrize("seed", range(3))
def test_passages_come_in_the_order_of_their_starts(seed: int) -> None:
    """Over 16,000 characters the splitter works in segments, which overlap, too."""
    chosen = random.Random(seed)
    text = " ".join(
        "".join(chosen.choices("aeionrst", k=chosen.randint(2, 9)))
        + (". " if chosen.random() < 0.07 else "")
        for _ in range(10_000)
    )
    passages = splitter().split("", text)
    starts = [passage.start for passage in passages]
    assert starts == sorted(starts)
    assert uncovered(text, passages) == ""


def test_smaller_window_than_the_models() -> None:
    passages = splitter(window=64, overlap=8).split("A title", PROSE)
    assert all(passage.item.tokens <= 64 for passage in passages)
    assert uncovered(PROSE, passages) == ""
