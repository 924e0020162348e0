"""``kubectl modelops explain``: why a service runs where it runs, or nowhere."""

import argparse

from modelops.cli import flags, screen
from modelops.plan import Manifest


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of ``kubectl modelops``."""
    parser = flags.command(
        subparsers,
        "explain",
        help_="tell why a service runs where it runs, or nowhere",
        description="Tell which node was chosen for a service, why every other one was not, what holds the\n"
        "service back, and what to do next.",
        example="  kubectl modelops explain chat -n quickstart",
    )
    parser.add_argument("name", metavar="NAME", help="an InferenceService")
    flags.add_output(parser)
    flags.add_cluster(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the explanation."""
    from modelops.cli import cluster  # 0.4 s of CPU that --help need not pay
    from modelops.cli.output import dump
    from modelops.cli.places import places

    async def look(seen: cluster.Cluster) -> Manifest:
        return await seen.get("InferenceService", args.name)

    service = cluster.ask(cluster.target(args), look)
    if args.output:
        dump(((service.get("status") or {}).get("placement") or {}).get("plan") or {}, args.output)
    else:
        screen.show(places(service, screen.here()))
    return 0
