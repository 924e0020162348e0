"""Start, watch and end processes that outlive the program that started them.

A process is known by its id and its start time, so an id that was given to another process
later is never taken for ours.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_S = 0.05


def start(state: Path, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Start *argv* in a session of its own, log to ``state/logs/name.log``, record it, return its id."""
    for folder in (state / "logs", state / "run"):
        folder.mkdir(parents=True, exist_ok=True)
    with (state / "logs" / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=dict(os.environ) | dict(env or {}),
        )
    record = {"pid": process.pid, "started": started(process.pid)}
    _record(state, name).write_text(json.dumps(record))
    process.returncode = 0  # it is meant to outlive us: no warning when this handle goes
    return process.pid


def pid_of(state: Path, name: str) -> int | None:
    """Return the id of the recorded process if it still runs, else None."""
    try:
        record = json.loads(_record(state, name).read_text())
    except FileNotFoundError:
        return None
    pid = int(record["pid"])
    return pid if started(pid) is not None and started(pid) == record["started"] else None


def stop(state: Path, name: str, *, how: signal.Signals = signal.SIGTERM, grace_s: float = 20) -> None:
    """End the recorded process and wait until it is gone; after *grace_s* seconds it is killed."""
    pid = pid_of(state, name)
    if pid is not None:
        _send(pid, how)
        if not _gone(state, name, grace_s):
            _send(pid, signal.SIGKILL)
            if not _gone(state, name, grace_s):
                raise TimeoutError(
                    f"{name}: process {pid} must end, still there after SIGKILL; look at /proc/{pid}"
                )
    _record(state, name).unlink(missing_ok=True)


def recorded(state: Path) -> tuple[str, ...]:
    """Return the names of all recorded processes, running or not."""
    return tuple(sorted(path.stem for path in (state / "run").glob("*.json")))


def children(pid: int) -> tuple[int, ...]:
    """Return the ids of the direct children of *pid*; none if it is gone."""
    try:
        return tuple(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return ()


def started(pid: int) -> int | None:
    """Return the start time of *pid* in clock ticks since boot; None if it is gone or a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return None if fields[0] in "ZX" else int(fields[19])


def _record(state: Path, name: str) -> Path:
    return state / "run" / f"{name}.json"


def _send(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def _gone(state: Path, name: str, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while pid_of(state, name) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
