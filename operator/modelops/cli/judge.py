"""``kubectl modelops judge``: replay recorded samples through the judge.  Needs no cluster."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from modelops.analysis.replay import Refused, replay

BAD_INPUT = 2


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of ``kubectl modelops``."""
    parser = subparsers.add_parser(
        "judge",
        help="replay recorded samples through the judge and print the verdict per window",
        description="Replay recorded samples through the judge: to tune a policy on yesterday's traffic, or\n"
        "to explain a decision. Ends with 0 for every verdict and with 2 when the samples cannot be judged.",
        epilog="example:\n  kubectl modelops judge --samples yesterday.json -o json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--samples",
        required=True,
        metavar="FILE",
        help="JSON file with the samples; - reads stdin",
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "json"),
        default="table",
        help="default: table",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the verdict; a refusal goes to stderr in one sentence."""
    try:
        result = replay(_document(args.samples))
    except Refused as error:
        print(f"{args.samples}: {error}", file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(result, indent=2) if args.output == "json" else _table(result))
    return 0


def _document(path: str) -> object:
    try:
        if path == "-":
            return json.load(sys.stdin)
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise Refused(f"needs a file that can be read, found {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"needs JSON, found {str(error) or type(error).__name__}") from error


def _table(result: dict[str, Any]) -> str:
    decided = "" if result["decidedAt"] is None else f" after {result['decidedAt']}s"
    windows = [
        [
            f"{row['t']}s",
            row["verdict"],
            row["reason"],
            "yes" if row["used"] else "no",
            f"{row['regression']:.3g}",
            f"{row['robust']:.3g}",
            f"{row['certificate']:.3g}",
        ]
        for row in result["intervals"]
    ]
    metrics = [
        [
            row["name"],
            "" if row["boundary"] is None else f"{row['boundary']:g}s",
            f"{row['n']['canary']}/{row['n']['stable']}",
            _percent(row["canary"]),
            _percent(row["stable"]),
            f"{row['regression']:.3g}",
            f"{row['robust']:.3g}",
            "-" if row["certificate"] is None else f"{row['certificate']:.3g}",
        ]
        for row in result["metrics"]
    ]
    return "\n".join(
        [
            *_columns(
                [
                    "WINDOW",
                    "VERDICT",
                    "REASON",
                    "USED",
                    "EVIDENCE",
                    "ROBUST",
                    "CERTIFICATE",
                ],
                windows,
            ),
            "",
            *_columns(
                [
                    "METRIC",
                    "OVER",
                    "REQUESTS",
                    "CANARY",
                    "STABLE",
                    "EVIDENCE",
                    "ROBUST",
                    "CERTIFICATE",
                ],
                metrics,
            ),
            "",
            f"{result['verdict']}{decided} ({result['reason']}): {result['message']}",
        ]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}%"


def _columns(head: list[str], rows: Sequence[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = (
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [head, *rows]
    )
    return [line.rstrip() for line in lines]
