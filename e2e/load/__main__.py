"""Send load from a shell: ``python -m e2e.load --url http://ADDRESS:PORT --model NAME``."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from e2e.load.load import Load, Plan


def main(argv: list[str]) -> int:
    """Run for the time asked, or until a signal; write the report; return 1 when something was lost."""
    parser = argparse.ArgumentParser(prog="python -m e2e.load", description="Steady load on one service.")
    parser.add_argument("--url", required=True, help="http://ADDRESS:PORT, loopback or private")
    parser.add_argument("--host-header", default="", help="the Host to ask for")
    parser.add_argument("--model", required=True, help="the model's served name")
    parser.add_argument("--rate", type=float, default=20.0, help="short requests a second (default 20)")
    parser.add_argument("--streams", type=int, default=20, help="long streams always open (default 20)")
    parser.add_argument("--spare-streams", type=int, default=4, help="more of them, to be sure (default 4)")
    parser.add_argument("--stream-seconds", type=float, default=15.0, help="how long each lasts (default 15)")
    parser.add_argument("--stream-tokens", type=int, default=0, help="their shortest length (default: found)")
    parser.add_argument("--most-tokens", type=int, default=1800, help="their longest length (default 1800)")
    parser.add_argument("--seconds", type=float, required=True, help="when to stop opening")
    parser.add_argument("--out", type=Path, help="where the report goes (default: standard output)")
    args = parser.parse_args(argv)
    try:
        plan = Plan(
            url=args.url, model=args.model, host_header=args.host_header, rate=args.rate,
            streams=args.streams, spare_streams=args.spare_streams,
            stream_seconds=args.stream_seconds, stream_tokens=args.stream_tokens,
            most_tokens=args.most_tokens,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    asked_to_stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: asked_to_stop.set())
    load = Load(plan).start()
    asked_to_stop.wait(args.seconds)
    report = load.stop()
    if args.out is None:
        print(report.to_json())
    else:
        args.out.write_text(report.to_json() + "\n")
    return 1 if report.lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
