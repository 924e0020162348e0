"""The options that commands share, named as in kubectl."""

import argparse
import sys
from typing import NoReturn

BAD_INPUT = 2


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong with the command line, and ends with 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(BAD_INPUT)


def command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    *,
    help_: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add the parser of one command; its help ends with *example*."""
    return subparsers.add_parser(
        name,
        help=help_,
        description=description,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which cluster, which namespace, and on whose behalf.

    Without a default here they may stand before the command as well as after it.
    """
    group = parser.add_argument_group("cluster, as in kubectl")
    quiet = argparse.SUPPRESS
    group.add_argument(
        "--kubeconfig", metavar="FILE", default=quiet, help="default: $KUBECONFIG, ~/.kube/config"
    )
    group.add_argument(
        "--context", metavar="NAME", default=quiet, help="default: the current one of the file"
    )
    group.add_argument("-n", "--namespace", metavar="NS", default=quiet, help="default: that of the context")
    group.add_argument("--as", dest="as_user", metavar="USER", default=quiet, help="impersonate this user")
    group.add_argument(
        "--as-group", metavar="GROUP", action="append", default=quiet, help="and this group; may be repeated"
    )


def add_output(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add ``-o``: text for people when absent."""
    parser.add_argument("-o", "--output", choices=("json", "yaml", *more), help="default: text for people")
