"""The README's cluster on one machine: two gateways share answers, and writes make them stale."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from services.stack.cluster import Shape
from services.stack.ports import check_ports
from services.stack.tiers import layout_at
from sirdar.client import Client, Consistency, Document, SearchResults
from sirdar.errors import FailedPrecondition
from tests.postgres_server import postgres_server
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(
    r"^sirdar (up (?:.*\\\n)*.*--store.*)$", (ROOT / "README.md").read_text(), re.MULTILINE
)
UP = re.compile(r"^ +([a-z]+(?:-\d+)?) +(127\.0\.0\.1:\d+) metrics")


def free_port(folder: Path) -> int:
    """One behind which there are ports for all tiers that the README starts."""
    shape = Shape(retrievers=4, replicas=2, embedders=2, gateways=2, store="postgresql://any")
    for _ in range(20):
        # Other tests' stacks are below, and the ports that the system gives away are above.
        port = random.randrange(30_200, 32_600, 200)
        with suppress(FailedPrecondition):
            check_ports(layout_at(port, shape.tiers(), folder), shape.tiers())
            return port
    raise AssertionError("no free ports for a cluster in 20 tries")


@contextmanager
def up(command: str, folder: Path) -> Iterator[tuple[Mapping[str, str], list[str]]]:
    """Addresses by the names of the tiers, and the lines that were shown; ended by SIGTERM."""
    port = str(free_port(folder))
    arguments = [*command.split(), "--port", port, "--reranker", "none", "--quiet"]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "sirdar"), *arguments, "--data", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if "Ctrl-C" in line:
                break
        else:
            raise AssertionError("\n".join(lines))
        yield {found[1]: found[2] for line in lines if (found := UP.match(line))}, lines
    finally:
        process.terminate()
        rest = process.stderr.read()
        code = process.wait(60)
    assert code == 0, rest


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Mapping[str, str], list[str]]]:
    assert len(COMMANDS) == 1
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        with postgres_server() as server, server.database() as store:
            command = (
                COMMANDS[0]
                .replace("\\\n", " ")
                .replace("postgresql://USER:PASSWORD@HOST/DATABASE", store)
                .replace("redis://HOST:6379", redis.url)
            )
            assert store in command
            assert redis.url in command
            with up(command, tmp_path / "data") as found:
                yield found
    finally:
        redis.kill()


def test_a_write_through_one_gateway_makes_answers_of_the_other_stale(
    running: tuple[Mapping[str, str], list[str]],
) -> None:
    addresses, lines = running
    assert sorted(addresses) == [
        *("embedder", "embedder-2", "gateway", "gateway-2"),
        *("retriever-1", "retriever-2", "retriever-3", "retriever-4"),
    ]
    assert [line for line in lines if len(line) > 80 and "/" not in line] == []
    with Client(addresses["gateway"]) as one, Client(addresses["gateway-2"]) as other:
        one.create_collection("notes", shards=4)
        write(one, "first")
        for at in range(6):
            asking, writing = (one, other) if at % 2 else (other, one)
            query = shared(writing, asking)
            write(writing, f"more {at}")
            assert status(asking.search("notes", query)) != "exact_hit"
            fresh = asking.search("notes", query, consistency=Consistency.STRONG)
            assert f"more {at}" in {result.document_id for result in fresh}


def write(client: Client, name: str) -> None:
    for outcome in client.index("notes", [Document(id=name, text=f"A note that is {name}.")]):
        assert outcome.error is None, outcome.error


def shared(keeping: Client, finding: Client) -> str:
    """A query whose answer one gateway kept, and the other found."""
    for at in range(200):
        query = f"which note, {at}?"
        keeping.search("notes", query, consistency=Consistency.STRONG)
        if status(finding.search("notes", query)) == "exact_hit":
            return query
    raise AssertionError("no answer is shared")


def status(found: SearchResults) -> str:
    assert found.cache is not None
    return found.cache.status
