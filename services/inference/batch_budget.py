"""How large a batch may be."""

from services.inference.batch_plan import Budget
from services.inference.cost import CostModel
from services.inference.engine import EngineInfo

# A batch lasts so many times its overhead: 5 % are lost. A longer one saves little and
# lets others wait; a shorter one than the least is not worth the way to the thread. On a CPU
# with bf16 that is 55 ms, in fp32 70 to 100.
_OVERHEADS = 20.0
_LEAST_SECONDS, _MOST_SECONDS = 0.02, 0.1
# Work of less than so much of a full batch is one stream's, and waits for it where it is free as
# soon: with 64 searches in flight two streams, 5 queries at a time, took 1.15 times as much CPU as
# one with 8, and searches were fewer by a tenth.
_LITTLE = 0.5
# What an interactive request may have to wait for one of bulk.
_SLICE_SECONDS = 0.02
# Work is spread over idle streams while a part is worth so many overheads.
_SHARE_OVERHEADS = 4.0
# Riders come from the next so many batches: more would pad less, but every request would
# be half done for long, late, and wasted when its caller gives up. With 16 messages of 32 texts
# waiting and a tenth of them given up, 4 batches compute 0.5 % in vain, 8 1 %, 16 1.8 % and all
# 4 %; they reach 0.89, 0.92, 0.92 and 0.92 of what sorting all texts gives.
_WINDOW_BATCHES = 8.0
# After a batch that did not fit into memory the budget grows back in about 700 batches.
_RECOVERY = 1.001


class BatchBudget:
    """Sizes in seconds by the cost model, below the memory of the engine."""

    def __init__(self, info: EngineInfo, cost: CostModel) -> None:
        self._cost = cost
        self._most_tokens = info.batch_tokens
        self._padded_tokens = float(info.batch_tokens)

    @property
    def full_seconds(self) -> float:
        """Of a batch that others wait behind."""
        return min(max(_OVERHEADS * self._cost.overhead_seconds, _LEAST_SECONDS), _MOST_SECONDS)

    @property
    def little_seconds(self) -> float:
        """Of work that is better left to a stream that computes already."""
        return _LITTLE * self.full_seconds

    def next(
        self, waiting_seconds: float, idle_streams: int, callers: int, *, small: bool
    ) -> Budget:
        """Of the next batch.

        `waiting_seconds` of work are there for so many idle streams, this one
        included, from so many callers; `small`: interactive work may come.
        """
        full = self.full_seconds
        overhead = self._cost.overhead_seconds
        # A little more, so that rounding does not leave one item behind.
        part = 1.01 * (overhead + (waiting_seconds - overhead) / idle_streams)
        share = max(part, _SHARE_OVERHEADS * overhead)
        seconds = min(full, share, _SLICE_SECONDS if small else full)
        window = _WINDOW_BATCHES * full / self._cost.token_seconds / max(1, callers)
        return Budget(seconds, int(self._padded_tokens), window)

    def shrink(self, padded_tokens: int) -> None:
        """A batch of so many did not fit into memory."""
        self._padded_tokens = max(1.0, min(self._padded_tokens, padded_tokens / 2))

    def recover(self) -> None:
        """A batch fitted."""
        self._padded_tokens = min(self._padded_tokens * _RECOVERY, self._most_tokens)
