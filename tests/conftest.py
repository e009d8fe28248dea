"""What the tests need of the machine."""

import os

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need root are skipped, loudly, on a developer's machine and fail in CI."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        reason = "needs root: network namespaces and mounts; run `sudo make test` to include it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
