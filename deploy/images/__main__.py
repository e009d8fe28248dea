"""Locks what the images install: `python -m deploy.images --find-links FOLDER`."""

import argparse
import sys

from deploy.images.sets import lock_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.images", description=__doc__)
    parser.add_argument(
        "--find-links", required=True, help="folder or page with PyTorch's wheel for CPUs"
    )
    lock_all(parser.parse_args().find_links)
    return 0


if __name__ == "__main__":
    sys.exit(main())
