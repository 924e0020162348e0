"""Serve model repositories from a folder: ``python -m e2e.hub --data DIR --port 8080``."""

import argparse
from pathlib import Path

from aiohttp import web

from e2e.hub.server import Hub, describe


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m e2e.hub", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of <organisation>/<name>/<revision>/"
    )
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--token", action="append", default=[], help="may read everything; repeatable")
    parser.add_argument(
        "--stranger-token", action="append", default=[], help="valid, without access; repeatable"
    )
    parser.add_argument("--private", action="append", default=[], metavar="ORG/REPO")
    parser.add_argument("--gated", action="append", default=[], metavar="ORG/REPO")
    parser.add_argument("--object-base", default="", help="another origin for the content of LFS files")
    args = parser.parse_args()
    hub = Hub(
        args.data,
        tokens=frozenset(args.token),
        strangers=frozenset(args.stranger_token),
        private=frozenset(args.private),
        gated=frozenset(args.gated),
        object_base=args.object_base,
    )
    print(describe(hub), flush=True)
    web.run_app(hub.app(), host=args.host, port=args.port, print=None, access_log=None, shutdown_timeout=1)


if __name__ == "__main__":
    main()
