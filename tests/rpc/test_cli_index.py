"""`sirdar index` on files and folders, broken off and gone on with, and watching."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sirdar.cli.index_run import IndexRun
from sirdar.cli.progress import IndexProgress
from sirdar.cli.refusals import Refusals
from sirdar.cli.watch import Watch
from sirdar.client import Client
from sirdar.errors import Unavailable
from sirdar.v1 import collection_pb2
from tests.rpc.search_double import Double, Ending, running_double
from tests.rpc.terminal_command import Sirdar, in_a_process, in_process

LINES = [json.dumps({"id": f"d{number}", "text": f"text {number}"}) for number in range(20)]


@pytest.fixture
def double() -> Iterator[Double]:
    with capture_logs(), running_double() as double:
        double.collections["docs"] = collection_pb2.Collection(name="docs")
        yield double


@pytest.fixture
def sirdar(
    double: Double,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Sirdar:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return in_process(double.address, monkeypatch, capsys)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a.txt", "b.md"):
        (folder / name).write_text(f"text of {name}")
    return folder


def ids(double: Double) -> set[str]:
    return {key for _, key in double.documents}


def file_of(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_folder_is_indexed_and_what_is_skipped_counted(
    double: Double, sirdar: Sirdar, notes: Path, tmp_path: Path
) -> None:
    (notes / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (notes / "empty.txt").write_bytes(b"")
    refused = tmp_path / "refused.jsonl"
    ended = sirdar("index", notes, "--refused", refused)
    assert ended.code == 0
    assert ended.out.strip().endswith("2 skipped (1 empty, 1 binary), 0 refused")
    assert ids(double) == {"a.txt", "b.md"}
    written = [json.loads(line) for line in refused.read_text().splitlines()]
    assert {item["message"] for item in written} == {"skipped: empty", "skipped: binary"}


def test_several_paths_of_all_kinds_are_indexed(
    double: Double, sirdar: Sirdar, notes: Path, tmp_path: Path
) -> None:
    lines = file_of(tmp_path, [*LINES[:2], "{"])
    table = tmp_path / "table.csv"
    table.write_text("body\nrow\n")
    beir = tmp_path / "beir"
    beir.mkdir()
    (beir / "corpus.jsonl").write_text('{"_id": "q", "title": "t", "text": "x", "metadata": {}}\n')
    (beir / "queries.jsonl").write_text("never read")
    page = tmp_path / "page.html"
    page.write_text("<p>words")
    ended = sirdar("index", lines, table, beir, notes, page)
    assert ids(double) == {"d0", "d1", "table.csv#1", "q", "a.txt", "b.md", page.as_posix()}
    assert ended.code == 1
    assert f"{lines}: line 3: not JSON" in ended.err.replace("\n", "")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"id,summary\n1,x\n", ["id, summary", "--text-column"]),
        ("t.bin", b"\x7fELF\0\0", ["binary file"]),
        ("folder", None, ["no files"]),
        ("missing", b"", ["No such file"]),
    ],
)
def test_a_path_that_gives_nothing_is_one_line_and_touches_nothing(
    double: Double,
    sirdar: Sirdar,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    words: list[str],
) -> None:
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif content:
        path.write_bytes(content)
    ended = sirdar("index", file_of(tmp_path, LINES), path, "--collection", "new")
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert name in line
    for word in words:
        assert word in line
    assert not double.documents
    assert "new" not in double.collections


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that breaks is not taken up again."""
    index = Client.index

    def without_patience(self, collection, documents):  # type: ignore[no-untyped-def]
        return index(self, collection, documents, patience_seconds=0.0)

    monkeypatch.setattr(Client, "index", without_patience)


def broken_off(double: Double, sirdar: Sirdar, file: Path, answers: int) -> None:
    """Indexes as many, then the gateway is away for good."""
    double.endings.extend([Ending(answers, error=Unavailable("gone"))])
    double.endings.extend([Ending(0, error=Unavailable("gone"))] * 50)
    ended = sirdar("index", file)
    assert ended.code == 1
    assert "--resume goes on from there" in ended.err
    double.endings.clear()
    double.received.clear()


@pytest.mark.usefixtures("impatient")
def test_a_file_that_broke_off_is_gone_on_with(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    file = file_of(tmp_path, LINES)
    broken_off(double, sirdar, file, 12)
    ended = sirdar("index", file, "--resume")
    assert ended.code == 0
    assert "goes on after 12 lines" in ended.err
    assert double.received == [f"d{number}" for number in range(12, 20)]
    assert len(double.documents) == 20
    again = sirdar("index", file, "--resume")
    assert "nothing to resume" in again.err
    assert "indexed 20 documents" in again.out


@pytest.mark.usefixtures("impatient")
def test_a_file_that_changed_or_another_collection_starts_anew(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    file = file_of(tmp_path, LINES)
    broken_off(double, sirdar, file, 12)
    double.collections["docs"].created.seconds = 7
    assert "indexed 20 documents" in sirdar("index", file, "--resume").out
    double.documents.clear()
    broken_off(double, sirdar, file, 12)
    file.write_text(file.read_text() + json.dumps({"id": "more", "text": "x"}) + "\n")
    assert "indexed 21 documents" in sirdar("index", file, "--resume").out


@pytest.mark.usefixtures("impatient")
def test_a_table_is_gone_on_with_and_numbers_its_rows_as_before(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    file = tmp_path / "t.csv"
    file.write_text("text\n" + "".join(f"row {number}\n" for number in range(1, 21)))
    broken_off(double, sirdar, file, 12)
    assert sirdar("index", file, "--resume").code == 0
    assert double.received == [f"t.csv#{number}" for number in range(13, 21)]


@pytest.mark.usefixtures("impatient")
def test_a_state_folder_that_cannot_be_written_is_said_once(
    double: Double, sirdar: Sirdar, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file where the folder would be")
    file = file_of(tmp_path, LINES)
    assert sirdar("index", file).code == 0
    double.endings.append(Ending(5, error=Unavailable("gone")))
    double.endings.extend([Ending(0, error=Unavailable("gone"))] * 50)
    ended = sirdar("index", file)
    assert ended.code == 1
    assert ended.err.count("--resume will not work") == 1


def watch(double: Double, folder: Path, client: Client, said: list[str]) -> Watch:
    refusals = Refusals(None, said.append)
    return Watch(
        client,
        "docs",
        [folder],
        IndexRun(client, client.get_collection("docs"), IndexProgress(None), refusals),
        said.append,
    )


def test_watching_indexes_changes_and_deletes_what_vanished(double: Double, notes: Path) -> None:
    said: list[str] = []
    with Client(double.address) as client:
        watching = watch(double, notes, client, said)
        watching.update()
        assert ids(double) == {"a.txt", "b.md"}
        double.received.clear()
        watching.update()
        assert double.received == []
        (notes / "a.txt").unlink()
        (notes / "b.md").write_text("other words")
        (notes / "new").mkdir()
        (notes / "new" / "c.txt").write_text("c")
        watching.update()
        assert ids(double) == {"b.md", "new/c.txt"}
        assert double.documents["docs", "b.md"].document.text == "other words"
        (notes / "b.md").write_bytes(b"\0\0now binary")
        (notes / "new").rename(notes / "moved")
        watching.update()
        assert ids(double) == {"moved/c.txt"}
    assert "deleted a.txt" in said


def test_a_folder_that_is_gone_deletes_nothing(double: Double, notes: Path) -> None:
    with Client(double.address) as client:
        watching = watch(double, notes, client, [])
        watching.update()
        notes.rename(notes.with_name("elsewhere"))
        with pytest.raises(FileNotFoundError):
            watching.update()
        assert ids(double) == {"a.txt", "b.md"}


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def test_watching_goes_on_after_the_gateway_was_away_until_ctrl_c(
    double: Double, notes: Path
) -> None:
    process = in_a_process(double.address, "index", notes, "--watch")
    assert process.stderr is not None
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
    reader.start()
    try:
        eventually(lambda: ids(double) == {"a.txt", "b.md"})
        # More than the call's own retries take.
        double.refusals.extend([Unavailable("gone")] * 12)
        (notes / "a.txt").unlink()
        eventually(lambda: not double.refusals)
        (notes / "c.txt").write_text("c")
        eventually(lambda: ids(double) == {"b.md", "c.txt"})
        notes.rename(notes.with_name("elsewhere"))
        eventually(lambda: any(b"is gone" in line for line in said))
        assert ids(double) == {"b.md", "c.txt"}
        notes.mkdir()
        (notes / "d.txt").write_text("d")
        eventually(lambda: ids(double) == {"d.txt"})
        (notes / "e.txt").write_text("e")
        eventually(lambda: ids(double) == {"d.txt", "e.txt"})
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        reader.join()
    assert process.stdout is not None
    assert process.stdout.read().startswith(b"indexed 5 documents")
    text = b"".join(said)
    assert b"watching" in text
    assert b"will be tried again" in text
    assert b"Traceback" not in text
