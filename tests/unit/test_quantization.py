"""Vectors in fewer bits stay near what they were, and mean the same on every machine."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import quantize_embeddings

from services.inference.engine import normalize
from services.inference.quantization import Int8Ranges, pack_signs
from tests.small_model import minilm


def vectors(rows: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    """Of different spread and offset in each dimension."""
    random = np.random.default_rng(seed)
    spread = random.uniform(0.01, 3, dimensions)
    offset = random.uniform(-5, 5, dimensions)
    return (random.normal(0, 1, (rows, dimensions)) * spread + offset).astype(np.float32)


def lowest_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    products = np.einsum("ij,ij->i", one, other)
    return float((products / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).min())


def test_restored_components_are_within_half_a_step() -> None:
    rows = vectors(100, 24)
    ranges = Int8Ranges.calibrate(rows)
    error = np.abs(ranges.restore(ranges.quantize(rows)) - rows)
    assert (error <= (ranges.maximums - ranges.minimums) / 255 * 0.501).all()


def test_ranges_have_room_beyond_the_texts_that_made_them() -> None:
    rows = vectors(100, 24)
    ranges = Int8Ranges.calibrate(rows)
    low, high = rows.min(axis=0), rows.max(axis=0)
    assert (ranges.minimums <= low - 0.1 * (high - low)).all()
    assert (ranges.maximums >= high + 0.1 * (high - low)).all()


def test_values_outside_are_clipped_and_do_not_wrap() -> None:
    rows = vectors(100, 4)
    ranges = Int8Ranges.calibrate(rows)
    quantized = ranges.quantize(np.array([[1e9] * 4, [-1e9] * 4], np.float32))
    assert quantized.tolist() == [[127] * 4, [-128] * 4]


def test_dimension_that_never_changes_has_a_range() -> None:
    rows = np.array([[1.0, 0.0], [1.0, 0.5]], np.float32)
    ranges = Int8Ranges.calibrate(rows)
    assert (ranges.maximums > ranges.minimums).all()
    assert np.abs(ranges.restore(ranges.quantize(rows)) - rows).max() < 0.01


def test_same_formula_as_sentence_transformers() -> None:
    rows = vectors(100, 24)
    ranges = Int8Ranges.calibrate(rows)
    both = np.stack([ranges.minimums, ranges.maximums])
    theirs = np.asarray(quantize_embeddings(rows, "int8", ranges=both)).astype(int)
    # They cut what lies between two steps, here it is rounded.
    assert np.abs(ranges.quantize(rows).astype(int) - theirs).max() <= 1


def test_real_vectors_keep_their_direction() -> None:
    golden = minilm().golden.vectors
    ranges = Int8Ranges.calibrate(golden)
    assert lowest_cosine(ranges.restore(ranges.quantize(golden)), golden) > 0.9998
    held_out = Int8Ranges.calibrate(golden[::2])
    assert lowest_cosine(held_out.restore(held_out.quantize(golden[1::2])), golden[1::2]) > 0.9998


@pytest.mark.parametrize("seed", range(20))
def test_machines_that_round_differently_come_to_the_same_ranges(seed: int) -> None:
    golden = minilm().golden.vectors
    noise = np.random.default_rng(seed).normal(0, 1e-7, golden.shape).astype(np.float32)
    assert Int8Ranges.calibrate(golden + noise).digest() == Int8Ranges.calibrate(golden).digest()


def test_other_ranges_have_another_digest() -> None:
    rows = vectors(100, 24)
    assert Int8Ranges.calibrate(rows).digest() != Int8Ranges.calibrate(rows * 4).digest()


@pytest.mark.parametrize("dimensions", [7, 64, 200, 384])
def test_ranges_of_fewer_dimensions_hold_the_vectors_that_were_scaled_up(dimensions: int) -> None:
    golden = minilm().golden.vectors
    ranges = Int8Ranges.calibrate(golden).cut(dimensions, normalized=True)
    rows = normalize(golden[:, :dimensions])
    assert lowest_cosine(ranges.restore(ranges.quantize(rows)), rows) > 0.999


def test_ranges_of_vectors_that_keep_their_length_are_only_cut() -> None:
    ranges = Int8Ranges.calibrate(vectors(50, 8))
    cut = ranges.cut(3, normalized=False)
    assert cut.minimums.tolist() == ranges.minimums[:3].tolist()


def test_signs_are_packed_as_sentence_transformers_packs_them() -> None:
    rows = vectors(10, 24)
    assert pack_signs(rows).tolist() == np.asarray(quantize_embeddings(rows, "ubinary")).tolist()


def test_last_byte_of_signs_is_filled_up_with_zeros() -> None:
    rows = np.array([[1, -1, 0, 1, 1, -1, -1, 1, 1, 1]], np.float32)
    assert pack_signs(rows).tolist() == [[0b10011001, 0b11000000]]
