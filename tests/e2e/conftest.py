"""One stack of real processes for all end-to-end tests of a run."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.stack.ports import check_ports
from services.stack.stack import Stack
from sirdar.client import Client
from sirdar.errors import FailedPrecondition


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with _beside_each_other(tmp_path_factory.mktemp("data")) as running:
        yield running


def _beside_each_other(folder: Path) -> Stack:
    """A stack whose tiers are beside the gateway, where `sirdar status` looks for them."""
    for _ in range(20):
        stack = Stack(folder, port=random.randrange(20_000, 30_000, 100))
        try:
            check_ports(stack.layout, stack.tiers)
        except FailedPrecondition:
            continue
        return stack
    raise AssertionError("no free ports for a stack in 20 tries")


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.address) as connected:
        yield connected
