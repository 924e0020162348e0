"""Bring a cluster up or down by hand: ``python -m e2e.cluster up --name demo``."""

import argparse
import sys

import e2e.cluster
from e2e.cluster import LAYERS, PROVIDERS
from e2e.cluster.packages import Unsupported
from e2e.cluster.progress import CommandFailed


def main() -> int:
    """Do what the command line says; return the exit code."""
    given = _parser().parse_args()
    try:
        _act(given)
    except (RuntimeError, ValueError, LookupError, TimeoutError, CommandFailed, Unsupported) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _act(given: argparse.Namespace) -> None:
    cluster = e2e.cluster.open(given.name, given.provider)
    match given.action:
        case "up":
            cluster.up(set(given.layer or LAYERS))
        case "down":
            cluster.down()
        case "status":
            for name, state in cluster.status().items():
                print(f"{name:24} {state}")
        case "kubeconfig":
            print(cluster.user_kubeconfig(given.user, given.group) if given.user else cluster.kubeconfig)
        case "restart-node":
            cluster.restart_node(given.node)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="test", help="the cluster's name (test)")
    common.add_argument("--provider", choices=PROVIDERS, default="auto", help="who provides it (auto)")
    up = actions.add_parser("up", parents=[common], help="bring it up; may be repeated")
    up.add_argument(
        "--layer", action="append", choices=LAYERS, help="only this layer and what it needs (all)"
    )
    actions.add_parser("down", parents=[common], help="remove every trace of it")
    actions.add_parser("status", parents=[common], help="print what runs and where")
    config = actions.add_parser("kubeconfig", parents=[common], help="print the path of a kubeconfig")
    config.add_argument("--user", help="act as this user instead of the administrator")
    config.add_argument("--group", action="append", default=[], help="a group of that user; may be repeated")
    restart = actions.add_parser("restart-node", parents=[common], help="start a node again")
    restart.add_argument("node", help="n1 or n2")
    return parser


if __name__ == "__main__":
    sys.exit(main())
