"""The program ``modelops nodes``: report the GPUs of a node."""

import argparse
import asyncio
import json
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

log = logging.getLogger(__name__)


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``nodes``."""
    parser = subparsers.add_parser("nodes", help="report the GPUs of a node")
    parser.add_argument("--node", default=os.environ.get("NODE_NAME"), help="name of the node (NODE_NAME)")
    parser.add_argument("--seconds", type=float, default=10.0, help="between two looks at the GPUs")
    parser.add_argument("--port", type=int, default=9402, help="for metrics and probes")
    parser.add_argument("--kubeconfig", default=None)
    parser.add_argument("--once", action="store_true", help="print one report and end; needs no cluster")
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="of --once")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM, or with --once print the report; 1 means that NVML could not be read."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if args.once:
        return _once(args)
    if not args.node:
        print("nodes: needs --node or NODE_NAME, found neither; set one", file=sys.stderr)
        return 2
    if args.seconds < 1:
        print(f"nodes: needs --seconds of 1 or more, found {args.seconds:g}; raise it", file=sys.stderr)
        return 2
    try:
        asyncio.run(_keep(args))
    except asyncio.CancelledError:
        log.info("node=%s stop", args.node)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run without the other programs of the image."""
    parser = argparse.ArgumentParser(prog="modelops")
    add(parser.add_subparsers(dest="program", required=True))
    return run(parser.parse_args(argv))


def _once(args: argparse.Namespace) -> int:
    import yaml

    from modelops.nodes import report
    from modelops.nodes.nvml import Nvml
    from modelops.plan import Reason

    node = args.node or platform.node()
    gpus = Nvml(node)
    seen = gpus.read()
    gpus.close()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    manifest = report.manifest(node, report.status(seen, {}), now, now)
    if args.output == "json":
        print(json.dumps(manifest, indent=2))
    else:
        print(yaml.safe_dump(manifest, sort_keys=False, width=110), end="")
    if isinstance(seen, Reason):
        print(seen.message, file=sys.stderr)
        return 1
    return 0


async def _keep(args: argparse.Namespace) -> None:
    from modelops.clients import kube
    from modelops.clients.probes import serving
    from modelops.nodes.agent import Agent
    from modelops.nodes.nvml import Nvml

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    connection = await kube.connect(args.kubeconfig)
    agent = Agent(connection, Nvml(args.node), args.node, seconds=args.seconds, clock=time.monotonic)
    try:
        async with serving(args.port, lambda: agent.is_ready, program="nodes", node=args.node):
            await agent.run()
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())
