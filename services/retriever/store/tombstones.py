"""What is left of deleted documents: tombstones, for a time, and after it a sequence.

A tombstone tells whoever reads the log from before the deletion that the
document is gone. It is kept for so long that nearly all have read it; who comes
later is told that some are missing, and compares what it has with what is there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sirdar.errors import FailedPrecondition


class TombstonesPurged(FailedPrecondition):
    """A log was asked for from before a deletion that it no longer shows."""

    default_reason = "TOMBSTONES_PURGED"


def check_purged(purged_seq: int, known_seq: int) -> None:
    """`purged_seq`: of the last deletion of a shard whose tombstone is gone; `known_seq`: up to
    which the reader knows of deletions. Raises TombstonesPurged."""
    if purged_seq > known_seq:
        raise TombstonesPurged(
            f"the log shows no deletions up to {purged_seq} any more, and those after {known_seq} "
            "are not known here; compare with the documents that are there"
        )


@dataclass(frozen=True, slots=True)
class DocumentKeys:
    """The keys, int64 ascending, of the documents of a shard that have a row, tombstones too, and
    `purged_seq`: no deletion up to there is missing from them."""

    keys: NDArray[np.int64]
    purged_seq: int

    def lack(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of other keys, int64 (n), are not among them."""
        if len(self.keys) == 0:
            return np.ones(len(keys), bool)
        at = np.searchsorted(self.keys, keys)
        at[at == len(self.keys)] = 0
        lacking: NDArray[np.bool_] = self.keys[at] != keys
        return lacking
