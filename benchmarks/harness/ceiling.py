"""What a server could do at most.

Caller, server and engine share the CPUs, so their costs add: a server that
cost nothing beyond a call that does nothing and the engine's own work would do
1 / (1 / engine + 1 / no-op) calls a second.
"""


def ceiling(engine: float, noop: float) -> float:
    """Calls a second of a server whose costs are the engine's and a no-op call's."""
    return 1 / (1 / engine + 1 / noop)
