"""Write the tiny chat models of the tests: ``python -m e2e.models --out DIR``."""

import argparse
from pathlib import Path

from e2e.models.tiny import GEOMETRY, write_repository


def main() -> None:
    """Write one repository with a folder for each revision."""
    parser = argparse.ArgumentParser(prog="python -m e2e.models", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for <organisation>/<name>/<revision>/"
    )
    parser.add_argument("--repo", default="acme/tiny-chat", help="organisation/name")
    parser.add_argument(
        "--revision", action="append", help="name of a revision; may be repeated (default v1, v2, v3)"
    )
    args = parser.parse_args()
    for file in write_repository(args.out / args.repo, args.revision or ["v1", "v2", "v3"], GEOMETRY):
        print(f"{file} {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
