"""Run one command of ``kubectl modelops``; each is imported only when it is named, so help comes at once."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from modelops.cli import flags
from modelops.cli.refusal import Refused

COMMANDS = {
    "status": "show services and versions, and what is not fine with them",
    "rollout": "show or watch the way to a new version; promote, abort, retry, pause or resume it",
    "explain": "tell why a service runs where it runs, or nowhere",
    "approve": "approve the bytes of a version, or reject or revoke them",
    "digest": "print the artifact digest of a folder; needs no cluster",
    "fit": "tell whether a model runs on some GPUs, with the arithmetic; needs no cluster",
    "judge": "replay recorded samples through the judge; needs no cluster",
}
"""One line of help by name; the module has the same name."""

REFUSED = 1
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command line and return the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(given)
    args = parser.parse_args(given)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough; the interpreter must not try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return status


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = flags.Parser(
        prog="kubectl modelops",
        description="Approve, watch and explain models on Kubernetes.",
        epilog="kubectl modelops COMMAND --help tells the options of a command and gives an example.",
    )
    flags.add_cluster(parser)
    parser.set_defaults(run=lambda _: _help(parser))
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, help_ in COMMANDS.items():
        if name in given:
            importlib.import_module(f"modelops.cli.{name}").add(subparsers)
        else:
            subparsers.add_parser(name, help=help_)
    return parser


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
