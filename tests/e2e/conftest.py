"""One stack of real processes for all end-to-end tests of a run."""

from collections.abc import Iterator

import pytest

from services.stack.stack import Stack
from sirdar.client import Client


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.address) as connected:
        yield connected
