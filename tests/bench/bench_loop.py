"""What the control loop costs: memory, CPU and writes of the real program, beside the goals.

``python -m tests.bench.bench_loop``, or ``make bench-loop ARGS="--services 500"``.  The server is the fake
API server, in a process of its own; the operator is ``modelops operator`` with every kind.  The answer is one
JSON object and a line that sums it up; the exit status is 1 when a goal in CPU seconds, MB or counts is
missed.  Wall times are printed and never gated, since machines differ.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import loop_phases as phases
from tests.bench.loop_phases import Figures
from tests.bench.loop_run import operating, say, serving
from tests.fakeapi.running import InProcess

SERVICES = 5000
SOME = 1000
IDLE_SECONDS = 60.0
REALISTIC_MB = {"some realistic": 999.0, "many realistic": 999.0}
"""The second gate of memory: the first honest figure and a tenth."""
CHANGE_MS = 99.0
"""The second gate of events, for those that ask for a pass: the first honest figure and a tenth."""


@dataclass(frozen=True)
class Goal:
    """One figure beside its goal; without *is_gate* it is only shown."""

    name: str
    found: float
    limit: float
    unit: str
    is_gate: bool = True

    @property
    def is_met(self) -> bool:
        return self.found <= self.limit


def main(argv: list[str] | None = None) -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=SERVICES, help="the large size; default: %(default)s")
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS, metavar="SECONDS")
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="where the operator's log is kept")
    args = parser.parse_args(argv)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as made, serving() as api:
        folder = args.log or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        figures = _figures(api, folder, args)
    goals = list(_goals(figures))
    told = {
        "figures": figures,
        "goals": [{**asdict(goal), "is_met": goal.is_met} for goal in goals],
        "seconds": round(time.monotonic() - start),
        "load_average": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
    }
    print(json.dumps(told, indent=1))
    print(summary(goals, time.monotonic() - start))
    return 1 if missed(goals) else 0


def missed(goals: list[Goal]) -> list[Goal]:
    """Return the gates that are not met."""
    return [goal for goal in goals if goal.is_gate and not goal.is_met]


def summary(goals: list[Goal], seconds: float) -> str:
    """Return the line that a person looks for."""
    shown = ", ".join(f"{goal.name} {goal.found:g} {goal.unit}" for goal in goals)
    wrong = ", ".join(goal.name for goal in missed(goals))
    verdict = f"MISSED: {wrong}" if wrong else "all goals met"
    return f"bench-loop: {verdict} ({shown}; {seconds:.0f} s)"


def _figures(api: InProcess, folder: Path, args: argparse.Namespace) -> Figures:
    some = min(SOME, args.services)
    out: Figures = {"standby": phases.standby(api, folder), "idle leader": _idle_leader(api, folder)}
    out["start of all"] = _start_of_all(api, folder, some)
    out["some"] = _at_rest(api, folder, some, is_realistic=False)
    out["many"] = _at_rest(api, folder, args.services, is_realistic=False)
    out |= _at_work(api, folder, args)
    out["leak"] = phases.leak(api, folder, args.services // 2)
    out["some realistic"] = _at_rest(api, folder, some, is_realistic=True)
    out["many realistic"] = _at_rest(api, folder, args.services, is_realistic=True)
    return out


def _idle_leader(api: InProcess, folder: Path) -> Figures:
    phases.filled(api, 1)
    with operating(api, folder) as operator:
        phases.begun(api, operator)
        return operator.settled()


def _start_of_all(api: InProcess, folder: Path, services: int) -> Figures:
    """Let services begin that have no children yet."""
    objects = phases.filled(api, services, what="bare")
    with operating(api, folder) as operator:
        found = phases.begun(api, operator)
    return {"objects": objects, **found, "cpu_ms_each": round(1000 * found["cpu_s"] / services, 2)}


def _at_rest(api: InProcess, folder: Path, services: int, *, is_realistic: bool) -> Figures:
    """Let services be seen for the first time, then by a new process, and measure its memory."""
    objects = phases.filled(api, services, is_realistic=is_realistic)
    with operating(api, folder) as operator:
        first = phases.begun(api, operator)
    say("restart")
    with operating(api, folder) as operator:
        again = phases.begun(api, operator)
        memory = operator.settled()
    sizes = {kind: api.call("bytes_of", kind) for kind in ("InferenceService", "Deployment", "Pod")}
    counted = {"services": services, "objects": objects, "bytes": sizes}
    return {**counted, "first": first, "restart": again, "memory": memory}


def _at_work(api: InProcess, folder: Path, args: argparse.Namespace) -> Figures:
    """Go on with what `_at_rest` left on the server."""
    with operating(api, folder) as operator:
        phases.begun(api, operator)
        return {
            "idle": phases.idle(api, operator, args.idle),
            "resync": phases.resync(api, operator),
            "storm": phases.storm(api, operator, args.services),
            "storm of changes": phases.storm(api, operator, args.services, "relabel"),
            "traces of kopf": len(api.call("mentions", "kopf")),
            "after all": operator.settled(),
        }


def _goals(figures: Figures) -> Iterator[Goal]:
    some, many = figures["some"], figures["many"]
    yield Goal("standby", figures["standby"]["settled_mb"], 75, "MB")
    yield Goal("idle leader", figures["idle leader"]["settled_mb"], 80, "MB")
    yield Goal(f"{some['services']} services", some["memory"]["settled_mb"], 115, "MB")
    yield Goal(f"{many['services']} services", many["memory"]["settled_mb"], 140, "MB")
    for size in ("some realistic", "many realistic"):
        found = figures[size]
        yield Goal(
            f"{found['services']} realistic services", found["memory"]["settled_mb"], REALISTIC_MB[size], "MB"
        )
    peak = max(figures[name]["memory"]["peak_mb"] for name in ("many", "many realistic"))
    yield Goal("peak below the container's limit", peak, 256, "MB")
    yield Goal("no-op pass", figures["resync"]["cpu_ms_each"], 0.1, "CPU ms")
    yield Goal("event in a storm", figures["storm"]["cpu_ms_each"], 0.7, "CPU ms")
    yield Goal("event that plans", figures["storm of changes"]["cpu_ms_each"], CHANGE_MS, "CPU ms")
    yield Goal("restart", many["restart"]["cpu_s"], 10, "CPU s")
    yield Goal("restart to steady", many["restart"]["done_after_s"], 10, "s", is_gate=False)
    yield Goal("loop lag p99 in the storm", figures["storm"]["loop_lag"]["p99_ms"], 150, "ms", is_gate=False)
    yield Goal("idle CPU", figures["idle"]["cpu_percent"], 1, "% of a core")
    yield Goal("writes at idle", figures["idle"]["writes"], 0, "writes")
    yield Goal("writes in a resync", figures["resync"]["writes"], 0, "writes")
    yield Goal("writes after a restart", many["restart"]["writes"], 0, "writes")
    yield Goal("objects with traces of kopf", figures["traces of kopf"], 0, "objects")
    yield Goal("left after all was deleted", figures["leak"]["left"], 0, "entries")


if __name__ == "__main__":
    sys.exit(main())
