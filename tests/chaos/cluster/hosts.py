"""Hosts made of network namespaces: each with a wire to this process's own, which routes.

Needs root, and a network namespace of its own around it (`unshare --net`).
"""

import dataclasses
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.cluster import on_host
from tests.chaos.cluster.members import MODULES, Member

STORE = "10.77.0.1"
"""An address of this namespace beside those of the wires."""
_ROUTER = "10.77.{}.1"
_HOST = "10.77.{}.2"


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """`address` is its own, `router` that of the other end of its wire."""

    address: str
    router: str
    namespace: str

    def holding(self, member: Member) -> Member:
        """The member, on this host."""
        environment = {
            on_host.NAMESPACE: self.namespace,
            on_host.MODULE: MODULES[member.kind],
        }
        return dataclasses.replace(
            member,
            host=self.address,
            module="tests.chaos.cluster.on_host",
            environment={**member.environment, **environment},
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Wire:
    """Between two addresses, cut and healed where packets are routed: they are dropped without a
    word."""

    one: str
    other: str

    def cut(self) -> None:
        self._rules("add")

    def heal(self) -> None:
        self._rules("del")

    def _rules(self, change: str) -> None:
        for source, target in ((self.one, self.other), (self.other, self.one)):
            _run(f"ip rule {change} pref 100 from {source} to {target} blackhole")


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many, which reach each other through this namespace."""
    _run("ip link set lo up")
    _run(f"ip addr add {STORE}/32 dev lo")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # What is for this namespace itself goes by the rules of wires first, too.
    _run("ip rule add pref 1000 lookup local")
    _run("ip rule del pref 0")
    holders: list[subprocess.Popen[bytes]] = []
    try:
        yield [_host(number, holders) for number in range(1, count + 1)]
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def _host(number: int, holders: list[subprocess.Popen[bytes]]) -> Host:
    # It says something when it is in its namespace, which lives as long as it does.
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE
    )
    holders.append(holder)
    assert holder.stdout is not None
    holder.stdout.readline()
    host = Host(_HOST.format(number), _ROUTER.format(number), f"/proc/{holder.pid}/ns/net")
    inside = f"nsenter --net={host.namespace} "
    _run(f"ip link add host{number} type veth peer name eth0 netns {holder.pid}")
    _run(f"ip addr add {host.router}/24 dev host{number}")
    _run(f"ip link set host{number} up")
    _run(f"{inside}ip link set lo up")
    _run(f"{inside}ip addr add {host.address}/24 dev eth0")
    _run(f"{inside}ip link set eth0 up")
    _run(f"{inside}ip route add default via {host.router}")
    return host


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)
