"""What the tests need of the machine."""

import os
from collections.abc import Iterator

import pytest

from tests.postgres_server import PostgresServer, postgres_server


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need root are skipped, loudly, on a developer's machine and fail in CI."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        reason = "needs root: network namespaces and mounts; run `sudo make test` to include it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session", name="postgres_server")
def _postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests that only need databases; a test that kills it starts its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of the test's own."""
    with postgres_server.database() as url:
        yield url
