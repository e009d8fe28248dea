"""A bound on the calls that calls may cause: retries and hedges."""


class Allowance:
    """Each call earns a share of an extra one; what is not spent is kept up to a bound.

    So extra load stays below that share however many calls fail, and a short
    outage can use what was saved. As gRPC's retry throttling and Finagle's
    retry budget, which both allow retries for a share of the requests.
    """

    def __init__(self, share: float, saved: float) -> None:
        """Starts with all that may be saved, in calls."""
        self._share = share
        self._most = saved
        self._saved = saved

    def earn(self) -> None:
        if self._saved < self._most:
            self._saved = min(self._most, self._saved + self._share)

    def spend(self) -> bool:
        """Whether one more call may be made; it is taken to be."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
