"""Writes what is made of the chart: the schema of its values, and the plain manifests.

With --check fails where what is on disk is other than it would write.
"""

import argparse
import sys

from deploy.chart.manifests import FOLDER, manifests
from deploy.chart.schema import SCHEMA, schema_text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.chart", description=__doc__)
    parser.add_argument("--check", action="store_true")
    only_check = parser.parse_args().check
    schema = schema_text()
    stale = not SCHEMA.exists() or SCHEMA.read_text() != schema
    if only_check and stale:
        print(f"{SCHEMA.name} is not what is made: run `make chart`", file=sys.stderr)
        return 1
    # Rendering holds the defaults to the schema on disk.
    SCHEMA.write_text(schema)
    wanted = manifests()
    there = {path: path.read_text() for path in FOLDER.glob("*.yaml")}
    if only_check:
        for path in sorted({*wanted, *there}):
            if wanted.get(path) != there.get(path):
                print(f"manifests/{path.name} is not what is rendered: run `make chart`")
                stale = True
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path in there.keys() - wanted.keys():
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
