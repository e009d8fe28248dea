"""How much CPU time work in the background may take."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class CpuBudget:
    """A share of the CPU time that passes, which may be saved up for a while only.

    `wall` and `cpu` answer seconds; the default `cpu` is that of the calling
    thread, so one thread makes the budget and does all of the work, whatever
    it does: what the thread takes is counted, not what it means to take. The
    budget starts empty, so that at no time more than the share of what has
    passed is spent, but for the step that is under way.
    """

    def __init__(
        self,
        rate: float,
        saved_seconds: float,
        *,
        wall: Clock = time.monotonic,
        cpu: Clock = time.thread_time,
    ) -> None:
        """`rate` is CPU seconds a second, `saved_seconds` the time that may be saved up for."""
        self.spent_seconds = 0.0
        self._rate = rate
        self._most = rate * saved_seconds
        self._wall = wall
        self._cpu = cpu
        self._allowed = 0.0
        self._wall_before = wall()
        self._cpu_before = cpu()

    def delay_seconds(self, cost_seconds: float) -> float:
        """How long to wait before work of this cost; 0: it may begin.

        A cost beyond what can be saved up waits for that, and is paid back after.
        """
        wall, cpu = self._wall(), self._cpu()
        spent = cpu - self._cpu_before
        earned = self._rate * (wall - self._wall_before)
        self._allowed = min(self._most, self._allowed + earned) - spent
        self.spent_seconds += spent
        self._wall_before, self._cpu_before = wall, cpu
        return max(0.0, (min(cost_seconds, self._most) - self._allowed) / self._rate)
