"""Bring up many services on a real API server, with the real operator and pretended nodes, and count.

Real: etcd, API server, controller manager, scheduler, the chart with its rights and its approval gate, the
operator program, and every approval: a person's, stamped by the server and countersigned by the operator.
Pretended by kwok: kubelets (pods run, resolve Jobs end with a model's facts) and the gateway (routes are
accepted).  Pretended by this program: the delivery agents' reports.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from modelops.settings import Settings
from tests.bench import scale_objects as objects
from tests.bench import scale_platform as platform
from tests.bench.scale_actors import (
    Agents,
    Seen,
    Unfinished,
    beside,
    connected,
    create,
    holds,
    reached,
    watching,
)
from tests.bench.scale_figures import Goal, Reading, told

STUCK_SHOWN = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Print one JSON object and a summary line; 1 when a service is not Ready or a goal is missed."""
    args = _arguments(argv)
    # The default would end this program at once and leave a control plane behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    writes = {"perSecond": args.writes_per_second, "burst": args.burst}
    settings = {"workers": args.workers, "writes": writes}
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr), platform.running(args.services, settings) as found:
        result = asyncio.run(_measure(found, args.services))
        pid = found.operator.process.pid
        result["operator_memory_mib"] = platform.memory_mib(pid)
        if result["failed"]:
            print(found.operator.last_words(), file=sys.stderr)
    goals = _goals(result) if not result["failed"] else []
    result = {
        "services": args.services,
        "nodes": len(objects.nodes(args.services)),
        "settings": settings,
        "approvals": "real: one person's for each version, stamped and countersigned",
        **result,
        "goals": {
            goal.name: {"found": goal.found, "limit": goal.limit, "met": goal.is_met} for goal in goals
        },
        "bench_s": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result, indent=1))
    print(_summary(result, goals))
    return 0 if goals and all(goal.is_met for goal in goals) else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    known = Settings.model_validate({"prometheus": {"url": "http://x"}, "images": {"operator": "x"}})
    parser = argparse.ArgumentParser(prog="bench_scale", description=__doc__)
    parser.add_argument("--services", type=int, default=1000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=known.workers, help="default: the operator's, %(default)s"
    )
    rate = known.writes.per_second
    parser.add_argument(
        "--writes-per-second",
        type=float,
        default=rate,
        metavar="N",
        help="default: the operator's, %(default)s",
    )
    parser.add_argument(
        "--burst", type=int, default=known.writes.burst, help="default: the operator's, %(default)s"
    )
    return parser.parse_args(argv)


async def _measure(found: platform.Platform, count: int) -> dict[str, Any]:
    """Register and approve *count* versions, then serve them; return what each half cost."""
    where = objects.places(count)
    result: dict[str, Any] = {"failed": None}

    def reading() -> Reading:
        return Reading.of(found.operator.metrics(), found.server_metrics(), found.cpu_seconds())

    async with (
        connected(found.admin) as admin,
        connected(found.approver) as approver,
        watching(admin) as seen,
    ):
        agents = Agents(admin, seen)
        async with beside(agents.run):
            try:
                start = reading()
                result["versions"] = await _register(found, seen, admin, approver, where)
                registered = reading()
                result["versions"] |= told(start, registered, count)
                result["serving"] = await _serve(found, seen, admin, where)
                result["serving"] |= told(registered, reading(), count)
            except (Unfinished, RuntimeError) as error:
                result["failed"] = str(error)
                _tell_stuck(seen)
        result["agents_reports"] = agents.reports
    return result


async def _register(
    found: platform.Platform, seen: Seen, admin: Any, approver: Any, where: list[objects.Place]
) -> dict[str, float]:
    """Make models and versions, wait until they are pinned, and have a person approve each."""
    count, check = len(where), found.operator.must_run
    began = time.monotonic()
    await create(admin, [*map(objects.model, where), *map(objects.version, where)])
    made = time.monotonic() - began

    def pinned() -> int:
        return seen.count("ModelVersion", lambda obj: holds(obj, "Resolved"))

    await reached("versions pinned", pinned, count, check)
    resolved = time.monotonic() - began
    await create(approver, [objects.approval(obj) for obj in seen.objects["ModelVersion"].values()])

    def approved() -> int:
        return seen.count("ModelVersion", lambda obj: holds(obj, "Approved"))

    await reached("versions approved", approved, count, check)
    return {
        "seconds_to_created": round(made, 1),
        "seconds_to_pinned": round(resolved, 1),
        "seconds_to_approved": round(time.monotonic() - began, 1),
    }


async def _serve(
    found: platform.Platform, seen: Seen, admin: Any, where: list[objects.Place]
) -> dict[str, float]:
    """Make the services and wait for all of their children, and until all are Ready."""
    count, check = len(where), found.operator.must_run
    began = time.monotonic()
    await create(admin, map(objects.service, where))
    made = time.monotonic() - began
    await reached("Deployments", lambda: seen.count("Deployment"), count, check)
    deployed = time.monotonic() - began
    await reached("all children", seen.children, count, check)
    children = time.monotonic() - began

    def ready() -> int:
        return seen.count("InferenceService", lambda obj: holds(obj, "Ready"))

    await reached("services Ready", ready, count, check)
    return {
        "seconds_to_created": round(made, 1),
        "seconds_to_deployments": round(deployed, 1),
        "seconds_to_children": round(children, 1),
        "seconds_to_ready": round(time.monotonic() - began, 1),
    }


def _tell_stuck(seen: Seen) -> None:
    """Print what the first few that are not done say about it."""
    for kind in ("ModelVersion", "InferenceService"):
        stuck = [obj for obj in seen.objects[kind].values() if not holds(obj, "Ready")]
        for obj in stuck[:STUCK_SHOWN]:
            said = json.dumps((obj.get("status") or {}).get("conditions"))
            print(f"{kind} {obj['metadata']['namespace']}/{obj['metadata']['name']}: {said}", file=sys.stderr)


def _goals(result: dict[str, Any]) -> list[Goal]:
    """Return counts and CPU beside their limits: never wall time, which is the machine's."""
    return [
        Goal("writes per version", result["versions"]["writes_each"], 100.0),
        Goal("writes per service", result["serving"]["writes_each"], 100.0),
        Goal("CPU ms per version", result["versions"]["operator_cpu_ms_each"], 1000.0),
        Goal("CPU ms per service", result["serving"]["operator_cpu_ms_each"], 1000.0),
    ]


def _summary(result: dict[str, Any], goals: Sequence[Goal]) -> str:
    if result["failed"]:
        return f"FAILED: {result['failed']}"
    serving, settings = result["serving"], result["settings"]
    parts = (
        f"{result['services']} services on {result['nodes']} nodes",
        f"{settings['workers']} workers, {settings['writes']['perSecond']:g} writes/s",
        f"all children after {serving['seconds_to_children']} s",
        f"all Ready after {serving['seconds_to_ready']} s",
        f"{serving['writes']} writes",
        f"operator {serving['operator_cpu_s']} CPU s",
        f"server {serving['server_s_for_operator']} s",
        *map(str, goals),
    )
    return f"{'ok' if all(goal.is_met for goal in goals) else 'MISSED'}: " + ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
