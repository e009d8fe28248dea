"""Texts become the tokens that transformers makes of them, whatever is cut."""

import asyncio
import random
from functools import cache
from typing import Any

import pytest

from tests.small_model import minilm

PROSE = "The flow over a wing was measured twice, at 3.5 and 7 degrees; it heated the body. "


@cache
def reference(side: str) -> Any:
    """The model's tokenizer as transformers runs it, cutting at this side."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds

    from services.inference.source import model_folder  # noqa: PLC0415

    folder = model_folder(minilm().source)
    return AutoTokenizer.from_pretrained(folder, truncation_side=side, model_max_length=256)


def reference_ids(text: str, side: str) -> list[int]:
    ids: list[int] = reference(side)(text, truncation=True, max_length=256)["input_ids"]
    return ids


def texts() -> list[str]:
    """Short and long ones, of odd words and white space."""
    chosen = random.Random(0)
    letters = "aeiourst \u4e16\u00e9.-\U0001f600"
    odd = ["".join(chosen.choices(letters, k=chosen.randint(1, 400))) for _ in range(40)]
    long = [
        PROSE * 300,
        "word " * 20_000,
        "x" * 20_000,
        "a " + "y" * 20_000 + " b",
        " " * 20_000 + "end",
        "start" + " " * 20_000 + "end",
        "longword" * 12 + " " + ("z" * 99 + " ") * 300,
        "\u4e16\u754c" * 8_000,
    ]
    return ["", " ", *odd, *long]


@pytest.mark.parametrize("keep_end", [False, True])
def test_tokens_are_those_of_transformers(keep_end: bool) -> None:
    tokenizer = minilm().tokenizer
    items = tokenizer.encode(texts(), keep_end=keep_end)
    side = "left" if keep_end else "right"
    for text, item in zip(texts(), items, strict=True):
        assert item.token_ids.tolist() == reference_ids(text, side), text[:40]
        whole = len(reference(side)(text)["input_ids"])
        assert item.truncated == (whole > 256), text[:40]
        assert item.type_ids.tolist() == [0] * item.tokens


@pytest.mark.parametrize("prompt", ["query: ", "Represent this sentence for retrieval: "])
def test_prompt_stays_in_front_of_the_end(prompt: str) -> None:
    tokenizer = minilm().tokenizer
    head = reference("left")(prompt, add_special_tokens=False)["input_ids"]
    for text in (PROSE * 20, PROSE * 300, "x" * 90 + " " + PROSE * 50):
        (item,) = tokenizer.encode([text], prompt, keep_end=True)
        tail = reference("left")(text, add_special_tokens=False)["input_ids"]
        expected = [101, *head, *tail[-(254 - len(head)) :], 102]
        assert item.token_ids.tolist() == expected
        assert item.truncated


def test_prompt_that_fills_the_window_is_cut_itself() -> None:
    (item,) = minilm().tokenizer.encode(["text " * 300], "prompt " * 300, keep_end=True)
    assert item.token_ids.tolist() == reference_ids("prompt " * 300, "right")


def test_many_texts_off_the_loop_are_the_same_as_one_by_one() -> None:
    tokenizer = minilm().tokenizer
    many = [f"{PROSE} {number}" * (number % 7) for number in range(200)]
    together = tokenizer.encode(many, "query: ")
    for text, item in zip(many, together, strict=True):
        (alone,) = tokenizer.encode([text], "query: ")
        assert alone.token_ids.tolist() == item.token_ids.tolist()


def test_end_of_a_long_text_without_blanks() -> None:
    """400 windows of it are cut off: what is quadratic in them takes minutes."""
    chinese = "\u4e16\u754c" * 50_000
    (item,) = minilm().tokenizer.encode([chinese], keep_end=True)
    world, boundary = reference("left")("\u4e16\u754c", add_special_tokens=False)["input_ids"]
    assert item.token_ids.tolist() == [101, *[world, boundary] * 127, 102]
    assert item.truncated


def test_longest_start_of_a_title() -> None:
    tokenizer = minilm().tokenizer
    assert tokenizer.prefix("flow over a wing", 3) == ("flow over a", 3)
    assert tokenizer.prefix("flow over a wing", 4) == ("flow over a wing", 4)
    start, tokens = tokenizer.prefix("word " * 400_000, 60)
    assert (start, tokens) == (("word " * 60).strip(), 60)
    # 100 characters are one token at most; of a token no more than 32 are looked at.
    assert tokenizer.prefix("x" * 2_000_000, 60) == ("x" * 60 * 32, 1)


async def test_many_empty_texts_do_not_hold_the_loop() -> None:
    others = asyncio.Event()
    asyncio.get_running_loop().call_soon(others.set)
    items = await minilm().tokenizer.encode_off_loop([""] * 2_048)
    assert [item.tokens for item in items] == [2] * 2_048
    assert others.is_set()


async def test_short_and_long_texts_off_the_loop() -> None:
    tokenizer = minilm().tokenizer
    for many in ([], ["a"], [PROSE], [PROSE] * 200):
        off = await tokenizer.encode_off_loop(many, "query: ")
        expected = tokenizer.encode(many, "query: ")
        assert [i.token_ids.tolist() for i in off] == [i.token_ids.tolist() for i in expected]


def test_estimate_learns_what_texts_look_like_and_never_passes_the_window() -> None:
    from services.inference.source import model_folder  # noqa: PLC0415
    from services.inference.tokenizer import TextTokenizer  # noqa: PLC0415

    json_text = (model_folder(minilm().source) / "tokenizer.json").read_text()
    tokenizer = TextTokenizer(json_text, 256)
    chinese = ["\u6f22\u5b57\u4eee\u540d" * 20] * 64
    before = tokenizer.estimate(chinese)
    for _ in range(20):
        actual = sum(item.tokens for item in tokenizer.encode(chinese))
    assert before < actual / 2
    assert abs(tokenizer.estimate(chinese) - actual) < 0.2 * actual
    assert tokenizer.estimate(["x" * 5_000_000, "y" * 5_000_000]) == 2 * 256
    assert tokenizer.estimate([]) == 0
    tokenizer.close()
