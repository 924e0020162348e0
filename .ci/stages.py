"""Run every stage of `make test` in order, print the time of each, and end with one honest line."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass

STAGES = (
    ("set up", "venv"),
    ("binaries and images", "warm"),
    ("verify", "verify"),
    ("integration", "integration"),
    ("end to end", "e2e"),
)
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|error|errors|xfailed|xpassed)\b")
CLOSING = re.compile(r"\b\d+ (?:passed|failed|error).* in [\d.]+s")


@dataclass
class Stage:
    """One stage and what became of it."""

    name: str
    seconds: float = 0.0
    code: int | None = None


def main() -> int:
    """Return 0 when every stage passed, none was left out and no test was skipped."""
    stages = [Stage(name) for name, _ in STAGES]
    totals: dict[str, int] = {}
    for stage, (_, target) in zip(stages, STAGES, strict=True):
        print(f"\n===== {stage.name}", flush=True)
        start = time.monotonic()
        stage.code = run(target, totals)
        stage.seconds = time.monotonic() - start
        print(
            f"===== {stage.name}: {'passed' if stage.code == 0 else 'FAILED'} after {stage.seconds:.0f} s",
            flush=True,
        )
        if stage.code:
            break
    print("\nstage                  seconds  result")
    for stage in stages:
        result = "not reached" if stage.code is None else "passed" if stage.code == 0 else "failed"
        print(f"{stage.name:<22} {stage.seconds:7.0f}  {result}")
    failed = totals.get("failed", 0) + totals.get("error", 0) + totals.get("errors", 0)
    good = all(stage.code == 0 for stage in stages)
    if not good and failed == 0:
        failed = 1
    print(f"tests: {totals.get('passed', 0)} passed, {failed} failed, {totals.get('skipped', 0)} skipped")
    return 0 if good and totals.get("skipped", 0) == 0 else 1


def run(target: str, totals: dict[str, int]) -> int:
    """Run one make target, pass its output on, and add up what pytest counted."""
    process = subprocess.Popen(
        ["make", "--no-print-directory", target],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if CLOSING.search(line):
            for count, word in COUNTS.findall(line):
                totals[word] = totals.get(word, 0) + int(count)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
