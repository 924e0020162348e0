"""``kubectl modelops status``: everything in a namespace, or one service in detail."""

import argparse
from datetime import UTC, datetime

from modelops.cli import flags, screen
from modelops.cli.detail import detail
from modelops.cli.overview import overview
from modelops.cli.refusal import Refused
from modelops.plan import Manifest


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of ``kubectl modelops``."""
    parser = flags.command(
        subparsers,
        "status",
        help_="show services and versions, and what is not fine with them",
        description="Show the services and versions of a namespace, and every sentence about what is not\n"
        "fine; with NAME one service in detail.",
        example="  kubectl modelops status -n quickstart\n  kubectl modelops status chat -n quickstart",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="an InferenceService; absent: the whole namespace"
    )
    parser.add_argument(
        "-A", "--all-namespaces", action="store_true", help="every namespace, and the GPUs of the nodes"
    )
    flags.add_output(parser)
    flags.add_cluster(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the picture."""
    if args.name and args.all_namespaces:
        raise Refused(
            f"{args.name}: needs one namespace, found --all-namespaces; leave out the name or the flag"
        )

    from modelops.cli import cluster  # 0.4 s of CPU that --help need not pay
    from modelops.cli.output import dump

    async def look(seen: cluster.Cluster) -> tuple[list[Manifest], list[Manifest], list[Manifest]]:
        if args.name:
            services = [await seen.get("InferenceService", args.name)]
        else:
            services = await seen.rows("InferenceService", is_everywhere=args.all_namespaces)
        versions = await seen.rows("ModelVersion", is_everywhere=args.all_namespaces)
        return services, versions, await seen.nodes() if args.all_namespaces else []

    where = cluster.target(args)
    services, versions, nodes = cluster.ask(where, look)
    if args.output:
        dump(services[0] if args.name else [*services, *versions, *nodes], args.output)
        return 0
    now = datetime.now(UTC)
    if args.name:
        screen.show(detail(services[0], versions, screen.here(), now))
        return 0
    title = "all namespaces" if args.all_namespaces else where.namespace
    lines = overview(
        services, versions, title, screen.here(), now, is_everywhere=args.all_namespaces, nodes=nodes
    )
    screen.show(lines)
    return 0
