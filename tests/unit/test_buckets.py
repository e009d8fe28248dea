"""The shapes that batches on a GPU are rounded up to."""

from services.inference.buckets import Buckets
from services.inference.engine import EngineInfo


def test_lengths_are_rounded_up_to_few() -> None:
    buckets = Buckets(8192, 4096)
    rounded = [buckets.shape(1, tokens)[1] for tokens in range(1, 1025)]
    assert all(width >= tokens for tokens, width in enumerate(rounded, 1))
    padding = [1 - tokens / width for tokens, width in enumerate(rounded, 1)]
    assert max(padding[16:]) < 0.3
    assert len(set(rounded)) <= 24
    assert not any(width % 8 for width in rounded)


def test_no_row_is_wider_than_the_window_of_the_model() -> None:
    buckets = Buckets(8192, 100)
    assert buckets.shape(1, 97) == (1, 100)
    # What is longer all the same is computed as it is.
    assert buckets.shape(1, 120) == (1, 120)
    assert buckets.widths()[-2:] == (96, 100)


def test_rows_of_small_batches_are_rounded_up_to_few_counts() -> None:
    buckets = Buckets(1024, 512)
    assert buckets.shapes()[-4:] == [(1, 384), (2, 384), (1, 512), (2, 512)]
    known = set(buckets.shapes())
    for tokens in range(1, 513):
        for rows in range(1, 1024 // buckets.width(tokens) + 1):
            shape = buckets.shape(rows, tokens)
            assert shape in known
            assert rows <= shape[0] <= max(rows, 1.5 * rows + 1)
    assert buckets.shape(9, 512) == (9, 512)
    # A full batch has no rows of padding.
    assert Buckets(1000, 512).shape(20, 48) == (20, 48)


def test_padding_of_rows_counts_as_work() -> None:
    info = EngineInfo("torch", "fp16", "cuda:0", 2, 32_768, buckets=Buckets(32_768, 512))
    assert info.mean_width([30, 10, 20, 5, 7]) == 6 * 32 / 5
    assert info.mean_width([300]) == 320
