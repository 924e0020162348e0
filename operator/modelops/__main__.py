"""The programs of the one image; each is imported only when it is chosen, since imports cost memory."""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import version

PROGRAMS = {
    "operator": ("modelops.controllers.main", "run the controllers"),
    "delivery": ("modelops.delivery.main", "fetch, verify and cache models on a node; pin a version"),
    "nodes": ("modelops.nodes.main", "report the GPUs of a node"),
    "meter": ("modelops.meter.main", "pass requests through to an engine and measure them"),
    "cleanup": ("modelops.controllers.cleanup", "remove what an uninstall leaves"),
    "monitor": ("modelops.feeds.main", "keep payload logs, labels and evaluations"),
}
"""Module and one line of help by name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen program and return its exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in given if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(prog="modelops", description="ModelOps on Kubernetes.")
    subparsers = parser.add_subparsers(dest="program", metavar="PROGRAM", required=True)
    for name, (module, help_) in PROGRAMS.items():
        if not _is_built(module):
            continue
        if name == chosen:
            importlib.import_module(module).add(subparsers)
        else:
            subparsers.add_parser(name, help=help_)
    subparsers.add_parser("version", help="print the version")
    args = parser.parse_args(given)
    if args.program == "version":
        print(f"modelops {version('modelops')}")
        return 0
    status: int = importlib.import_module(PROGRAMS[args.program][0]).run(args)
    return status


def _is_built(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
