"""``python -m tests.bench.loop_program``: ``modelops operator`` as it is, with a line in for measuring.

Commands come by standard input and are answered by one line of JSON each; nothing else of the program is
touched.  While nothing is asked nothing runs, so that an idle operator is measured idle.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelops.controllers import main
from modelops.controllers.machine import Machine

TICK_SECONDS = 0.01
_OPERATORS: list[main.Operator] = []


class _Known(main.Operator):
    """The operator, and where to find it."""

    async def run(self) -> int:
        _OPERATORS.append(self)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _obey)
        return await super().run()


def _obey() -> None:
    line = sys.stdin.readline()
    if not line:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        return
    print(json.dumps(COMMANDS[line.strip()]()), flush=True)


def _machine() -> Machine | None:
    return _OPERATORS[0]._machine


def state() -> dict[str, Any]:
    """Return how far the loop is, and the CPU seconds of the process until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    machine, elector = _machine(), _OPERATORS[0]._elector
    told = {
        "cpu_s": used.ru_utime + used.ru_stime,
        "at": time.monotonic(),
        "leads": bool(elector and elector.leading),
        "synced": bool(machine and machine.synced.is_set()),
    }
    if machine is None:
        return told
    queue = machine.queue
    rows = {kind: len(table.rows) for kind, table in machine.store._tables.items()}
    return told | {"idle": queue.is_idle, "depth": queue.depth, "rows": rows}


def memory() -> dict[str, float]:
    """Return resident MB after a collection: before and after the allocator gave back what is free."""
    gc.collect()
    before = _smaps()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    after = _smaps()
    return {
        "rss_mb": before["Rss"],
        "settled_mb": after["Rss"],
        "anonymous_mb": after["Anonymous"],
        "peak_mb": _of(Path("/proc/self/status").read_text(), "VmHWM"),
    }


def _smaps() -> dict[str, float]:
    text = Path("/proc/self/smaps_rollup").read_text()
    return {name: _of(text, name) for name in ("Rss", "Anonymous")}


def _of(text: str, name: str) -> float:
    """Return the MB of a line of /proc, which counts 1024 bytes."""
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return round(int(line.split()[1]) / 1024, 1)


def resync() -> int:
    """Let every key that waits for its time have it now, as if the resync of all had come at once."""
    machine = _machine()
    assert machine is not None
    queue = machine.queue
    waiting = list(queue._wake_ups)
    for key in waiting:
        queue.add_after(key, 1e-6)
    return len(waiting)


def sizes() -> dict[str, Any]:
    """Return the size of every map that grows with the objects."""
    machine = _machine()
    assert machine is not None
    rows, entries = machine.store.sizes
    return {
        "rows": rows,
        "index entries": entries,
        "queue": sum(machine.queue.sizes),
        "observations": len(machine.observations),
        "workers": sum(machine.workers.sizes),
        "kinds": {type(root).__name__: sum(getattr(root, "sizes", ())) for root in machine.kinds.roots},
    }


class _Lag:
    """How late the loop was, each 10 ms, while it is asked for."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._is_on = False

    def begin(self) -> None:
        self._late, self._is_on = [], True
        self._next()

    def end(self) -> dict[str, float]:
        self._is_on = False
        late = sorted(self._late)
        return {"p99_ms": round(1000 * late[int(len(late) * 0.99)], 1), "max_ms": round(1000 * late[-1], 1)}

    def _next(self) -> None:
        # By timers: kopf cancels tasks that are younger than itself.
        loop = asyncio.get_running_loop()
        due = loop.time() + TICK_SECONDS
        loop.call_at(due, self._tick, due)

    def _tick(self, due: float) -> None:
        self._late.append(asyncio.get_running_loop().time() - due)
        if self._is_on:
            self._next()


_lag = _Lag()
COMMANDS: dict[str, Callable[[], Any]] = {
    "state": state,
    "memory": memory,
    "resync": resync,
    "sizes": sizes,
    "lag begin": _lag.begin,
    "lag end": _lag.end,
}


if __name__ == "__main__":
    main.Operator = _Known  # type: ignore[misc]
    parser = argparse.ArgumentParser()
    main.add(parser.add_subparsers())
    sys.exit(main.run(parser.parse_args(["operator", *sys.argv[1:]])))
