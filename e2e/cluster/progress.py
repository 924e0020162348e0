"""Tell what runs and how long it takes, and run programs so that a failure shows their last words."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BEAT_SECONDS = 30.0
LAST_WORDS = 25
CACHED = "cached"
"""Outcome of a stage that found its result in the cache."""

_BEGAN = time.monotonic()
_finished: list[tuple[str, str, float]] = []
_hushed = threading.Event()


class CommandFailed(Exception):
    """A program ended with an error; the text holds its last lines."""


@dataclass(slots=True)
class Stage:
    """A named piece of work; the work sets *outcome*, which is printed at its end."""

    name: str
    outcome: str = "done"
    doing: str = ""


def hush() -> None:
    """Print from now on only what still runs after half a minute: the caller tells the stages itself."""
    _hushed.set()


def say(text: str) -> None:
    """Print one line with the seconds since this program began."""
    if not _hushed.is_set():
        print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", flush=True)


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Print how *name* ended and after how long, and every half minute that it still runs.

    What was only looked up is not worth a line.
    """
    step, began, over = Stage(name), time.monotonic(), threading.Event()
    beat = threading.Thread(target=_beat, args=(step, began, over), daemon=True)
    beat.start()
    try:
        yield step
    except BaseException:
        step.outcome = "failed"
        raise
    finally:
        over.set()
        took = time.monotonic() - began
        _finished.append((name, step.outcome, took))
        if step.outcome != CACHED:
            say(f"{name} ... {step.outcome}" + (f" in {took:.1f} s" if took >= 0.1 else ""))


def _beat(step: Stage, began: float, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        doing = f": {step.doing}" if step.doing else ""
        told = f"{step.name} ... working for {time.monotonic() - began:.0f} s{doing}"
        if _hushed.is_set():
            print(f"\n    {told} ...", end="", flush=True)  # inside a line that the caller has begun
        else:
            say(told)


def finished() -> tuple[tuple[str, str, float], ...]:
    """Return name, outcome and seconds of every stage that ended, in the order of their ends."""
    return tuple(_finished)


def run(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    step: Stage | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return what it wrote to standard output.

    With *log* both outputs go to that file instead, and the returned text is empty.  *step* is
    told each line, so that its half-minute message shows where the program is.  *env* is added
    to the environment.

    Raises:
        CommandFailed: it ended with an error, or there is no such program.
    """
    command = [str(word) for word in argv]
    try:
        with subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if log is None else subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as child:
            try:
                out, words = child.communicate() if log is None else ("", _follow(child, log, step))
            except BaseException:
                child.kill()
                raise
    except FileNotFoundError as error:
        raise CommandFailed(f"{command[0]}: needs this program, found none; install it") from error
    if child.returncode:
        last = "\n".join((words or out).splitlines()[-LAST_WORDS:])
        where = f"; the whole log is {log}" if log else ""
        raise CommandFailed(f"{' '.join(command)[:200]}: exit code {child.returncode}{where}\n{last}")
    return out


def _follow(child: subprocess.Popen[str], log: Path, step: Stage | None) -> str:
    """Copy the program's lines to *log* and return its last ones."""
    assert child.stdout is not None
    log.parent.mkdir(parents=True, exist_ok=True)
    last: list[str] = []
    with log.open("w") as file:
        for line in child.stdout:
            file.write(line)
            file.flush()
            last = [*last[-LAST_WORDS:], line]
            if step is not None:
                step.doing = line.strip()[:100]
    return "".join(last)
