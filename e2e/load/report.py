"""What became of the requests.  Instants are seconds since the load began."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median

MOST_FAULTS = 200
"""So many faults are kept with their details; all are counted."""

_BODY_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """One request that went wrong.  ``status`` 0: no answer came."""

    what: str
    began: float
    after: float
    status: int
    error: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """One stream from its first byte to its end."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(slots=True)
class Report:
    """The account.  ``ramped_at`` is when all streams were open; ``None``: that never came about.

    ``short_*`` are whole answers at the fixed rate, ``stream_*`` the long ones.  ``lowest_*`` are over
    the time from ``ramped_at`` to the stop: streams that lasted ``long_seconds`` or more and were open at
    once, and successful short requests by the second in which they were sent.  ``held_back`` counts
    short requests not sent because too many were unanswered.
    """

    url: str
    model: str
    long_seconds: float
    ramped_at: float | None = None
    stopped_at: float = 0.0
    short_ok: int = 0
    short_failed: int = 0
    held_back: int = 0
    stream_ok: int = 0
    stream_failed: int = 0
    stream_cut: int = 0
    stream_unfinished: int = 0
    spans: list[Span] = field(default_factory=list)
    ok_by_second: Counter[int] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    answered_by: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def note(self, fault: Fault) -> None:
        """Keep the details of a fault, the body cut short."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(
                replace(
                    fault,
                    began=round(fault.began, 3),
                    after=round(fault.after, 3),
                    body=fault.body[:_BODY_LETTERS],
                )
            )

    @property
    def lost(self) -> int:
        """Requests failed and streams cut: the number that must be 0."""
        return self.short_failed + self.stream_failed + self.stream_cut

    @property
    def lowest_open_streams(self) -> int | None:
        """The lowest number of long streams open at once."""
        if self.ramped_at is None:
            return None
        long = [span for span in self.spans if span.seconds >= self.long_seconds]
        return lowest_open(long, self.ramped_at, self.stopped_at)

    @property
    def lowest_rate(self) -> int | None:
        """The fewest successful short requests sent within one whole second."""
        if self.ramped_at is None:
            return None
        seconds = range(int(self.ramped_at) + 1, int(self.stopped_at))
        return min((self.ok_by_second[second] for second in seconds), default=None)

    def to_json(self) -> str:
        """Return the account as one JSON object."""
        seconds = sorted(span.seconds for span in self.spans)
        return json.dumps(
            {
                "url": self.url,
                "model": self.model,
                "seconds": round(self.stopped_at, 3),
                "ramped_at": self.ramped_at,
                "lost": self.lost,
                "short": {"ok": self.short_ok, "failed": self.short_failed, "held_back": self.held_back},
                "streams": {
                    "ok": self.stream_ok,
                    "failed": self.stream_failed,
                    "cut": self.stream_cut,
                    "unfinished": self.stream_unfinished,
                    "shorter_than_wanted": sum(each < self.long_seconds for each in seconds),
                },
                "stream_seconds": {
                    "shortest": round(seconds[0], 3), "median": round(median(seconds), 3),
                    "longest": round(seconds[-1], 3),
                } if seconds else None,
                "lowest_open_streams": self.lowest_open_streams,
                "lowest_rate": self.lowest_rate,
                "ok_by_second": [self.ok_by_second[second] for second in range(int(self.stopped_at))],
                "statuses": dict(self.statuses),
                "answered_by": dict(self.answered_by),
                "faults": [asdict(fault) for fault in self.faults],
            },
            indent=1,
        )  # fmt: skip


def lowest_open(spans: Iterable[Span], start: float, end: float) -> int:
    """Return the lowest number of *spans* open at once between *start* and *end*.

    A span is open from its beginning up to, not including, its end.
    """
    steps: list[tuple[float, int]] = []
    count = 0
    for span in spans:
        if span.began <= start < span.ended:
            count += 1
        elif start < span.began < end:
            steps.append((span.began, 1))
        if start < span.ended < end and span.began < end:
            steps.append((span.ended, -1))
    return _lowest(count, sorted(steps, key=lambda step: (step[0], -step[1])))


def _lowest(count: int, steps: Sequence[tuple[float, int]]) -> int:
    lowest = count
    for _, step in steps:
        count += step
        lowest = min(lowest, count)
    return lowest
