"""The stack that `sirdar up` runs, with stand-ins for the tiers."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from services.stack.ports import free_ports
from services.stack.stack import NO_RERANKER, Stack, TierDied
from services.stack.tiers import TIERS, Tier, layout_at, with_replicas
from sirdar.client import Client, Health
from sirdar.errors import FailedPrecondition, Unavailable

STAND_INS = [dataclasses.replace(tier, module="tests.rpc.stand_in_tier") for tier in TIERS]


class Log:
    """What the tiers logged, in the order in which it came."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def __call__(self, tier: str, line: str) -> None:
        with self._changed:
            self.lines.append((tier, line))
            self._changed.notify_all()

    def tiers(self, word: str) -> list[str]:
        return [tier for tier, line in self.lines if word in line]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "data", tiers=STAND_INS)


def child_pids() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def gone(pids: list[int]) -> bool:
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(processes, timeout=15)[1]


def test_all_tiers_serve_inside_the_block_and_none_is_left_after_it(stack: Stack) -> None:
    with stack:
        assert set(stack.addresses) == {"retriever", "embedder", "reranker", "gateway"}
        for address in stack.addresses.values():
            with Client(address) as client:
                assert client.health() is Health.SERVING
        pids = [stack.process(name).pid for name in stack.addresses]
        assert stack.layout.data_folder.is_dir()
    assert gone(pids)


def test_a_stack_may_do_without_a_reranker(tmp_path: Path) -> None:
    with Stack(tmp_path, tiers=STAND_INS, reranker=NO_RERANKER) as stack:
        assert set(stack.addresses) == {"retriever", "embedder", "gateway"}
    gateway = next(tier for tier in stack.tiers if tier.name == "gateway")
    assert "SIRDAR_GATEWAY_RERANKER_ADDRESS" not in gateway.environment(stack.layout)


def test_the_model_and_the_address_of_the_reranker_reach_the_tiers(tmp_path: Path) -> None:
    stack = Stack(tmp_path, reranker="builtin:x")
    settings = {
        name: value for t in stack.tiers for name, value in t.environment(stack.layout).items()
    }
    assert settings["SIRDAR_RERANKER_MODEL"] == "builtin:x"
    assert settings["SIRDAR_GATEWAY_RERANKER_ADDRESS"] == stack.addresses["reranker"]


def test_replicas_follow_the_retriever_and_the_gateway_knows_them_all(tmp_path: Path) -> None:
    with Stack(tmp_path, tiers=with_replicas(STAND_INS, 3)) as stack:
        names = ["retriever", "retriever-2", "retriever-3"]
        addresses = [stack.addresses[name] for name in names]
        for address in addresses:
            with Client(address) as client:
                assert client.health() is Health.SERVING
    settings = {tier.name: tier.environment(stack.layout) for tier in stack.tiers}
    assert json.loads(settings["gateway"]["SIRDAR_GATEWAY_RETRIEVER_ADDRESSES"]) == addresses
    assert "SIRDAR_RETRIEVER_FOLLOW" not in settings["retriever"]
    writer = settings["retriever"]["SIRDAR_RETRIEVER_DATA_FOLDER"]
    folders = {settings[name]["SIRDAR_RETRIEVER_DATA_FOLDER"] for name in names}
    assert len(folders) == 3
    assert [settings[name]["SIRDAR_RETRIEVER_FOLLOW"] for name in names[1:]] == [writer] * 2
    at = layout_at(7700, stack.tiers, tmp_path)
    assert len({*at.ports.values(), *at.metrics_ports.values(), at.http_port}) == 13
    assert at.ports["retriever-3"] == 7705


async def test_the_block_may_be_async(stack: Stack) -> None:
    async with stack:
        pid = stack.process("gateway").pid
        stack.check()
    assert gone([pid])


def test_tiers_report_ready_and_stop_from_the_gateway_back(tmp_path: Path) -> None:
    log = Log()
    stack = Stack(tmp_path, tiers=STAND_INS, log=log)
    ready: dict[str, float] = {}
    stack.start(ready.__setitem__)
    stack.stop()
    assert set(ready) == set(stack.addresses)
    assert log.tiers("stopped") == ["gateway", "reranker", "embedder", "retriever"]


def test_a_taken_port_is_named_with_its_tier_its_owner_and_the_option(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stack = Stack(tmp_path, port=port - 1, tiers=STAND_INS)
        before = child_pids()
        with pytest.raises(FailedPrecondition) as caught:
            stack.start()
    assert f"port {port} (embedder) is taken" in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message
    assert "--port" in caught.value.message
    assert child_pids() == before


def test_a_tier_that_dies_is_named_with_how_it_ended(stack: Stack) -> None:
    with stack:
        stack.kill("embedder")
        with pytest.raises(TierDied, match="the embedder was killed by SIGKILL") as caught:
            stack.check()
        assert caught.value.tier == "embedder"
        assert caught.value.exit_code == -signal.SIGKILL
        assert any("serving" in line for line in caught.value.tail)


def test_a_tier_that_cannot_start_stops_the_others_and_shows_why(tmp_path: Path) -> None:
    stack = Stack(tmp_path, tiers=STAND_INS, model="broken")
    before = child_pids()
    with pytest.raises(TierDied, match="the embedder exited with 1") as caught:
        stack.start()
    assert caught.value.tail == ["there is no model called broken"]
    assert child_pids() == before


def test_a_tier_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    stack = Stack(tmp_path, tiers=STAND_INS, model="stubborn")
    stack.start_seconds = 6.0
    stack.grace_seconds = 0.5
    before = child_pids()
    with pytest.raises(Unavailable, match="embedder was not ready within 6 s"):
        stack.start()
    # It also ignores SIGTERM.
    assert child_pids() == before


def test_a_killed_tier_starts_again_at_its_address(stack: Stack) -> None:
    with stack:
        pid = stack.process("retriever").pid
        stack.kill("retriever")
        assert stack.restart("retriever") > 0
        assert stack.process("retriever").pid != pid
        with Client(stack.addresses["retriever"]) as client:
            assert client.health() is Health.SERVING
        stack.check()


def test_extra_settings_reach_the_tiers_and_typos_do_not_pass(tmp_path: Path) -> None:
    stack = Stack(tmp_path, tiers=STAND_INS, environment={"SIRDAR_RETRIEVER_NO_SUCH": "1"})
    with pytest.raises(TierDied) as caught:
        stack.start()
    assert caught.value.tier == "retriever"
    assert "SIRDAR_RETRIEVER_NO_SUCH" in "\n".join(caught.value.tail)


PARENT = """
    import dataclasses, sys, threading
    from pathlib import Path
    from services.stack.command import run
    from services.stack.console import UpConsole
    from services.stack.stack import Stack
    from tests.rpc.test_stack import STAND_INS

    class Console(UpConsole):
        def up(self, stack):
            super().up(stack)
            print(*[stack.process(name).pid for name in stack.addresses], flush=True)

    console = Console(quiet=False)
    sys.exit(run(Stack(Path(sys.argv[1]), tiers=STAND_INS, log=console.log), console))
"""


def run_up(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """`sirdar up` with stand-ins in a process of its own, and the pids of its tiers."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == len(STAND_INS), process.communicate()[1]
    return process, pids


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_up_stops_all_tiers_on_a_signal(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process, pids = run_up(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert gone(pids)
    assert "Sirdar is up." in errors
    assert "Stopped." in errors
    assert "Traceback" not in errors


def test_tiers_end_when_up_is_killed(tmp_path: Path) -> None:
    process, pids = run_up(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    assert gone(pids)


def test_up_ends_when_a_tier_dies_and_names_it(tmp_path: Path) -> None:
    process, pids = run_up(tmp_path)
    os.kill(pids[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert gone(pids)
    assert "error: the embedder was killed by SIGKILL" in errors


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
def test_the_modules_and_settings_of_the_tiers_exist(tier: Tier, tmp_path: Path) -> None:
    """Each real tier knows every variable that the stack gives it."""
    layout = layout_at(7700, TIERS, tmp_path, "package:none", "builtin:none")
    program = f"""
from {tier.module}.settings import {tier.name.capitalize()}Settings as Settings
from services.runtime.settings import load_settings
print(load_settings(Settings, []).port)
"""
    environment = {**os.environ, **tier.environment(layout)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert int(done.stdout) == layout.ports[tier.name]


def test_ports_of_a_layout_follow_the_gateway(tmp_path: Path) -> None:
    layout = layout_at(7700, TIERS, tmp_path)
    ports = {"gateway": 7700, "embedder": 7701, "retriever": 7702, "reranker": 7703}
    assert layout.ports == ports
    assert layout.metrics_ports == {name: port + 90 for name, port in ports.items()}


def test_free_ports_differ() -> None:
    assert len(set(free_ports(6))) == 6
