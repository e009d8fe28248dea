"""Writes the dashboards; with --check fails where those on disk are others than it would write."""

import argparse
import sys
from pathlib import Path

from deploy.dashboards.board import Board
from deploy.dashboards.gateway import gateway
from deploy.dashboards.inference import embedder, reranker
from deploy.dashboards.overview import overview
from deploy.dashboards.retriever import retriever

FOLDER = Path(__file__).parent.parent / "k8s" / "sirdar" / "dashboards"


def boards() -> list[Board]:
    return [overview(), gateway(), embedder(), retriever(), reranker()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true")
    only_check = parser.parse_args().check
    wanted = {FOLDER / f"{board.uid}.json": board.json() for board in boards()}
    stale = sorted(
        {path for path, text in wanted.items() if not path.exists() or path.read_text() != text}
        | (set(FOLDER.glob("*.json")) - wanted.keys())
    )
    if only_check:
        for path in stale:
            print(f"{path.name} is not what is built: run `make dashboards`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.unlink(missing_ok=True)
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
