"""When the windows of a schedule are open, also in the nights in which clocks change."""

from datetime import UTC, datetime, timedelta

import pytest

from modelops.api.scaling import Schedule
from modelops.plan import Reason
from modelops.scaling.calendar import WEEK, Calendar, calendar

OFFICE = {"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "start": "08:00", "end": "18:00", "minReplicas": 4}
NIGHT = {"days": ["Fri"], "start": "22:00", "end": "06:00", "minReplicas": 3}
ALWAYS = {"start": "00:00", "end": "00:00", "minReplicas": 2}


def of(*windows: dict, zone: str | None = "Europe/Berlin") -> Calendar:
    found = calendar("chat", Schedule.model_validate({"timeZone": zone, "windows": windows}))
    assert isinstance(found, Calendar)
    return found


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


@pytest.mark.parametrize(
    ("window", "now", "replicas"),
    [
        pytest.param(OFFICE, "2026-01-05T06:59:59", 0, id="one second before eight in Berlin"),
        pytest.param(OFFICE, "2026-01-05T07:00:00", 4, id="eight in winter is seven in UTC"),
        pytest.param(OFFICE, "2026-07-06T06:00:00", 4, id="eight in summer is six in UTC"),
        pytest.param(OFFICE, "2026-01-05T16:59:59", 4, id="one second before the end"),
        pytest.param(OFFICE, "2026-01-05T17:00:00", 0, id="the end is not in it"),
        pytest.param(OFFICE, "2026-01-04T09:00:00", 0, id="not on a Sunday"),
        pytest.param(NIGHT, "2026-01-09T21:00:00", 3, id="the night begins on Friday"),
        pytest.param(NIGHT, "2026-01-10T04:59:59", 3, id="and goes on into Saturday"),
        pytest.param(NIGHT, "2026-01-10T05:00:00", 0, id="until six"),
        pytest.param(NIGHT, "2026-01-09T04:00:00", 0, id="Friday morning is not Friday night"),
        pytest.param(ALWAYS, "2026-01-04T23:00:00", 2, id="from midnight to midnight is the whole day"),
    ],
)
def test_when_a_window_is_open(window, now, replicas):
    assert of(window).at(utc(now)).replicas == replicas


def test_of_windows_that_overlap_the_largest_counts_and_says_its_end():
    both = of(OFFICE, {**OFFICE, "start": "09:00", "end": "12:00", "minReplicas": 9})
    found = both.at(utc("2026-01-05T09:00:00"))
    assert (found.replicas, found.ends) == (9, "12:00 Europe/Berlin")
    assert both.at(utc("2026-01-05T12:00:00")).replicas == 4


def open_spans(found: Calendar, start: datetime, hours: int) -> list[tuple[datetime, datetime]]:
    """Return when it is open, looked at every minute."""
    spans, begun = [], None
    for minute in range(hours * 60 + 1):
        now = start + timedelta(minutes=minute)
        is_open = found.at(now).replicas > 0
        if is_open and begun is None:
            begun = now
        if not is_open and begun is not None:
            spans.append((begun, now))
            begun = None
    return spans


@pytest.mark.parametrize(
    ("start", "end", "day", "opens", "closes"),
    [
        pytest.param("01:00", "05:00", "2026-03-29", "00:00", "03:00", id="an hour shorter in spring"),
        pytest.param("01:00", "05:00", "2026-10-25", "23:00", "04:00", id="an hour longer in autumn"),
        pytest.param("02:30", "04:00", "2026-03-29", "01:00", "02:00", id="a start that is skipped"),
        pytest.param("01:00", "02:30", "2026-03-29", "00:00", "01:00", id="an end that is skipped"),
        pytest.param("02:30", "04:00", "2026-10-25", "00:30", "03:00", id="a start that comes twice"),
        pytest.param("01:00", "02:30", "2026-10-25", "23:00", "01:30", id="an end that comes twice"),
    ],
)
def test_a_window_opens_once_in_the_night_in_which_clocks_change(start, end, day, opens, closes):
    found = of({"start": start, "end": end, "minReplicas": 2})
    midnight = utc(f"{day}T00:00:00")
    ((begun, ended),) = open_spans(found, midnight - timedelta(hours=3), 12)
    assert (f"{begun:%H:%M}", f"{ended:%H:%M}") == (opens, closes)


@pytest.mark.parametrize("day", ["2026-01-05", "2026-03-28", "2026-10-24"])
def test_the_next_change_is_told_to_the_second(day):
    found = of(OFFICE, NIGHT, {"start": "02:30", "end": "03:15", "minReplicas": 7})
    now, end = utc(f"{day}T12:00:00"), utc(f"{day}T12:00:00") + timedelta(days=2)
    while now < end:
        after = found.changes_after(now)
        assert found.at(now) == found.at(now + after - timedelta(seconds=1))
        assert found.at(now).replicas != found.at(now + after).replicas or after > timedelta(hours=1)
        now += after


def test_a_window_that_is_skipped_as_a_whole_does_not_open():
    skipped = of({"start": "02:10", "end": "02:50", "minReplicas": 2})
    assert open_spans(skipped, utc("2026-03-29T00:00:00"), 6) == []


def test_a_day_a_week_away_is_found():
    monday = of({"days": ["Mon"], "start": "08:00", "end": "09:00", "minReplicas": 2})
    assert monday.changes_after(utc("2026-01-05T08:00:01")) == WEEK - timedelta(hours=1, seconds=1)


def test_without_a_zone_the_clock_is_utc():
    found = of({"start": "08:00", "end": "09:00", "minReplicas": 2}, zone=None)
    assert found.at(datetime(2026, 7, 6, 8, 30, tzinfo=UTC)).replicas == 2


@pytest.mark.parametrize("zone", ["Europe/Berlim", "Europe", "nowhere"])
def test_an_unknown_zone_is_refused_with_its_name(zone):
    schedule = Schedule.model_validate({"timeZone": zone, "windows": [ALWAYS]})
    found = calendar("chat", schedule)
    assert isinstance(found, Reason)
    assert found.code == "TimeZoneUnknown"
    assert f"found {zone};" in found.message
