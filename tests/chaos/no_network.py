"""A program for a namespace of its own: runs a stack where nothing can be reached.

It counts what tries to reach out.

Linux counts what is sent without a route, also by name look-ups, in
/proc/net/snmp. The counter is tried first: it must see attempts made on purpose.
"""

import fcntl
import json
import socket
import struct
import sys
from pathlib import Path

from services.stack.stack import Stack
from sirdar.client import Client, Document

SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41
# Addresses for documentation: nobody has them.
NOWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP_RUNNING))


def attempts() -> int:
    """How many packets of this namespace found no route."""
    names, values = (
        line.split()
        for line in Path("/proc/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    )
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(dict(zip(names, values, strict=True))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])


def attempts_on_purpose() -> int:
    before = attempts()
    for family, address in NOWHERE:
        with socket.socket(family, socket.SOCK_STREAM) as outgoing:
            outgoing.connect_ex((address, 9))
    return attempts() - before


def use_a_stack(folder: Path) -> str:
    """Starts all tiers, indexes, searches and stops; the best document's id."""
    with Stack(folder) as stack, Client(stack.address) as client:
        client.create_collection("notes")
        documents = [
            Document(id="tide", text="The moon's gravity raises the sea twice a day."),
            Document(id="bread", text="Yeast makes the dough rise before it is baked."),
        ]
        assert all(outcome.ok for outcome in client.index("notes", documents))
        return client.search("notes", "why does the ocean go up and down?").results[0].document_id


def main() -> None:
    raise_loopback()
    seen = attempts_on_purpose()
    before = attempts()
    best = use_a_stack(Path(sys.argv[1]))
    print(json.dumps({"on_purpose": seen, "attempts": attempts() - before, "best": best}))


if __name__ == "__main__":
    main()
