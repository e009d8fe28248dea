"""The command `sirdar`, run as a process would run it, against a SearchService in memory."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from structlog.testing import capture_logs

from sirdar.errors import Unavailable
from sirdar.v1 import collection_pb2
from tests.rpc.search_double import Double, Ending, running_double
from tests.rpc.terminal_command import Sirdar, in_a_process, in_process

LINES = [json.dumps({"id": f"d{number}", "text": f"text {number}"}) for number in range(20)]


@pytest.fixture
def double() -> Iterator[Double]:
    # The double's log must not stand in the command's output.
    with capture_logs(), running_double() as double:
        double.collections["docs"] = collection_pb2.Collection(
            name="docs", documents=12_345, passages=23_456
        )
        yield double


@pytest.fixture
def sirdar(
    double: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sirdar:
    return in_process(double.address, monkeypatch, capsys)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def answer(double: Double) -> None:
    """An answer of two documents, whose text would like to act on the terminal."""
    first = double.answer.results.add(document_id="pkg/shed.run", score=0.75, title="shed.run")
    first.snippet.text = "Run jobs\nby the clock. " + "All day long. " * 40
    first.metadata["line"].int64_value = 7
    second = double.answer.results.add(document_id="[bold]x[/bold]", score=0.5)
    second.snippet.text = "\x1b[31mred\x1b[0m\x07"
    double.answer.timings.add(stage=1).duration.FromMicroseconds(3_200)
    double.answer.timings.add(stage=4).duration.FromMicroseconds(5_000)
    double.answer.coverage.shards_asked = 4
    double.answer.coverage.shards_answered = 3
    double.answer.degraded.add(reason=1, detail="shard 2 did not answer")
    double.answer.space.model.name = "package:mini"


def test_search_shows_rank_score_document_passage_and_how_it_went(
    double: Double, sirdar: Sirdar
) -> None:
    answer(double)
    ended = sirdar("search", "do things regularly", "--top-k", "2", "--exact")
    assert ended.code == 0
    for word in ("0.750", "shed.run", "pkg/shed.run", "Run jobs by the clock.", "[bold]x[/bold]"):
        assert word in ended.out
    assert "embed 3.2 ms · total 5.0 ms · 3/4 shards · package:mini" in ended.out
    assert "degraded: shard 2 did not answer" in ended.out
    assert "\x1b" not in ended.out
    assert "\x07" not in ended.out
    (request,) = double.requests
    assert (request.query, request.top_k, request.exact) == ("do things regularly", 2, True)


@pytest.mark.parametrize("columns", [40, 100, 200])
def test_search_fits_the_terminal(
    double: Double, sirdar: Sirdar, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    answer(double)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = sirdar("search", "q").out.splitlines()
    assert max(map(len, lines)) <= columns
    assert "shed.run" in "".join(lines)


def test_search_answers_json_with_everything(double: Double, sirdar: Sirdar) -> None:
    answer(double)
    answered = json.loads(sirdar("search", "q", "--json").out)
    assert answered["results"][0]["metadata"] == {"line": 7}
    assert answered["results"][1]["snippet"]["text"] == "\x1b[31mred\x1b[0m\x07"
    assert answered["timings_ms"] == {"embed": 3.2, "total": 5.0}
    assert answered["coverage"]["shards_answered"] == 3
    assert answered["degraded"] == [
        {"reason": "shard_unreachable", "detail": "shard 2 did not answer"}
    ]


def test_index_counts_every_line_and_lists_the_refused(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    bad = ["{", *(json.dumps({"id": f"r{n}", "text": "refuse me"}) for n in range(9))]
    file = write(tmp_path / "docs.jsonl", *LINES[:10], *bad, *LINES[10:])
    refused = tmp_path / "refused.jsonl"
    ended = sirdar("index", file, "--refused", refused)
    assert ended.code == 1
    last = ended.out.splitlines()[-1]
    assert last.startswith("indexed 20 documents into docs in ")
    assert last.endswith("10 refused")
    assert "refused: line 11: not JSON" in ended.err
    assert "refused: line 12 (r0): document.text is refused" in ended.err
    assert ended.err.count("refused: line") == 5
    assert str(refused) in ended.err
    written = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [item["place"] for item in written] == [f"line {number}" for number in range(11, 21)]
    assert len(double.documents) == 20


def test_index_makes_a_missing_collection_and_says_so(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    file = write(tmp_path / "docs.jsonl", *LINES)
    first = sirdar("index", file, "--collection", "new")
    assert first.code == 0
    assert "created collection new" in first.err
    assert "created" not in sirdar("index", file, "--collection", "new").err
    assert len(double.documents) == 20


def test_index_goes_on_after_a_broken_stream(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    double.endings.append(Ending(answers=5, error=Unavailable("gone")))
    ended = sirdar("index", write(tmp_path / "docs.jsonl", *LINES))
    assert ended.code == 0
    assert "indexed 20 documents" in ended.out


def test_index_of_python_docs(double: Double, sirdar: Sirdar) -> None:
    ended = sirdar("index", "--python-docs", "--package", "typer")
    assert ended.code == 0
    assert ("docs", "typer/typer.main.Typer") in double.documents or len(double.documents) > 10
    assert ", 0 refused" in ended.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"],
        ["index", "f.jsonl", "--python-docs"],
        ["index", "f.jsonl", "--package", "x"],
        ["search"],
        ["nonsense"],
        ["search", "q", "--top-k", "many"],
        ["status", "--tier", "nonsense"],
    ],
)
def test_wrong_usage_ends_with_2(sirdar: Sirdar, arguments: list[str]) -> None:
    assert sirdar(*arguments).code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "q", "--collection", "nowhere"], ["there is no collection 'nowhere'"]),
        (["search", "q", "--top-k", "99999999999"], ["top_k", "32 bits"]),
        (["index", "/no/such/file.jsonl"], ["/no/such/file.jsonl", "No such file"]),
        (["index", "--python-docs", "--package", "no-such"], ["'no-such' is not installed"]),
        (["--address", "127.0.0.1:1", "search", "q"], ["127.0.0.1:1", "sirdar up", "--address"]),
        (["--address", "nonsense", "search", "q"], ["host:port"]),
        (["collections", "create", "docs"], ["exists"]),
    ],
)
def test_an_error_is_one_line_with_the_fix(
    sirdar: Sirdar, arguments: list[str], words: list[str]
) -> None:
    ended = sirdar(*arguments)
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_a_slow_server_is_told_apart(double: Double, sirdar: Sirdar) -> None:
    double.delay_seconds = 30
    ended = sirdar("--timeout", "0.2", "search", "q")
    assert ended.code == 1
    assert ended.err == "error: no answer within 0.2 s: allow more with --timeout\n"


def test_status_shows_tiers_and_collections(double: Double, sirdar: Sirdar) -> None:
    up = sirdar("status", "--tier", f"other={double.address}")
    assert up.code == 0
    assert up.out.count("serving") == 2
    assert "12,345" in up.out
    assert "23,456" in up.out
    down = sirdar("status", "--tier", "other=127.0.0.1:1")
    assert down.code == 1
    assert "down" in down.out


def test_collections_are_made_listed_and_deleted(double: Double, sirdar: Sirdar) -> None:
    assert sirdar("collections", "create", "new", "--shards", "2", "--index", "flat").code == 0
    assert double.collections["new"].generation.shards == 2
    assert "new" in sirdar("collections", "list").out
    assert sirdar("collections", "delete", "new", "--yes").code == 0
    assert "new" not in double.collections


def test_the_command_speaks_mutual_tls(tmp_path: Path, sirdar: Sirdar) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    roots, certificate, key = (tmp_path / name for name in ("ca", "certificate", "key"))
    authority.cert_pem.write_to_path(str(roots))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    files = {"tls_certificate_file": certificate, "tls_key_file": key, "tls_client_ca_file": roots}
    own = ("--certificate-file", certificate, "--key-file", key)
    with running_double(**files) as secure:
        at = ("--address", secure.address, "--timeout", "5")
        assert sirdar(*at, "--ca-file", roots, *own, "collections", "list").code == 0
        assert sirdar(*at, "--ca-file", roots, "collections", "list").code == 1
        assert sirdar(*at, "collections", "list").code == 1
    assert sirdar(*at, *own, "collections", "list").code == 2
    missing = sirdar(*at, "--ca-file", tmp_path / "none", "collections", "list")
    assert "tls.ca_file cannot be read" in missing.err


def test_help_lists_added_commands_and_loads_nothing_heavy() -> None:
    program = """
import sys
sys.argv = ["sirdar", "--help"]
from sirdar.cli.main import main
try:
    main()
finally:
    heavy = {"grpc", "google.protobuf", "torch", "faiss", "services.stack.stack"}
    print("loaded", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "Start all tiers" in done.stdout
    assert "loaded []" in done.stdout


def test_a_reader_that_leaves_is_no_error(double: Double) -> None:
    double.answer.results.add(document_id="d").snippet.text = "x" * 1_000_000
    process = in_a_process(double.address, "search", "q", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(20)


def test_ctrl_c_ends_indexing_with_the_count_and_130(double: Double) -> None:
    process = in_a_process(double.address, "index", "-")
    assert process.stdin is not None
    process.stdin.write("".join(f"{line}\n" for line in LINES).encode())
    process.stdin.flush()
    for _ in range(200):
        if len(double.documents) == len(LINES):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out.startswith(b"indexed ")
    assert b"Traceback" not in err
