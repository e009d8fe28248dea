"""The Cranfield collection in BEIR layout: abstracts, queries and graded judgements."""

import csv
import json
import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from sirdar.client import Document

FOLDER_VARIABLE = "SIRDAR_CRANFIELD"
_DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "cranfield"


@dataclass(frozen=True, slots=True)
class Cranfield:
    documents: list[Document]
    # Query id to text, and to the grades of its judged documents.
    queries: dict[str, str]
    grades: dict[str, dict[str, float]]


def load_cranfield() -> Cranfield:
    """Reads it from `../shared/data/cranfield`, or from the folder that $SIRDAR_CRANFIELD names.

    The two abstracts without a text are left out. Exits when the folder is not there.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE, _DEFAULT_FOLDER))
    if not (folder / "corpus.jsonl").is_file():
        sys.exit(f"no corpus.jsonl in {folder}; set {FOLDER_VARIABLE} to the collection's folder")
    documents = [
        Document(id=row["_id"], title=row["title"], text=row["text"])
        for row in _rows(folder / "corpus.jsonl")
        if row["text"].strip()
    ]
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    with (folder / "qrels" / "test.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            grades[row["query-id"]][row["corpus-id"]] = float(row["score"])
    return Cranfield(documents, queries, dict(grades))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return [json.loads(line) for line in file]
