"""Hours in which more pods serve at least, by the clock on a wall.

Where clocks are set back a window ends the second time that its end is shown; a time that is skipped is the
instant of the jump.  So a window is one span, and never opens twice in a night.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from modelops.api.scaling import Day, Schedule, ScheduleWindow
from modelops.plan import Reason

WEEK = timedelta(days=7)
_DAYS = tuple(Day)


@dataclass(frozen=True, slots=True)
class Hours:
    """One window of each week."""

    days: frozenset[int]
    """Days on which it starts, 0 is Monday."""
    start: time
    end: time
    """Not after *start*: on the next day."""
    min_replicas: int


@dataclass(frozen=True, slots=True)
class Open:
    """What the calendar wants at an instant."""

    replicas: int
    """0: no window is open."""
    ends: str = ""
    """When the window that wants the most ends, for people; empty: none is open."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Windows in a time zone."""

    zone: ZoneInfo
    hours: tuple[Hours, ...]

    def at(self, now: datetime) -> Open:
        """Return what the windows want that are open at *now*."""
        found = [
            (hours.min_replicas, end)
            for start, end, hours in self._spans(now, timedelta(0))
            if start <= now < end
        ]
        if not found:
            return Open(0)
        replicas, end = max(found)
        return Open(replicas, f"{end.astimezone(self.zone):%H:%M} {self.zone.key}")

    def changes_after(self, now: datetime) -> timedelta:
        """Return how long it is until the next window opens or ends; a week when none does before."""
        ends = (at - now for start, end, _ in self._spans(now, WEEK) for at in (start, end) if at > now)
        return min(ends, default=WEEK)

    def _spans(self, now: datetime, ahead: timedelta) -> Iterator[tuple[datetime, datetime, Hours]]:
        """Yield the windows that may be open from *now* on until *ahead* later, as instants."""
        today = now.astimezone(self.zone).date()
        # A window of yesterday may reach into today, and a zone may be a day off for an hour.
        for number in range(-1, ahead.days + 2):
            day = today + timedelta(days=number)
            for hours in self.hours:
                if day.weekday() not in hours.days:
                    continue
                last = day if hours.end > hours.start else day + timedelta(days=1)
                start, _ = _shown(datetime.combine(day, hours.start, self.zone))
                _, end = _shown(datetime.combine(last, hours.end, self.zone))
                yield start, end, hours


def _shown(wall: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last instant at which the clock shows *wall*; of a skipped time the jump."""
    first, last = wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
    if first <= last:
        return first, last
    # In a gap fold 0 reckons with the offset before it, so lands after it, and fold 1 the other way round.
    zone, before = wall.tzinfo, last.astimezone(wall.tzinfo).utcoffset()
    while first - last > timedelta(seconds=1):
        middle = last + (first - last) / 2
        if middle.astimezone(zone).utcoffset() == before:
            last = middle
        else:
            first = middle
    jump = first.replace(microsecond=0)
    return jump, jump


def calendar(service: str, schedule: Schedule) -> Calendar | Reason:
    """Return the schedule as a calendar, or why it cannot be read."""
    name = schedule.time_zone or "UTC"
    try:
        # Read once for each name: data of the release, as a table in the code would be.
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name; a folder of names
        return Reason(
            "TimeZoneUnknown",
            f"{service}: scaling.schedule.timeZone needs a name of the IANA time zone database, found "
            f"{name}; correct it, such as Europe/Berlin",
        )
    return Calendar(zone, tuple(_hours(schedule.windows)))


def _hours(windows: Iterable[ScheduleWindow]) -> Iterator[Hours]:
    for window in windows:
        days = window.days or _DAYS
        yield Hours(
            frozenset(_DAYS.index(day) for day in days),
            time.fromisoformat(window.start),
            time.fromisoformat(window.end),
            window.min_replicas,
        )
