"""Start the runtime: ``modelops-predictive --name NAME --format FORMAT --file FILE``."""

import argparse
import logging
import os
import sys
from pathlib import Path

from modelops_predictive import predictors
from modelops_predictive.predictors.base import CannotLoad


def main(argv: list[str] | None = None) -> int:
    """Return 0 after a clean end, 1 when the model cannot be served, 2 for wrong arguments."""
    given = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    try:
        predictor = predictors.load(given.format, given.file, allow_pickle=given.allow_pickle)
    except CannotLoad as error:
        print(f"modelops-predictive: {error}", file=sys.stderr)
        return 1
    # Imported late: a model that cannot be loaded is told at once.
    from modelops_predictive.server import Options, serve

    return serve(
        Options(
            name=given.name,
            host=given.host,
            http_port=given.http_port,
            grpc_port=given.grpc_port,
            metrics_port=given.metrics_port,
            threads=given.threads,
            drain_seconds=given.drain_seconds,
        ),
        predictor,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("modelops-predictive", description=__doc__, allow_abbrev=False)
    parser.add_argument("--name", required=True, help="the model's name in the protocol")
    parser.add_argument("--format", required=True, help=f"one of {', '.join(predictors.LOADERS)}")
    parser.add_argument("--file", required=True, type=Path, help="the model")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default 127.0.0.1)")
    parser.add_argument("--http-port", default=8000, type=int, help="default 8000")
    parser.add_argument("--grpc-port", default=8001, type=int, help="default 8001")
    parser.add_argument("--metrics-port", default=8002, type=int, help="default 8002")
    parser.add_argument("--drain-seconds", default=600.0, type=float, help="longest wait after SIGTERM")
    parser.add_argument("--allow-pickle", action="store_true", help="run the code that a pickle holds")
    threads = min(4, os.cpu_count() or 1)
    parser.add_argument("--threads", default=threads, type=int, help="requests answered at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
