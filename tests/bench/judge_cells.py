"""The cells of the bench: what the traffic of each is like, and what must come out."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from tests.bench.judge_traffic import HISTORY, QUIET, WINDOWS, Traffic, Window


class Kind(Enum):
    """What the canary of a cell is."""

    EQUAL = "equal"
    """As good as stable or better: it must not be rolled back."""
    HARM = "harm"
    """Worse than stable: it must not be promoted."""
    SPELL = "spell"
    """Equal but for one catastrophic minute: reported, with no goal."""


Weather = Callable[[int], Window]
"""What the window at an index is like; the run starts at 0, its history lies before."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One situation."""

    name: str
    what: str
    kind: Kind
    traffic: Traffic
    at: Weather

    def windows(self) -> list[Window]:
        """Return every window, the history first."""
        return [self.at(t) for t in range(-HISTORY, WINDOWS)]


USUAL = Traffic()
LOW, HIGH = Traffic(rate=0.3), Traffic(rate=50.0)
UNEVEN = Traffic(pod_spread=0.12)
COUPLED = Traffic(is_coupled=True)


def _always(**changes: float) -> Weather:
    """Return a canary that is different throughout; nothing is known of it before the run."""
    different = replace(QUIET, **changes)  # type: ignore[arg-type]
    return lambda t: different if t >= 0 else QUIET


def _while(first: int, last: int, within: Window, otherwise: Window = QUIET) -> Weather:
    """Return *within* in the windows *first* to *last*, counted from 1, and *otherwise* in the others."""
    return lambda t: within if first <= t + 1 <= last else otherwise if t >= 0 else QUIET


def _growing(t: int) -> Window:
    return replace(QUIET, ttft=1.03**t) if t >= 0 else QUIET


def _drifting(canary: Window = QUIET) -> Weather:
    """Return a day's drift: in two hours arrivals grow 2.7 times and latency 2.2 times."""

    def at(t: int) -> Window:
        return replace(
            canary if t >= 0 else QUIET,
            arrivals=0.6 * math.exp((t + HISTORY) / 120),
            slowness=math.exp(-0.3 + 0.8 * (t + HISTORY) / 120),
        )

    return at


def _peaking(canary: Window = QUIET) -> Weather:
    """Return a load peak of five minutes that hits both roles: 3 times the requests, 2.5 times as slow."""
    return _while(6, 10, replace(canary, arrivals=3.0, slowness=2.5), canary)


def _intermittent(t: int) -> Window:
    return replace(QUIET, errors=0.2) if t >= 0 and t % 5 == 2 else QUIET


SLOW_TOKENS = replace(QUIET, tpot=1.5)
EQUAL, HARM, SPELL = Kind.EQUAL, Kind.HARM, Kind.SPELL
CELLS = (
    Cell("N1", "equal, 5 requests/s", EQUAL, USUAL, _always()),
    Cell("N2", "equal, 0.3 requests/s", EQUAL, LOW, _always()),
    Cell("N2b", "equal, 50 requests/s", EQUAL, HIGH, _always()),
    Cell("N3", "equal, both fail 5 % for 5 minutes", EQUAL, USUAL, _while(6, 10, Window(incident=0.05))),
    Cell("N4", "equal, load peak of 5 minutes", EQUAL, USUAL, _peaking()),
    Cell(
        "N5",
        "canary alone has one minute of TTFT x4 and 20 % errors",
        SPELL,
        USUAL,
        _while(7, 7, Window(ttft=4.0, errors=0.2)),
    ),
    Cell("N6", "equal, Prometheus away for 3 minutes", EQUAL, USUAL, _while(6, 8, Window(is_away=True))),
    Cell("N7", "equal, pods differ by 12 %", EQUAL, UNEVEN, _always()),
    Cell("N8", "canary TTFT x0.8", EQUAL, USUAL, _always(ttft=0.8)),
    Cell("N9", "equal, no traffic for 10 minutes", EQUAL, USUAL, _while(3, 12, Window(arrivals=0.0))),
    Cell("N10", "equal, load drifts over the day", EQUAL, USUAL, _drifting()),
    Cell("N11", "equal, latency depends on load", EQUAL, COUPLED, _always()),
    Cell("R1", "errors 0.9 %", HARM, USUAL, _always(errors=0.009)),
    Cell("R2", "errors 3 %", HARM, USUAL, _always(errors=0.03)),
    Cell("R3", "errors 50 %", HARM, USUAL, _always(errors=0.5)),
    Cell("R4", "TTFT x1.3", HARM, USUAL, _always(ttft=1.3)),
    Cell("R4b", "TTFT x1.5", HARM, USUAL, _always(ttft=1.5)),
    Cell("R5", "TTFT x2", HARM, USUAL, _always(ttft=2.0)),
    Cell("R6", "4 % of requests wait about 3 s", HARM, USUAL, _always(tail=0.04)),
    Cell("R7", "TPOT x1.25", HARM, USUAL, _always(tpot=1.25)),
    Cell("R7b", "TPOT x1.5", HARM, USUAL, _always(tpot=1.5)),
    Cell("R11", "TTFT x1.3, 50 requests/s", HARM, HIGH, _always(ttft=1.3)),
    Cell("R12", "TTFT grows 3 % a minute", HARM, USUAL, _growing),
    Cell("R13", "errors 50 %, 0.3 requests/s", HARM, LOW, _always(errors=0.5)),
    Cell("R14", "errors 20 % in one minute of five", HARM, USUAL, _intermittent),
    Cell("R15", "TTFT x0.7 but TPOT x1.5", HARM, USUAL, _always(ttft=0.7, tpot=1.5)),
    Cell("R16", "TPOT x1.5 in a load peak", HARM, USUAL, _peaking(SLOW_TOKENS)),
    Cell("R17", "TPOT x1.5 while load drifts", HARM, USUAL, _drifting(SLOW_TOKENS)),
    Cell("R18", "all x1.5, latency depends on load", HARM, COUPLED, _always(ttft=1.5, tpot=1.5)),
)
BY_NAME = {cell.name: cell for cell in CELLS}
GATE = ("N1", "N2", "N3", "N6", "N7", "N9", "R2", "R3", "R5", "R7b", "R11")
"""Cells of the fast selection.  Source: research/rollouts.md section 1."""


def twin(traffic: Traffic) -> Cell:
    """Return the cell with the same traffic in which nothing happens, to calibrate thresholds on."""
    return Cell("twin", "equal", Kind.EQUAL, traffic, _always())
