"""Ports of this machine: which are free, and who has the others."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack

import psutil

from services.stack.tiers import HOST, Layout, Tier
from sirdar.errors import FailedPrecondition


def free_ports(count: int) -> list[int]:
    """As many different ports that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def check_ports(layout: Layout, tiers: Sequence[Tier]) -> None:
    """Raises FailedPrecondition that names each port that is taken, for whom and by whom."""
    wanted = [(layout.ports[tier.name], tier.name) for tier in tiers]
    wanted += [(layout.metrics_ports[tier.name], f"{tier.name} metrics") for tier in tiers]
    if any(tier.name == "gateway" for tier in tiers):
        wanted.append((layout.http_port, "gateway HTTP"))
    taken = [
        f"port {port} ({purpose}) is taken{_by(port)}"
        for port, purpose in sorted(wanted)
        if not _free(port)
    ]
    if taken:
        raise FailedPrecondition(
            f"{'; '.join(taken)}. Stop what is there, or choose other ports with --port",
            reason="PORT_TAKEN",
        )


def _free(port: int) -> bool:
    """Whether one can listen on the port; connections that linger from before do not matter."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _by(port: int) -> str:
    """` by NAME (pid N)`, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            # The address is (host, port), or empty where there is none.
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.pid and tuple(connection.laddr)[1:] == (port,):
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
