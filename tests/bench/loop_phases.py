"""What is done to an operator, phase by phase, and the figures of each."""

import time
from pathlib import Path
from typing import Any

from tests.bench.loop_run import Running, operating, say, taken_lease
from tests.fakeapi.running import InProcess

Figures = dict[str, Any]

STEADY_SECONDS = 1.0
"""The queue is empty for so long: what was written has come back."""
VOLUMES_SECONDS = 13.0
"""Volumes that nobody uses go when they were found so twice, five seconds apart."""
TOUCHES = 2
CHILDREN = (
    "Pod",
    "HTTPRoute",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "Deployment",
)


def standby(api: InProcess, folder: Path) -> Figures:
    """Measure a replica that waits for the Lease of another."""
    say("standby")
    api.call("reset")
    api.call("seed", taken_lease())
    with operating(api, folder) as operator:
        time.sleep(4)
        memory = operator.settled()
        assert not operator.ask("state")["leads"]
        return memory


def filled(api: InProcess, services: int, *, is_realistic: bool = False, what: str = "settled") -> int:
    """Empty the server and fill it; return how many objects."""
    say(f"filling the server for {services} {'realistic ' * is_realistic}services")
    api.call("reset")
    around: int = api.call("fill", "around", services, is_realistic=is_realistic)
    return around + int(api.call("fill", what, services, is_realistic=is_realistic))


def begun(api: InProcess, operator: Running) -> Figures:
    """Wait until a new process has given every key a pass, and count what that took."""
    api.call("forget_counts")
    operator.until("leads")
    led = time.monotonic()
    synced = operator.until("synced")
    done = operator.until("idle", steady_seconds=STEADY_SECONDS)
    state = operator.ask("state")
    return {
        "cpu_s": round(state["cpu_s"], 2),
        "synced_after_s": round(synced - led, 1),
        "done_after_s": round(done - led, 1),
        "rows": state["rows"],
        **_writes(api),
    }


def _writes(api: InProcess) -> Figures:
    counts = api.call("counts")
    return {
        "writes": sum(counts["landed"].values()),
        "by_verb": counts["landed"],
        "requests": counts["requests"],
    }


def resync(api: InProcess, operator: Running) -> Figures:
    """Give every key the pass of its resync at once."""
    say("resync")
    api.call("forget_counts")
    before = operator.cpu()
    keys = operator.ask("resync")
    time.sleep(0.5)
    operator.until("idle", steady_seconds=STEADY_SECONDS)
    spent = operator.cpu() - before
    return {
        "keys": keys,
        "cpu_s": round(spent, 3),
        "cpu_ms_each": round(1000 * spent / keys, 4),
        **_writes(api),
    }


def storm(api: InProcess, operator: Running, services: int, how: str = "touch") -> Figures:
    """Touch every service twice, and wait until all is seen and the queue is empty.

    A touch changes nothing that a plan reads; with *how* ``relabel`` every event asks for a pass.
    """
    say(f"storm ({how})")
    api.call("forget_counts")
    before = operator.cpu()
    operator.ask("lag begin")
    for _ in range(TOUCHES):
        api.call(how, "InferenceService")
    time.sleep(0.5)
    operator.until("idle", steady_seconds=STEADY_SECONDS)
    lag = operator.ask("lag end")
    spent = operator.cpu() - before
    events = TOUCHES * services
    return {
        "events": events,
        "cpu_s": round(spent, 2),
        "cpu_ms_each": round(1000 * spent / events, 3),
        "loop_lag": lag,
        **_writes(api),
    }


def idle(api: InProcess, operator: Running, seconds: float) -> Figures:
    """Leave the operator alone."""
    say(f"idle for {seconds:.0f} s")
    time.sleep(2)
    api.call("forget_counts")
    before, start = operator.cpu(), time.monotonic()
    time.sleep(seconds)
    spent, lasted = operator.cpu() - before, time.monotonic() - start
    return {"seconds": round(lasted), "cpu_percent": round(100 * spent / lasted, 2), **_writes(api)}


def leak(api: InProcess, folder: Path, services: int) -> Figures:
    """Create and delete services with all that is of them, and say what is left."""
    say(f"creating and deleting {services} services")
    api.call("reset")
    api.call("fill", "around", services)
    with operating(api, folder) as operator:
        operator.until("idle", steady_seconds=VOLUMES_SECONDS)
        before, at_first = operator.ask("sizes"), operator.settled()
        objects = api.call("fill", "settled", services)
        operator.until("idle", steady_seconds=STEADY_SECONDS)
        full = operator.ask("sizes")
        gone = api.call("remove_all", "InferenceService", *CHILDREN)
        operator.until("idle", steady_seconds=VOLUMES_SECONDS)
        after, at_last = operator.ask("sizes"), operator.settled()
    return {
        "objects": objects,
        "deleted": gone,
        "sizes": {"before": before, "full": full, "after": after},
        "left": _left(after, before),
        "settled_mb": {"before": at_first["settled_mb"], "after": at_last["settled_mb"]},
    }


def _left(after: Figures, before: Figures) -> int:
    """Return by how many entries the maps have grown."""
    return sum(
        _left(value, before[name]) if isinstance(value, dict) else max(0, value - before[name])
        for name, value in after.items()
    )
