"""The best passages of a stream that may be long."""

import heapq


class TopPassages:
    """Keeps the best `count` of all that were added; memory is bounded by it."""

    def __init__(self, count: int) -> None:
        self._count = count
        # The worst first: the logit, then the place in the stream, later ones lower.
        self._heap: list[tuple[float, int, str]] = []

    def add(self, identity: str, logit: float, place: int) -> None:
        entry = (logit, -place, identity)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def ids(self) -> list[str]:
        """The best first; of equal ones that which came first."""
        return [identity for _, _, identity in sorted(self._heap, reverse=True)]
