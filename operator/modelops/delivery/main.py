"""The programs of delivery: ``modelops delivery resolve|agent|wait``."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)

TERMINATION_LOG = "/dev/termination-log"


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``delivery`` with its three programs."""
    delivery = subparsers.add_parser(
        "delivery", help="fetch, verify and cache models on a node; pin a version"
    )
    programs = delivery.add_subparsers(dest="delivery", metavar="PROGRAM", required=True)

    resolve = programs.add_parser("resolve", help="pin MODELOPS_SOURCE to a commit and its digest")
    resolve.add_argument("--answer", type=Path, default=Path(TERMINATION_LOG), help="file for the verdict")

    agent = programs.add_parser("agent", help="keep the models of one node")
    agent.add_argument("--node", default=os.environ.get("NODE_NAME"), help="name of the node (NODE_NAME)")
    agent.add_argument("--store", type=Path, default=Path("/var/lib/modelops/store"))
    agent.add_argument("--keep-free-percent", type=int, default=5, help="of the store's disk")
    agent.add_argument("--port", type=int, default=9401, help="for metrics and probes")
    agent.add_argument("--kubeconfig", default=None)

    wait = programs.add_parser("wait", help="return once a folder exists")
    wait.add_argument("--path", default="/model/files")


def run(args: argparse.Namespace) -> int:
    """Run the chosen program and return its exit status."""
    match args.delivery:
        case "wait":
            return _wait(args)
        case "resolve":
            return asyncio.run(_resolve(args))
        case _:
            return _agent(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run without the other programs of the image."""
    parser = argparse.ArgumentParser(prog="modelops")
    add(parser.add_subparsers(dest="program", required=True))
    return run(parser.parse_args(argv))


def _wait(args: argparse.Namespace) -> int:
    from modelops.delivery.wait import wait

    def stop(*_: int | FrameType | None) -> None:
        sys.exit(128 + signal.SIGTERM)

    # The first process of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, stop)
    wait(args.path, say=lambda line: print(line, flush=True))
    return 0


async def _resolve(args: argparse.Namespace) -> int:
    """Write the verdict to the termination log; 1 means that none could be given."""
    from modelops.delivery import resolve
    from modelops.delivery.sources import open_source
    from modelops.delivery.sources.base import Credential, Unavailable, redacted
    from modelops.plan import Reason

    _log()
    spec = resolve.from_environment(os.environ)
    token = _token()
    source = (
        spec if isinstance(spec, Reason) else open_source(spec, Credential(token), allowed_hosts=_hosts())
    )
    if isinstance(source, Reason):
        answer = resolve.refused(source)
    else:
        try:
            answer = await resolve.resolve(source)
        except Unavailable as error:
            print(f"{error}; the Job is started again", file=sys.stderr)
            return 1
        finally:
            await source.close()
    text = redacted(resolve.written(answer).decode(), token)
    if args.answer.exists() or args.answer != Path(TERMINATION_LOG):
        args.answer.write_text(text)
    print(text, flush=True)
    return 0


def _agent(args: argparse.Namespace) -> int:
    _log()
    if not args.node:
        print("delivery agent: needs --node or NODE_NAME, found neither; set one", file=sys.stderr)
        return 2
    try:
        asyncio.run(_keep(args))
    except asyncio.CancelledError:
        log.info("node=%s stop", args.node)
    return 0


async def _keep(args: argparse.Namespace) -> None:
    from modelops.clients import kube
    from modelops.clients.probes import serving
    from modelops.delivery.agent import Agent
    from modelops.delivery.cache import Store

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    connection = await kube.connect(args.kubeconfig)
    agent = Agent(
        connection,
        Store(args.store),
        args.node,
        allowed_hosts=_hosts(),
        namespaces=_list("MODELOPS_WATCH_NAMESPACES"),
        keep_free_percent=args.keep_free_percent,
        clock=time.monotonic,
    )
    try:
        async with serving(args.port, lambda: agent.is_ready, program="delivery", node=args.node):
            await agent.run()
    finally:
        await connection.close()


def _token() -> str:
    """Return the token that the kubelet mounted, or nothing."""
    path = os.environ.get("HF_TOKEN_PATH")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _hosts() -> frozenset[str]:
    """Return the hosts that may have private addresses, as the administrator listed them."""
    return frozenset(host.lower() for host in _list("MODELOPS_ALLOWED_HOSTS"))


def _list(name: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in os.environ.get(name, "").split(",") if item.strip())


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("httpx", "httpx2", "httpcore2", "huggingface_hub", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
