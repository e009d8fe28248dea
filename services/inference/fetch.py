"""Brings models into the local hub cache: `python -m services.inference.fetch NAME@REVISION ...`.

What a pod runs before its server, which then starts without the hub.
"""

import argparse
import sys
from collections.abc import Sequence

from services.inference.source import ModelSource, find_folder
from sirdar.errors import SirdarError


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches each model; 1 when one cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m services.inference.fetch", description=__doc__)
    parser.add_argument("model", nargs="+", help="a Hugging Face name, with @REVISION behind it")
    for model in parser.parse_args(arguments).model:
        name, _, revision = model.partition("@")
        try:
            folder = find_folder(ModelSource(name, revision), "config.json")
        except SirdarError as error:
            print(f"error: {error.message}", file=sys.stderr)
            return 1
        print(f"{model} is in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
