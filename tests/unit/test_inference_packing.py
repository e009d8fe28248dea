"""Several items in a row: few shapes, little padding, and nobody sees a neighbour."""

import asyncio
import itertools
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.batch import PackedBatch, TokenBatch, TokenizedItem
from services.inference.batch_plan import Budget
from services.inference.engine import EngineInfo
from services.inference.length_queue import Closed, LengthQueue
from services.inference.packed_plan import fullest
from services.inference.packing import Packing
from services.inference.parity import compute_all
from services.inference.work import Job, Waiting
from sirdar.errors import Internal
from tests.small_model import minilm
from tests.unit.gated_engine import (
    INTERACTIVE,
    NOT_A_NUMBER,
    FixedCost,
    GatedEngine,
    busy,
    item,
    metric,
    queued,
    running,
    submit,
)

PACKING = Packing(batch_tokens=768)
ROOM = Budget(seconds=60.0, padded_tokens=768, window_tokens=1e9)


class SpreadingEngine(GatedEngine):
    """Packs; what is not a number in one item is in none of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.info = EngineInfo("fake", "fp32", "cpu", 1, 768, packing=PACKING)

    def run(self, batch: TokenBatch, stream: int) -> NDArray[np.float32]:
        rows = super().run(batch, stream)
        if np.isnan(rows).any():
            rows[:] = np.nan
        return rows


def waiting(loop_lengths: list[int]) -> LengthQueue:
    queue = LengthQueue()
    done: asyncio.Future[None] = asyncio.Future()
    rows = np.empty((len(loop_lengths), 1), np.float32)
    job = Job(INTERACTIVE, rows, done, len(loop_lengths))
    queue.push([Waiting(item(at, tokens), job, at) for at, tokens in enumerate(loop_lengths)])
    return queue


def mixed(count: int, seed: int = 1) -> list[int]:
    draw = random.Random(seed)
    return [min(240, max(6, round(draw.lognormvariate(4.0, 0.8)))) for _ in range(count)]


def rows_of(packed: PackedBatch) -> list[list[int]]:
    """Which items each row holds, in order."""
    return [[n for n in dict.fromkeys(row.tolist()) if n >= 0] for row in packed.segment_ids]


def test_items_are_laid_out_one_behind_the_other() -> None:
    items = [
        TokenizedItem(np.array([5, 6, 7]), np.array([0, 0, 1])),
        TokenizedItem(np.array([8]), np.array([0])),
        TokenizedItem(np.array([9, 9]), np.array([1, 0])),
    ]
    packed = PackedBatch.pack(items, (2, 5), pad_token_id=3)
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 3], [9, 9, 3, 3, 3]]
    assert packed.token_type_ids.tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 0, 0], [0, 1, 0, 0, 0]]
    assert packed.segment_ids.tolist() == [[0, 0, 0, 1, -1], [2, 2, -1, -1, -1]]
    assert packed.places.tolist() == [[0, 1, 2], [3, -1, -1], [5, 6, -1]]


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ([12], (1, 16)),
        ([17], (1, 32)),
        ([30, 30], (1, 64)),
        ([60, 60], (1, 128)),
        ([65, 65], (2, 128)),
        ([100] * 5, (6, 128)),
        ([129], (1, 256)),
        ([300, 10], (1, 512)),
        ([10, 300, 300], (2, 512)),
        ([100] * 40, (40, 128)),
    ],
)
def test_shapes_are_few(lengths: list[int], shape: tuple[int, int]) -> None:
    assert PACKING.shape(lengths) == shape
    PackedBatch.pack([item(1, tokens) for tokens in lengths], shape, 0)


async def test_full_batches_of_mixed_texts_have_hardly_any_padding_and_all_are_served() -> None:
    lengths = mixed(512)
    queue, cost = waiting(lengths), FixedCost()
    seen: list[int] = []
    tokens = padded = 0
    shapes = set()
    while queue.items > 40:
        oldest = min(set(range(len(lengths))) - set(seen))
        batch, closed = queue.seal(ROOM, cost, PACKING)
        assert closed is Closed.FULL
        assert batch[0].index == oldest
        packed = [entry.item.tokens for entry in batch]
        rows, width = PACKING.shape(packed)
        assert rows * width <= 768
        tokens, padded = tokens + sum(packed), padded + rows * width
        shapes.add((rows, width))
        seen += [entry.index for entry in batch]
    assert tokens / padded > 0.98
    assert len(shapes) <= 4
    while queue.items:
        seen += [entry.index for entry in queue.seal(ROOM, cost, PACKING)[0]]
    assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.parametrize("seed", range(20))
def test_a_row_is_as_full_as_any_choice_makes_it(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(3, 60) for _ in range(10)]
    free = draw.randint(1, 200)
    sums = [
        sum(chosen)
        for count in range(len(lengths) + 1)
        for chosen in itertools.combinations(lengths, count)
    ]
    chosen = fullest(free, lengths)
    assert sum(lengths[at] for at in chosen) == max(one for one in sums if one <= free)
    assert chosen == sorted(set(chosen))


def test_what_comes_first_fills_a_row_rather_than_others() -> None:
    assert fullest(128, [64, 64, 60, 60, 8]) == [0, 1]
    # The two longest leave a gap that nothing fills.
    assert fullest(128, [100, 70, 58, 20]) == [1, 2]
    assert fullest(10, [11, 12]) == []
    assert fullest(0, [1]) == []


async def test_a_batch_takes_as_many_rows_as_its_budget_has_room_for() -> None:
    cost = FixedCost()
    queue = waiting([40] * 60)
    # One row of 128 tokens and the overhead, and not two.
    small = Budget(cost.seconds(1, 200), 768, 1e9)
    batch, closed = queue.seal(small, cost, PACKING)
    assert (len(batch), closed) == (3, Closed.FULL)
    assert PACKING.shape([40] * 3) == (1, 128)
    batch, _ = queue.seal(ROOM, cost, PACKING)
    assert len(batch) == 18


async def test_a_row_that_would_be_mostly_empty_waits_for_more() -> None:
    """Where a batch costs nothing by itself: 2 rows for 135 tokens would be padding."""
    queue, cost = waiting([15] * 9), FixedCost(overhead=1e-9)
    batch, closed = queue.seal(ROOM, cost, PACKING)
    assert (len(batch), closed) == (8, Closed.LENGTH)
    assert queue.seal(ROOM, cost, PACKING)[1] is Closed.DRAINED


async def test_items_that_were_packed_never_need_more_rows_without_some_of_them() -> None:
    """Those that expired are taken out of a batch between its plan and its layout."""
    draw = random.Random(7)
    queue, cost = waiting(mixed(600, seed=3)), FixedCost()
    while queue.items:
        batch, _ = queue.seal(ROOM, cost, PACKING)
        lengths = [entry.item.tokens for entry in batch]
        rows, width = PACKING.shape(lengths)
        fewer = [tokens for tokens in lengths if draw.random() < 0.7]
        if fewer:
            least_rows, least_width = PACKING.shape(fewer)
            assert least_rows * least_width <= rows * width


async def test_one_long_item_with_hundreds_of_short_ones_is_not_unpacked_to_megabytes() -> None:
    queue = waiting([240, *[6] * 400])
    batch, _ = queue.seal(ROOM, FixedCost(), PACKING)
    assert 3 <= len(batch) <= 4 * 768 // 240


def test_batches_of_what_is_all_there_are_full_and_hold_everything_once() -> None:
    lengths = mixed(400)
    batches = PACKING.batches(lengths)
    assert sorted(index for batch in batches for index in batch) == list(range(400))
    padded = 0
    for batch in batches:
        rows, width = PACKING.shape([lengths[index] for index in batch])
        assert rows * width <= 768
        padded += rows * width
    assert sum(lengths) / padded > 0.95
    assert PACKING.batches([]) == []


async def test_rows_without_any_padding_are_counted_and_answered() -> None:
    """49 items of 256 / 49 tokens in the mean make less than 256 in floating point."""
    lengths = [5] * 38 + [6] * 11 + [200]
    engine = SpreadingEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        task = submit(batcher, *[item(at + 2, tokens) for at, tokens in enumerate(lengths)])
        await queued(batcher)
        padding = metric("padding_tokens_total")
        engine.gate.set()
        result = await task
        await first
    assert [len(batch) for batch in engine.batches] == [1, 49, 1]
    assert result.rows[:, 0].tolist() == list(range(2, 52))
    # Of the first, in a row of 16, and of the last, in one of 256.
    assert metric("padding_tokens_total") == padding + 8 + 56


async def test_an_item_that_is_no_number_fails_alone_though_it_shared_its_row() -> None:
    engine = SpreadingEngine()
    async with running(engine) as batcher:
        first = await busy(engine, batcher)
        numbers = [2, 3, NOT_A_NUMBER, 4, 5]
        task = submit(batcher, *[item(number) for number in numbers])
        await queued(batcher)
        engine.gate.set()
        result = await task
        await first
    assert isinstance(result.failures.pop(2), Internal)
    assert not result.failures
    assert result.rows[[0, 1, 3, 4], 0].tolist() == [2, 3, 4, 5]


def test_neighbours_in_a_row_change_nothing() -> None:
    model = minilm("fp32")
    assert model.engine.info.packing, "BERT's items may share rows"
    words = ["the", "flow", "of", "heat", "in", "a", "boundary", "layer", "behind", "shocks"]
    texts = [" ".join(words[at % 7 : at % 7 + at % 9 + 1]) for at in range(40)]
    texts += ["", "x " * 300]
    items = model.tokenizer.encode(texts)
    together = compute_all(model.engine, items, model.description.pad_token_id)
    alone = [
        model.engine.run(TokenBatch.pad([one], model.description.pad_token_id), 0)[0]
        for one in items
    ]
    assert together == pytest.approx(np.stack(alone), abs=2e-5)
