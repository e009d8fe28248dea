"""How much writers are slowed down so that searches beside them stay quick."""

import time

# What is not sealed is compared with by every search, on cores that builds and writes share: 40,000
# vectors of 384 dimensions. With 25,000 writers were slower by a fourth, searches no quicker.
_CALM_COMPONENTS = 40_000 * 384
# Two writers of 500 documents each that wait so long send 2,000 a second, which is less than one
# thread seals.
_SECONDS = 0.5
_MAX_SECONDS = 1.0
# Without searches nobody gains from waiting: a load takes what the disk takes.
_SEARCHED_SECONDS = 1.0


class WritePace:
    """Writes wait for as long as there is much to compare with and somebody searches; the limits
    of the settings are for when that is not enough."""

    def __init__(self) -> None:
        self._searched = -_SEARCHED_SECONDS

    def searched(self) -> None:
        """A search came in."""
        self._searched = time.monotonic()

    def delay_seconds(self, unsealed_components: int) -> float:
        """For a write to a collection with so many vectors times dimensions that are not sealed:
        nothing below a bound, then ever longer."""
        if time.monotonic() - self._searched >= _SEARCHED_SECONDS:
            return 0.0
        over = unsealed_components / _CALM_COMPONENTS - 1
        return min(_MAX_SECONDS, max(0.0, _SECONDS * over))
